"""What is known of listed alerts, how long members have been missed, how many are silenced, and the polls' own hash."""

from __future__ import annotations

import pytest

from lua_scripts.keys import POLLS, StormKeys
from lua_scripts.leases import Claim, NotClaimed, SingleOutcome
from lua_scripts.orphans import OpenObject, Orphans
from lua_scripts.packing import pack, pack_fingerprint, unpack
from lua_scripts.polls import PollReport, Polls
from lua_scripts.presence import BATCH, Absences, FiringMember, Held, HeldOf, Presence
from lua_scripts.records import StormAlert
from tasks.alertmanager.decide import presumed_resolve
from tasks.ingest import storm_alert
from tests.scripts.lab import OTHER_STORM, START, STORM, Clock, Lab, firing, many, overflow_names, resolved


@pytest.fixture
def presence(lab: Lab) -> Presence:
    return Presence(lab.client)


@pytest.fixture
def polls(lab: Lab) -> Polls:
    return Polls(lab.client)


def test_held_tells_firing_resolved_and_unknown_apart(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a storm with a member that fires, one that resolved at 7 s and one that fires again
    lab.deliver(firing("fires"), firing("ended"), firing("again"))
    clock.at(7_000)
    lab.deliver(resolved("ended", 6_000), resolved("again", 6_000))
    clock.at(8_000)
    lab.deliver(firing("again", 7_500))
    # When it is asked about them and a stranger, and a storm that is not open about anything
    found = presence.held({STORM: ["fires", "ended", "again", "stranger"], OTHER_STORM: ["fires"]})
    # Then it says what stands, and when the resolve that stands was received
    assert found == {
        STORM: HeldOf(
            True, {"fires": Held(True, 0), "ended": Held(False, START + 7_000), "again": Held(True, 0)}
        ),
        OTHER_STORM: HeldOf(False, {}),
    }  # fmt: skip


def test_held_knows_members_beyond_the_bound(lab: Lab, presence: Presence) -> None:
    # Given a storm of 700 that keeps few in detail
    lab.change_rules(max_members=20)
    for at in range(0, 700, 100):
        lab.deliver(*many(100, first=at))
    assert len(overflow_names(lab.client)) == 600  # the first hundred came before it was a storm
    # When it is asked about all of them at once, more than one batch
    found = presence.held({STORM: [f"a{at}" for at in range(720)]})
    # Then all are firing members, and the twenty others unknown
    assert set(found[STORM].alerts) == {f"a{at}" for at in range(700)}
    assert set(found[STORM].alerts.values()) == {Held(True, 0)}


def test_firing_names_members_with_what_a_resolve_must_come_after(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a member that never ended, one that ended and one that came back
    lab.deliver(firing("first", 100), firing("ended", 200), firing("back", 300))
    clock.at(7_000)
    lab.deliver(resolved("ended", 6_000), resolved("back", 6_000))
    clock.at(8_000)
    lab.deliver(firing("back", 300))
    # When the firing ones are read
    found = sorted((m for page in presence.firing(STORM) for m in page), key=lambda m: m.fingerprint)
    # Then those are they
    assert found == [FiringMember("back", START + 300, START + 6_000), FiringMember("first", START + 100, 0)]


def test_absences_come_back_and_go_when_nothing_is_missed(lab: Lab, presence: Presence) -> None:
    # Given what a poll missed
    noted = Absences(7, {"0123456789abcdef": 1, "text": 2})
    presence.note_absences(STORM, noted, keep_ms=60_000)
    # Then it comes back for its storm alone, and would go by itself
    assert presence.absences([STORM, OTHER_STORM]) == [noted, Absences()]
    assert 0 < lab.client.pttl(StormKeys(STORM).absent) <= 60_000
    # And when a poll misses nothing, nothing is left
    presence.note_absences(STORM, Absences(8), keep_ms=60_000)
    assert lab.dump() == {}


def test_silenced_is_noted_once_and_makes_the_storm_due(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a storm of ten that was written
    lab.deliver(*many(10))
    clock.advance(5_000)
    lab.write()
    assert lab.storms.page()[0][0].silenced is None
    # When four of its members are silenced, and a later poll says the same
    first, again = (presence.note_silenced(STORM, 4, lab.rules) for _ in range(2))
    # Then that is news once, and the storm is due after the debounce
    assert (first, again) == (True, False)
    assert lab.opened().due == clock.now + lab.rules.debounce
    clock.advance(5_000)
    assert lab.claimed().storm.silenced == 4


def test_silenced_never_exceeds_what_fires_and_ends_as_none(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a storm whose members are all silenced
    lab.deliver(*many(10))
    presence.note_silenced(STORM, 99, lab.rules)
    assert lab.storms.page()[0][0].silenced == 10
    # When seven of them resolve, it is no more than the rest
    clock.at(60_000)
    lab.deliver(*(resolved(f"a{at}", 50_000) for at in range(7)))
    assert lab.storms.page()[0][0].silenced == 3
    # And when the silence ends, none is, which is not the same as never
    assert presence.note_silenced(STORM, 0, lab.rules)
    assert lab.storms.page()[0][0].silenced == 0
    # And a storm that is not open, or over, takes no note
    assert not presence.note_silenced(OTHER_STORM, 1, lab.rules)


def test_a_storm_under_lease_is_only_marked(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a storm that a worker writes
    lab.deliver(*many(10))
    clock.advance(5_000)
    claim = lab.claimed()
    # When some of it is silenced meanwhile
    presence.note_silenced(STORM, 2, lab.rules)
    # Then the holder settles what it wrote, and the storm is to be written once more
    assert lab.settle(claim) == "dirty"


def silenced_now(claim: Claim | NotClaimed) -> list[tuple[str, str, bool | None]]:
    assert isinstance(claim, Claim), claim
    return [(task.fingerprint, task.want, task.silenced) for task in claim.singles or ()]


def test_a_silenced_single_is_written_once_more_and_once_when_it_ends(
    lab: Lab, presence: Presence, clock: Clock
) -> None:
    # Given two Singles that were written, and nothing is due before they would go stale
    lab.deliver(firing("a"), firing("b"))
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("a", "Active", None), ("b", "Active", None)]
    assert lab.claim() == NotClaimed("idle")
    # When one is silenced, and a later poll says the same
    news = [presence.note_silenced(STORM, 1, lab.rules, began=["a", "stranger"]) for _ in range(2)]
    # Then that is news once, and it alone is due after the debounce
    assert news == [True, False]
    assert presence.silenced_singles(STORM) == {"a"}
    assert lab.opened().singles_due["a"] == lab.opened().due == clock.now + lab.rules.debounce
    assert lab.opened()["ph"] == "G"
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("a", "Active", True)]
    # And once that is settled there is nothing more to write
    assert lab.claim() == NotClaimed("idle")
    assert lab.opened().due == START + lab.rules.stale_after
    # And when it is the other one that is silenced, so that their number is the same, both say so
    assert presence.note_silenced(STORM, None, lab.rules, began=["b"], ended=["a"])
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("a", "Active", False), ("b", "Active", True)]
    assert lab.claim() == NotClaimed("idle")
    # And one that resolves is not silenced any more
    lab.deliver(resolved("b", 60_000))
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("b", "Resolved", False)]
    assert lab.claim() == NotClaimed("idle")


def test_a_silence_noted_before_the_first_write_needs_no_second(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a Single on hold that is silenced meanwhile
    lab.deliver(firing("a"))
    due = lab.opened().due
    presence.note_silenced(STORM, 1, lab.rules, began=["a"])
    assert lab.opened().due == due
    # When its hold is over, then its first write says so, and that is all
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("a", "Active", True)]
    assert lab.claim() == NotClaimed("idle")


def test_a_silence_that_ends_or_fails_while_its_single_is_written(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a worker that writes that a Single is silenced
    lab.deliver(firing("a"))
    presence.note_silenced(STORM, 1, lab.rules, began=["a"])
    clock.advance(5_000)
    claim = lab.claimed()
    # When the silence ends meanwhile, then what was written is known to be out of date
    presence.note_silenced(STORM, 0, lab.rules, ended=["a"])
    lab.settle(claim)
    clock.advance(5_000)
    claim = lab.claimed()
    assert silenced_now(claim) == [("a", "Active", False)]
    # And a write that fails is tried again
    lab.leases.settle_singles(STORM, claim.token, lab.rules, [SingleOutcome("a", "")], 500)
    clock.advance(500)
    assert silenced_now(lab.write()) == [("a", "Active", False)]
    assert lab.claim() == NotClaimed("idle")


def test_a_silenced_single_that_takes_over_an_object_says_so_there(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given the open RR of an alert that an emptied Redis forgot, and the alert again, silenced by now
    rr = OpenObject("single", STORM, "rr-1", "shop", "u2", "3", 2, fingerprint="a", opened_ms=START - 60_000)
    Orphans(lab.client).match([rr], 60_000, 0)
    lab.deliver(firing("a"))
    presence.note_silenced(STORM, 1, lab.rules, began=["a"])
    # When its hold is over, then that very object is written, once
    clock.advance(5_000)
    claim = lab.write()
    assert silenced_now(claim) == [("a", "Active", True)]
    assert isinstance(claim, Claim)
    assert [(task.uid, task.opened_ms) for task in claim.singles or ()] == [("u2", START - 60_000)]
    assert lab.claim() == NotClaimed("idle")


def test_a_single_from_before_silences_were_noted_there(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a written Single whose record is the shorter one of an earlier release
    lab.deliver(firing("a"))
    clock.advance(5_000)
    lab.write()
    key, name = StormKeys(STORM).singles, pack_fingerprint("a")
    lab.client.hset(key, name, pack(unpack(lab.client.hget(key, name))[:9]))
    # Then nothing is silenced, and nothing to be written
    assert presence.silenced_singles(STORM) == frozenset()
    assert lab.claim() == NotClaimed("idle")
    # And when it is silenced, it says so
    presence.note_silenced(STORM, 1, lab.rules, began=["a"])
    clock.advance(5_000)
    assert silenced_now(lab.write()) == [("a", "Active", True)]


def test_many_silences_are_noted_in_batches_and_go_into_the_storm(lab: Lab, presence: Presence, clock: Clock) -> None:
    # Given a key with more Singles than one call takes
    lab.change_rules(rate_threshold=BATCH + 100, pattern_threshold=0)
    alerts = many(BATCH + 50)
    for at in range(0, len(alerts), 100):
        lab.deliver(*alerts[at : at + 100])
    names = [alert.fingerprint for alert in alerts]
    # When all are silenced
    assert presence.note_silenced(STORM, len(names), lab.rules, began=names)
    # Then all are noted, and their number
    assert presence.silenced_singles(STORM) == set(names)
    assert lab.storms.page()[0][0].silenced == len(names)
    # And when they are a storm by now, its own number is all that counts
    lab.deliver(*many(100, first=len(names)))
    assert lab.opened()["ph"] == "A"
    assert not presence.note_silenced(STORM, None, lab.rules, ended=names)


def test_a_question_stands_until_it_is_answered(lab: Lab, polls: Polls) -> None:
    # Given nobody has asked
    assert polls.asked() == 0
    # When two ask, and a poll that began after the first answers that one
    polls.ask()
    first = polls.asked()
    polls.ask()
    polls.answer(first)
    # Then the second still stands, until it is answered too
    assert polls.asked() == 2
    polls.answer(2)
    assert polls.asked() == 0
    assert polls.report() is None


def test_numbers_leave_a_gap_after_an_incomplete_poll(polls: Polls) -> None:
    # When complete polls and an incomplete one follow one another, then only complete neighbours are one apart
    assert [polls.begin(complete=complete) for complete in (True, True, False, True, True)] == [1, 2, 4, 5, 6]


def test_failures_are_news_once_and_peers_are_forgotten(lab: Lab, polls: Polls) -> None:
    # Given a peer that failed twice, then answers twice
    assert [polls.failed_by("http://one") for _ in range(2)] == [True, False]
    assert [polls.answered_by("http://one", now) for now in (5, 6)] == [True, False]
    polls.answered_by("http://other", 7)
    polls.begin(complete=True)
    polls.count(fed=3)
    polls.count(fed=1, presumed=2)
    # When only the other is asked from now on
    polls.keep_only(["http://other"])
    # Then the report has the sums, and that one
    assert polls.report() == PollReport(1, 0, 4, 2, {"http://other": 7})
    assert set(lab.dump()) == {POLLS}


def presumed(name: str, starts: int, last_end: int = 0) -> StormAlert:
    """The resolve that is presumed for a member, as ingest takes it."""
    alert = presumed_resolve(FiringMember(name, START + starts, START + last_end if last_end else 0))
    return storm_alert(alert)


def test_a_presumed_resolve_ends_a_storm_and_the_same_firing_received_later_reopens_it(lab: Lab, clock: Clock) -> None:
    # Given a storm of ten, all presumed resolved
    lab.deliver(*many(10, starts=100))
    clock.at(60_000)
    assert lab.deliver(*(presumed(f"a{at}", 100) for at in range(10))).resolved == 10
    assert lab.opened().firing == set()
    resources = lab.opened().resources
    # When the sender sends the very same firing again, startsAt and all
    clock.at(120_000)
    taken = lab.deliver(*many(10, starts=100))
    # Then it fires again, on the resources it had
    assert (taken.reopened, taken.phase) == (10, "ACTIVE")
    assert lab.opened().firing == {f"a{at}" for at in range(10)}
    assert set(lab.opened().resources) == set(resources) == {f"pod-{at}" for at in range(10)}


def test_a_firing_that_started_later_reopens_a_presumed_resolve_however_late_it_is_taken_in(
    lab: Lab, clock: Clock
) -> None:
    # Given a member, and a newer firing of it that waits in the inbox while it is presumed resolved
    lab.deliver(firing("a", 100))
    clock.at(60_000)
    waiting = lab.accept(firing("a", 50_000))
    clock.at(60_001)
    lab.deliver(presumed("a", 100))
    # When the newer one is taken in after it
    taken = lab.ingest(waiting)
    # Then it stands
    assert taken.reopened == 1
    assert lab.opened().firing == {"a"}


def test_presumed_once_more_after_coming_back_with_the_same_start(lab: Lab, clock: Clock) -> None:
    # Given a member that ended, and came back with the same startsAt
    lab.deliver(firing("a", 100))
    clock.at(60_000)
    lab.deliver(resolved("a", 50_000, 100))
    clock.at(70_000)
    assert lab.deliver(firing("a", 100)).reopened == 1
    # When it is presumed resolved, told twice
    clock.at(300_000)
    [member] = [m for page in Presence(lab.client).firing(STORM) for m in page]
    alert = storm_alert(presumed_resolve(member))
    first, again = lab.deliver(alert), lab.deliver(alert)
    # Then it is resolved once
    assert (first.resolved, again.duplicate) == (1, 1)
    assert lab.opened().resolved == {"a"}


def test_a_presumed_resolve_of_what_nobody_knows_opens_nothing(lab: Lab) -> None:
    assert lab.deliver(presumed("stranger", 100)).outdated == 1
    assert lab.state() is None
