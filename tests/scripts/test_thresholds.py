"""When alerts become a storm: thresholds, windows that slide on the time of receipt, and what the phase changes."""

from __future__ import annotations

import pytest

from lua_scripts.keys import StormKeys
from lua_scripts.records import Taken
from tests.scripts.lab import START, STORM, Clock, Lab, firing, many, overflow_names, resolved

MINUTE = 60_000
DEBOUNCE = 5_000
HOLD = 5_000


def kind(lab: Lab) -> tuple[str, str]:
    """(phase, type) as the header has them."""
    state = lab.opened()
    return state["ph"], state["ty"]


# the two thresholds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(9, ("G", "")), (10, ("A", "r"))])
def test_rate_threshold(lab: Lab, clock: Clock, count: int, expected: tuple[str, str]) -> None:
    # Given distinct alerts on four pods, within a minute
    for at in range(count):
        clock.at(at * 6_000)
        lab.deliver(firing(f"a{at}", pod=f"p{at % 4}"))
    # Then ten are a storm by rate and nine are none
    assert kind(lab) == expected


@pytest.mark.parametrize(("count", "expected"), [(4, ("G", "")), (5, ("A", "p"))])
def test_pattern_threshold(lab: Lab, clock: Clock, count: int, expected: tuple[str, str]) -> None:
    # Given alerts on as many pods, within two minutes
    for at in range(count):
        clock.at(at * 29_000)
        lab.deliver(firing(f"a{at}"))
    # Then five pods are a storm by pattern and four are none
    assert kind(lab) == expected


def test_pattern_threshold_counts_resources_not_alerts(lab: Lab, clock: Clock) -> None:
    lab.deliver(*many(9, pods=4))
    assert kind(lab) == ("G", "")


def test_pattern_threshold_of_zero_is_off(lab: Lab, clock: Clock) -> None:
    lab.change_rules(pattern_threshold=0)
    lab.deliver(*many(9))
    assert kind(lab) == ("G", "")
    assert lab.opened().pattern_size == 0
    lab.deliver(firing("tenth"))
    assert kind(lab) == ("A", "r")


def test_rate_threshold_of_one_is_a_storm_at_once(lab: Lab, clock: Clock) -> None:
    lab.change_rules(rate_threshold=1)
    assert lab.deliver(firing("a")) == Taken("ok", new=1, phase="ACTIVE")
    state = lab.opened()
    assert (state.singles, state.singles_due, state.details) == ({}, {}, set())


def test_duplicates_enter_no_window(lab: Lab, clock: Clock) -> None:
    # Given nine alerts
    lab.deliver(*many(9, pods=4))
    # When their group is sent again and again, each time with all of it
    for at in range(1, 10):
        clock.at(at * 1000)
        lab.deliver(*many(9, pods=4))
    # Then it is no storm, and the window stays as it was
    assert kind(lab) == ("G", "")
    assert set(lab.opened().rate.values()) == {START}


def test_resolved_and_outdated_enter_no_window(lab: Lab, clock: Clock) -> None:
    lab.deliver(*many(9, pods=4))
    lab.deliver(*(resolved(f"x{at}", 5) for at in range(9)), *(firing(f"x{at}") for at in range(9)))
    assert kind(lab) == ("G", "")


def test_reopened_enter_the_window(lab: Lab, clock: Clock) -> None:
    # Given nine alerts of two minutes ago, of which one resolved
    lab.deliver(*many(9, pods=4))
    lab.deliver(resolved("a0", 5, pod="pod-0"))
    clock.at(2 * MINUTE)
    # When it reopens with nine others
    lab.deliver(firing("a0", 10, pod="pod-0"), *many(9, first=20, pods=4))
    # Then that is a storm
    assert kind(lab) == ("A", "r")


def test_one_alert_that_flaps_is_no_storm(lab: Lab, clock: Clock) -> None:
    # Given an alert that fires and resolves every second
    for at in range(20):
        clock.at(at * 1000)
        lab.deliver(firing("a", at * 1000))
        lab.deliver(resolved("a", at * 1000 + 500))
    # Then it is one distinct alert
    assert kind(lab) == ("G", "")
    assert lab.opened()["ro"] == 19


