"""What is fed and what is presumed, decided from lists and members alone."""

from __future__ import annotations

from dataclasses import replace

from app.alerts import Alert, storm_id
from app.settings import load
from lua_scripts.presence import Absences, FiringMember, Held, HeldOf
from lua_scripts.records import StormRecord
from tasks.alertmanager.decide import (
    MAX_ABSENT,
    Wanted,
    absent,
    concern,
    presume,
    presumed_resolve,
    silenced_members,
    to_feed,
    to_refresh,
)
from tasks.alertmanager.listing import ListedAlert, Listing

NOW = 1_763_755_200_000
SETTINGS = load({})
STORM = storm_id((("cluster", ""), ("namespace", "shop"), ("alertname", "Down")))


def listed(name: str, *, alertname: str = "Down", **changes: object) -> ListedAlert:
    labels = {"alertname": alertname, "namespace": "shop", "pod": name}
    alert = Alert(name, True, NOW - 300_000, 0, labels, {}, "")
    made = ListedAlert(alert, active=True, silenced=False, named=True, age_ms=300_000)
    return replace(made, **changes)  # type: ignore[arg-type]  # the names of its fields


def wanted(*alerts: ListedAlert, receiver: str = "stormfold") -> Wanted:
    listing = Listing(True, {one.alert.fingerprint: one for one in alerts}, frozenset())
    return concern(listing, SETTINGS.group_by, SETTINGS.ignore, receiver)


def fed(found: Wanted, held: dict[str, HeldOf] | None = None, *, start_grace_ms: int = 120_000) -> list[str]:
    alerts = to_feed(found, held or {}, NOW, start_grace_ms=start_grace_ms, resolve_grace_ms=120_000)
    return [alert.fingerprint for alert in alerts]


def test_what_fires_and_nobody_knows_is_fed() -> None:
    assert fed(wanted(listed("a"), listed("b"))) == ["a", "b"]


def test_what_is_held_ignored_suppressed_or_somebody_elses_is_not() -> None:
    # Given alerts for each reason not to
    found = wanted(
        listed("known"),
        listed("watchdog", alertname="Watchdog"),
        listed("inhibited", active=False),
        listed("silenced", active=False, silenced=True),
        listed("another's", named=False),
        listed("young", age_ms=119_999),
    )
    # Then only what may have to be fed or is silenced is asked about, and nothing is fed
    assert found.fingerprints() == {STORM: ["known", "young", "silenced"]}
    assert fed(found, {STORM: HeldOf(True, {"known": Held(True, 0)})}) == []


def test_without_a_receivers_name_open_storms_alone_are_fed() -> None:
    found = wanted(listed("a", named=False), listed("b", named=False, alertname="Other"), receiver="")
    assert fed(found) == []
    assert fed(found, {STORM: HeldOf(True, {})}) == ["a"]


def test_who_asked_gets_what_has_only_just_begun() -> None:
    assert fed(wanted(listed("young", age_ms=0)), start_grace_ms=0) == ["young"]


def test_a_resolve_stands_for_the_grace() -> None:
    # Given members whose resolve was received two minutes ago, and one ms later
    held = {STORM: HeldOf(True, {"old": Held(False, NOW - 120_000), "fresh": Held(False, NOW - 119_999)})}
    # Then a peer that lists them as firing is believed about the first, also where somebody asked
    assert fed(wanted(listed("old"), listed("fresh")), held, start_grace_ms=0) == ["old"]


def test_silenced_are_firing_members_only() -> None:
    found = wanted(*(listed(name, active=False, silenced=True) for name in ("fires", "ended", "stranger")))
    held = {STORM: HeldOf(True, {"fires": Held(True, 0), "ended": Held(False, 1)})}
    assert silenced_members(found, held) == {STORM: frozenset({"fires"})}
    assert silenced_members(found, {}) == {}


def test_what_is_listed_and_held_is_told_once_more_before_it_goes_stale() -> None:
    # Given a storm key with members that fire, silenced or not, one that ended and one nobody knows
    found = wanted(
        listed("active"), listed("silent", active=False, silenced=True), listed("ended"), listed("stranger"),
    )  # fmt: skip
    held = {
        STORM: HeldOf(True, {"active": Held(True, 0), "silent": Held(True, 0), "ended": Held(False, 1)}),
    }  # fmt: skip
    # Then each of its Singles is kept alive, or one alert where it is a storm, and nothing where it is not open
    for phase, names in (("GATHERING", ["active", "silent"]), ("ACTIVE", ["active"])):
        storm = StormRecord(
            storm_id=STORM, name="", namespace="shop", key={}, phase=phase, storm_type="", epoch_ms=1, alert_count=2,
            total_alerts=3, first_seen_ms=1, last_seen_ms=1, flaps=0, fence=1,
        )  # type: ignore[arg-type]  # fmt: skip
        assert [alert.fingerprint for alert in to_refresh(found, held, [storm])] == names
    assert to_refresh(found, held, []) == []


def member(name: str, starts: int = 1000, last_end: int = 0) -> FiringMember:
    return FiringMember(name, starts, last_end)


def test_absent_members_come_once() -> None:
    page = [member("a"), member("b"), member("a")]
    assert list(absent(page, frozenset({"b"}))) == [member("a")]


def test_the_third_poll_in_a_row_presumes() -> None:
    # Given a member that three polls in a row miss, and one that the second saw
    first, noted = presume([member("gone"), member("seen")], Absences(), 7)
    second, noted = presume([member("gone")], noted, 8)
    third, noted = presume([member("gone"), member("seen")], noted, 9)
    # Then the first is presumed at the third, and the other begins anew
    assert (first, second, third) == ([], [], [member("gone")])
    assert noted == Absences(9, {"seen": 1})


def test_a_gap_in_the_numbers_begins_anew() -> None:
    # Given two misses up to poll 8, and an incomplete poll since
    presumed, noted = presume([member("gone")], Absences(8, {"gone": 2}), 10)
    # Then nothing is presumed, and this is the first
    assert presumed == []
    assert noted == Absences(10, {"gone": 1})


def test_what_is_counted_at_a_time_is_bounded_and_the_rest_has_its_turn() -> None:
    # Given more members than are counted at a time, none of which is listed any more
    left = [member(f"m{at}") for at in range(MAX_ABSENT * 2)]
    noted, presumed_by_poll = Absences(), []
    for poll in range(1, 8):
        presumed, noted = presume(left, noted, poll)
        assert len(noted.counts) <= MAX_ABSENT
        gone = {one.fingerprint for one in presumed}
        left = [one for one in left if one.fingerprint not in gone]
        presumed_by_poll.append(len(presumed))
    # Then all are presumed in portions, each at its third poll
    assert sum(presumed_by_poll) == MAX_ABSENT * 2
    assert presumed_by_poll[:3] == [0, 0, MAX_ABSENT]


def test_a_presumed_resolve_ends_as_early_as_it_can_apply() -> None:
    # Given a member, and one that has resolved and come back with the same start
    for one, end in ((member("a", 1000), 1000), (member("b", 1000, 5000), 5001), (member("c", 9000, 5000), 9000)):
        # Then the end is not before the start, and after the last one
        alert = presumed_resolve(one)
        assert (alert.fingerprint, alert.firing, alert.ends_at_ms) == (one.fingerprint, False, end)
        assert alert.ends_at_ms >= one.starts_at_ms
        assert alert.ends_at_ms > one.last_end_ms
