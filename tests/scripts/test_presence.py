"""What is known of listed alerts, how long members have been missed, how many are silenced, and the polls' own hash."""

from __future__ import annotations

import pytest

from lua_scripts.keys import POLLS, StormKeys
from lua_scripts.polls import PollReport, Polls
from lua_scripts.presence import Absences, FiringMember, Held, HeldOf, Presence
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