# windows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "expected"), [(MINUTE - 1, ("A", "r")), (MINUTE, ("G", ""))])
def test_rate_window_slides(lab: Lab, clock: Clock, gap: int, expected: tuple[str, str]) -> None:
    # Given nine alerts, and the tenth a minute later or just before
    lab.deliver(*many(9, pods=4))
    clock.at(gap)
    lab.deliver(firing("tenth", pod="pod-0"))
    # Then only those received within one minute count
    assert kind(lab) == expected


@pytest.mark.parametrize(("gap", "expected"), [(2 * MINUTE - 1, ("A", "p")), (2 * MINUTE, ("G", ""))])
def test_pattern_window_slides(lab: Lab, clock: Clock, gap: int, expected: tuple[str, str]) -> None:
    lab.deliver(*many(4))
    clock.at(gap)
    lab.deliver(firing("fifth"))
    assert kind(lab) == expected


def test_outage_of_the_workers_makes_no_storm(lab: Lab, clock: Clock) -> None:
    # Given an alert every seven seconds, which nobody takes in for a while
    entries = []
    for at in range(30):
        clock.at(at * 7_000)
        entries.append(lab.accept(firing(f"a{at}", pod=f"p{at % 4}")))
    # When workers come back and take in all of them at once
    clock.at(10 * MINUTE)
    for entry in entries:
        lab.ingest(entry)
    # Then it is no more a storm than if they had never been away
    assert kind(lab) == ("G", "")
    assert len(lab.opened().singles) == 30


def test_storm_during_an_outage_of_the_workers_is_one(lab: Lab, clock: Clock) -> None:
    # Given ten alerts within a minute, then one every two minutes, which nobody takes in meanwhile
    entries = []
    for at in [*range(0, 60_000, 6_000), 3 * MINUTE, 5 * MINUTE]:
        clock.at(at)
        entries.append(lab.accept(firing(f"a{at}", pod=f"p{at % 4}")))
    clock.at(10 * MINUTE)
    # When workers come back
    for entry in entries:
        lab.ingest(entry)
    # Then the storm is found
    assert kind(lab) == ("A", "r")


def test_entries_in_another_order_than_received(lab: Lab, clock: Clock) -> None:
    # Given ten alerts within a minute
    entries = []
    for at in range(10):
        clock.at(at * 6_000)
        entries.append(lab.accept(firing(f"a{at}", pod=f"p{at % 4}")))
    # When workers get to them backwards
    for entry in reversed(entries):
        lab.ingest(entry)
    # Then they are a storm all the same
    assert kind(lab) == ("A", "r")


def test_late_entry_of_before_the_window_completes_nothing(lab: Lab, clock: Clock) -> None:
    # Given nine alerts, and a tenth that was received two minutes before
    late = lab.accept(firing("late", pod="pod-0"))
    clock.at(2 * MINUTE)
    lab.deliver(*many(9, pods=4))
    # When a worker gets to it last
    lab.ingest(late)
    # Then there are still nine within a minute
    assert kind(lab) == ("G", "")


# pattern, then rate ---------------------------------------------------------------------------------------------------


def test_pattern_becomes_rate_and_stays_it(lab: Lab, clock: Clock) -> None:
    # Given a storm by pattern that was written
    lab.deliver(*many(5))
    assert kind(lab) == ("A", "p")
    clock.at(DEBOUNCE)
    lab.write()
    # When five more come within the minute
    lab.deliver(*many(5, first=5))
    # Then it is one by rate, due with the change, and windows are kept no longer
    assert kind(lab) == ("A", "r")
    state = lab.opened()
    assert (state.rate, state.pattern_size, state.due) == ({}, 0, START + 2 * DEBOUNCE)
    clock.at(10 * MINUTE)
    lab.deliver(*many(1, first=50))
    assert kind(lab) == ("A", "r")


def test_pattern_stays_where_the_rate_is_not_met(lab: Lab, clock: Clock) -> None:
    for at in range(12):
        clock.at(at * 20_000)
        lab.deliver(firing(f"a{at}"))
    assert kind(lab) == ("A", "p")


def test_both_at_once_is_rate(lab: Lab, clock: Clock) -> None:
    lab.deliver(*many(10))
    assert kind(lab) == ("A", "r")


# what comes with the phase --------------------------------------------------------------------------------------------


def test_becoming_active_drops_what_singles_needed(lab: Lab, clock: Clock) -> None:
    # Given nine Singles on hold
    lab.deliver(*many(9, pods=4))
    assert len(lab.opened().details) == 9
    # When the tenth alert comes
    clock.at(1000)
    lab.deliver(firing("a9", pod="pod-1"))
    # Then none of them is due, their details are gone, and the storm's RR is due after the debounce
    state = lab.opened()
    assert (state.singles_due, state.details, state.due, state["fd"]) == (
        {}, set(), START + 1000 + DEBOUNCE, START + 1000 + DEBOUNCE,
    )  # fmt: skip
    clock.at(1000 + DEBOUNCE)
    claim = lab.claimed()
    assert [single.state for single in lab.leases.singles(STORM)] == ["pending"] * 9
    assert lab.settle(claim) == "settled"
    assert lab.opened().singles == {}


def test_first_rr_is_due_after_the_debounce_whatever_comes_meanwhile(lab: Lab, clock: Clock) -> None:
    # Given a storm
    lab.deliver(*many(10))
    # When alerts come all the time
    for at in range(1, 5):
        clock.at(at * 1000)
        lab.deliver(firing(f"more-{at}"), resolved(f"a{at}", 500))
    # Then the first RR is due when it was
    assert lab.opened().due == START + DEBOUNCE


def test_later_changes_wait_for_quiet_but_not_beyond_the_longest_wait(lab: Lab, clock: Clock) -> None:
    # Given a written storm
    lab.deliver(*many(10))
    clock.at(DEBOUNCE)
    lab.write()
    # When a change comes every four seconds
    dues = []
    for at in range(9):
        clock.at(10_000 + at * 4_000)
        lab.deliver(firing(f"more-{at}"))
        dues.append(lab.opened().due)
    # Then each moves the time, up to MAX_WAIT after the first
    quiet = [START + 10_000 + at * 4_000 + DEBOUNCE for at in range(9)]
    latest = START + 10_000 + lab.rules.max_wait
    assert dues == [min(due, latest) for due in quiet]
    assert dues[-1] == latest


# beyond MAX_MEMBERS ---------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(lab: Lab, clock: Clock) -> Lab:
    """An active storm with room for twelve members, and fifteen alerts firing."""
    lab.change_rules(max_members=12)
    lab.deliver(*many(10))
    lab.deliver(*many(5, first=10))
    return lab


def test_beyond_the_bound_only_fingerprints_are_kept(crowded: Lab) -> None:
    # Given fifteen alerts where twelve have room
    state = crowded.opened()
    # Then all of them count, and the last three are known by name alone
    assert (state["f"], state["of"], state["nw"], len(state.members)) == (15, 3, 15, 12)
    assert overflow_names(crowded.client) == {"a12", "a13", "a14"}
    assert len(state.resources) == 12
    crowded_claim = crowded.storms.page()[0][0]
    assert crowded_claim.alert_count == 15


def test_listing_names_members_beyond_the_bound(crowded: Lab) -> None:
    for limit in (1, 4, 100):
        assert sorted(crowded.all_members(limit=limit)) == sorted(f"a{at}" for at in range(15))
    beyond, _ = crowded.storms.members(STORM, "o.0")
    assert {(member.status, member.starts_at_ms, member.resource) for member in beyond} == {("firing", 0, None)}


def test_listing_names_many_members_beyond_the_bound(lab: Lab, clock: Clock) -> None:
    lab.change_rules(max_members=10)
    for first in range(0, 1000, 100):
        lab.deliver(*many(100, first=first))
    names = lab.all_members()
    assert sorted(names) == sorted(f"a{at}" for at in range(1000))
    assert lab.opened()["f"] == 1000


def test_duplicate_beyond_the_bound(crowded: Lab) -> None:
    assert crowded.deliver(*many(15)) == Taken("ok", duplicate=15, phase="ACTIVE")
    assert crowded.opened()["f"] == 15


def test_resolved_beyond_the_bound(crowded: Lab) -> None:
    # When two of those beyond the bound resolve, and once more
    taken = crowded.deliver(resolved("a12", 5), resolved("a14", 5))
    again = crowded.deliver(resolved("a12", 5), resolved("a14", 5))
    # Then they count as resolved, once
    assert taken == Taken("ok", resolved=2, phase="ACTIVE")
    assert again == Taken("ok", duplicate=2, phase="ACTIVE")
    assert (crowded.opened()["f"], crowded.opened()["of"]) == (13, 1)
    assert overflow_names(crowded.client) == {"a13"}


def test_reopened_by_a_later_start_beyond_the_bound(crowded: Lab, clock: Clock) -> None:
    crowded.deliver(resolved("a12", 5))
    clock.at(1000)
    taken = crowded.deliver(firing("a12", 10))
    assert (taken.new + taken.reopened, taken.outdated) == (1, 0)
    assert crowded.opened()["f"] == 15


def test_reopened_by_receipt_beyond_the_bound(crowded: Lab, clock: Clock) -> None:
    # Given an alert beyond the bound that resolved
    crowded.deliver(resolved("a12", 5))
    # When the same firing is received after that, as after a partition
    clock.at(1000)
    taken = crowded.deliver(firing("a12", 0))
    # Then it fires again: an alert is never shed
    assert taken.outdated == 0
    assert crowded.opened()["f"] == 15
    assert "a12" in crowded.all_members()
    # And the same resolve applies again
    clock.at(2000)
    assert crowded.deliver(resolved("a12", 5)) == Taken("ok", resolved=1, phase="ACTIVE")
    assert crowded.opened()["f"] == 14


def test_old_resolve_beyond_the_bound_does_not_close_a_later_firing(crowded: Lab, clock: Clock) -> None:
    # Given an alert beyond the bound that resolved and fired again later
    crowded.deliver(resolved("a12", 5))
    clock.at(1000)
    crowded.deliver(firing("a12", 10))
    # When the old resolve is repeated, and an older one
    clock.at(2000)
    taken = crowded.deliver(resolved("a12", 5), resolved("a12", 4))
    # Then neither closes it
    assert taken == Taken("ok", duplicate=1, outdated=1, phase="ACTIVE")
    assert crowded.opened()["f"] == 15


def test_later_start_of_a_firing_beyond_the_bound_stands(crowded: Lab, clock: Clock) -> None:
    # Given an alert beyond the bound that reopened, and a repeat that says it fires since 50
    crowded.deliver(resolved("a12", 5))
    clock.at(1000)
    crowded.deliver(firing("a12", 10))
    assert crowded.deliver(firing("a12", 50)) == Taken("ok", duplicate=1, phase="ACTIVE")
    # When a resolve of before that comes
    clock.at(2000)
    assert crowded.deliver(resolved("a12", 40)) == Taken("ok", outdated=1, phase="ACTIVE")
    # Then it still fires
    assert crowded.opened()["f"] == 15


def test_resolve_and_firing_of_a_stranger_in_one_entry_leave_its_last_tombstone(lab: Lab, clock: Clock) -> None:
    # Given a tombstone beside a storm without room
    lab.change_rules(max_members=10)
    lab.deliver(*many(10))
    lab.deliver(resolved("a", 5))
    # When one entry says that it fired since and resolved again
    clock.at(1000)
    assert lab.deliver(firing("a", 6), resolved("a", 20)) == Taken("ok", new=1, resolved=1, phase="ACTIVE")
    # Then the older firing is outdated
    assert lab.deliver(firing("a", 7)) == Taken("ok", outdated=1, phase="ACTIVE")


def test_all_beyond_the_bound_resolved_leaves_no_bucket(crowded: Lab) -> None:
    crowded.deliver(*(resolved(f"a{at}", 5) for at in range(15)))
    assert crowded.opened()["f"] == 0
    assert not crowded.client.exists(StormKeys(STORM).overflow)


def test_bound_holds_no_storm_back_while_it_gathers(lab: Lab, clock: Clock) -> None:
    # Given a bound below the thresholds
    lab.change_rules(max_members=3)
    lab.deliver(*many(9, pods=4))
    # Then each still has its Single
    state = lab.opened()
    assert (state["ph"], state["f"], len(state.singles), len(state.members)) == ("G", 9, 9, 9)
