"""What firing members share: counted per storm, in bounds, never too much, and as the last flush said it at the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from lua_scripts.keys import StormKeys
from lua_scripts.leases import Claim
from lua_scripts.records import StormAlert
from tests.scripts.lab import STORM, Clock, Lab, fill, firing, many, resolved
from tests.scripts.state import Causes

DEBOUNCE = 5_000
ZONES, NODES = ("zone",), ("node", "zone")


def within(alerts: Iterable[StormAlert], *values: str) -> list[StormAlert]:
    """The same alerts with these values of the cause labels."""
    return [replace(alert, causes=values) for alert in alerts]


def over(alerts: Iterable[StormAlert], ends: int = 10) -> list[StormAlert]:
    """The same alerts, resolved."""
    return [resolved(alert.fingerprint, ends, pod=alert.name, severity=2) for alert in alerts]


def gone(alerts: Iterable[StormAlert], ends: int = 10) -> list[StormAlert]:
    """Resolves of them that were presumed: nobody knows the labels."""
    return [replace(alert, causes=None) for alert in over(alerts, ends)]


def told(claim: object) -> dict[str, tuple[str, int]]:
    assert isinstance(claim, Claim), claim
    return {cause.label: (cause.value, cause.percent) for cause in claim.causes}


@pytest.fixture
def zones(lab: Lab, clock: Clock) -> Lab:
    """A lab that counts one label, its time under control."""
    lab.cause_labels = ZONES
    return lab


# what is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "there", "wanted"),
    [
        (10, 0, {"zone": ("b", 100)}),
        (19, 1, {"zone": ("b", 95)}),
        (18, 2, {"zone": ("b", 90)}),
        (17, 2, {}),
        (29, 3, {"zone": ("b", 90)}),
    ],
)
def test_what_nine_tenths_share_is_told(
    zones: Lab, clock: Clock, here: int, there: int, wanted: dict[str, tuple[str, int]]
) -> None:
    # Given so many members in one zone and in another; When the storm is claimed; Then the share is rounded down
    zones.deliver(*within(many(here), "b"), *within(many(there, first=here), "c"))
    clock.at(DEBOUNCE)
    assert told(zones.claimed()) == wanted


def test_members_without_the_label_count_for_the_whole(zones: Lab, clock: Clock) -> None:
    # Given nine members in a zone, one in none and one that brings no labels at all
    zones.deliver(*within(many(9), "b"), *within([firing("x")], ""), replace(firing("y"), causes=None))
    clock.at(DEBOUNCE)
    # Then nine of eleven are too few
    assert told(zones.claimed()) == {}
    assert zones.opened().causes.counts == {"zone": {"b": 9}}


def test_only_what_changes_members_is_counted(zones: Lab, clock: Clock) -> None:
    # Given members, a tombstone, duplicates, an outdated resolve, and a member that reopens
    alerts = within(many(10), "b")
    zones.deliver(*alerts)
    zones.deliver(*alerts[:5], *within(over(many(1), ends=-5), "b"), *within([resolved("x", 5)], "b"))
    zones.deliver(*within(over(alerts[:2]), "b"))
    zones.deliver(*within(over(alerts[:2]), "b"))
    clock.at(1000)
    zones.deliver(*within(many(1, starts=20), "b"), *within([firing("x", 0)], "b"))
    # Then nine fire, and nine are counted
    assert zones.opened()["f"] == 9
    assert zones.opened().causes.counts == {"zone": {"b": 9}}


def test_an_alert_that_comes_and_goes_in_one_entry_leaves_no_trace(zones: Lab, clock: Clock) -> None:
    # Given an entry in which one of the members fires, resolves, fires, and is missed by everybody
    flapping = within([firing("x"), resolved("x", 5), firing("x", 7)], "c")
    zones.deliver(*within(many(10), "b"), *flapping, *gone([firing("x")], ends=9))
    # Then it is counted nowhere, and for the one of whom nothing is known each value gives way
    assert zones.opened()["f"] == 10
    assert zones.opened().causes.counts == {"zone": {"b": 9}}


def test_labels_that_are_no_longer_asked_for_are_forgotten(zones: Lab, clock: Clock) -> None:
    # Given two labels that are counted
    zones.cause_labels = NODES
    zones.deliver(*within(many(10), "n1", "b"))
    # When a worker with other settings takes a resolve in, and then one with the former settings
    zones.cause_labels = ("image", "zone")
    zones.deliver(*within(over(many(1)), "web:7", "b"))
    between = zones.opened().causes.counts
    zones.cause_labels = NODES
    zones.deliver(*within(many(1, first=20), "n1", "b"))
    # Then what it did not count begins anew
    assert between == {"zone": {"b": 9}}
    assert zones.opened().causes.counts == {"node": {"n1": 1}, "zone": {"b": 10}}


# bounds ---------------------------------------------------------------------------------------------------------------


def test_a_full_table_gives_the_place_of_the_fewest(zones: Lab, clock: Clock) -> None:
    # Given as many zones as are kept: two members in each, one in the last
    for at in range(16):
        zones.deliver(*within(many(2 if at < 15 else 1, first=2 * at), f"z{at}"))
    full = zones.opened().causes.counts["zone"]
    # When another comes
    zones.deliver(*within(many(1, first=100), "new"))
    # Then it stands where the last was, and the last counts anew when it comes again
    assert full == {f"z{at}": 2 for at in range(15)} | {"z15": 1}
    assert zones.opened().causes.counts["zone"] == {f"z{at}": 2 for at in range(15)} | {"new": 1}
    zones.deliver(*within(many(3, first=200), "z15"))
    assert zones.opened().causes.counts["zone"] == {f"z{at}": 2 for at in range(15)} | {"z15": 3}


def test_of_many_that_come_at_once_those_that_count_more_take_a_place(zones: Lab, clock: Clock) -> None:
    # Given a full table, two members each; When an entry brings twenty other zones, two of them more than once
    for at in range(16):
        zones.deliver(*within(many(2, first=2 * at), f"z{at}"))
    singles = [replace(alert, causes=(f"one-{at}",)) for at, alert in enumerate(many(18, first=100))]
    zones.deliver(*singles, *within(many(3, first=200), "three"), *within(many(5, first=300), "five"))
    # Then these two have taken the place of two, and the others are not counted
    found = zones.opened().causes.counts["zone"]
    assert sorted(found.values()) == [2] * 14 + [3, 5]
    assert (found["three"], found["five"]) == (3, 5)
    # And when all that come are single, one of them takes a place
    zones.deliver(*within(over(singles), "x"))
    zones.deliver(*(replace(alert, causes=(f"more-{at}",)) for at, alert in enumerate(many(18, first=400))))
    assert sorted(zones.opened().causes.counts["zone"].values()) == [1] + [2] * 13 + [3, 5]


def test_what_nearly_all_share_is_found_among_many_values(zones: Lab, clock: Clock) -> None:
    # Given a storm that begins in forty zones, one member in each, and goes on in one
    zones.deliver(*(replace(alert, causes=(f"z{at}",)) for at, alert in enumerate(many(40))))
    for first in range(40, 840, 100):
        zones.deliver(*within(many(100, first=first), "b"))
    clock.at(DEBOUNCE)
    # Then it is told: 800 of 840
    assert told(zones.claimed()) == {"zone": ("b", 95)}


def test_members_beyond_the_bound_count_alike(zones: Lab, clock: Clock) -> None:
    # Given a storm of thirty of which ten are kept
    zones.change_rules(max_members=10)
    alerts = within(many(30), "b")
    zones.deliver(*alerts[:10])
    zones.deliver(*alerts[10:])
    zones.deliver(*within(many(3, first=50), "c"))
    # When some of them resolve, some of these fire again, and one goes without a word
    zones.deliver(*within(over(alerts[8:25]), "b"))
    clock.at(1000)
    zones.deliver(*within(many(2, first=23, starts=20), "b"), *gone(many(1, first=50)))
    # Then all are counted
    assert zones.opened()["f"] == 30 + 3 - 17 + 2 - 1
    assert zones.opened().causes.counts == {"zone": {"b": 30 - 17 + 2 - 1, "c": 2}}
    clock.at(DEBOUNCE + 1000)
    assert told(zones.claimed()) == {}


# resolves that bring no labels ----------------------------------------------------------------------------------------


def test_who_leaves_without_a_word_is_taken_off_every_value(zones: Lab, clock: Clock) -> None:
    # Given 50 in one zone, three in another; When two of them are presumed resolved
    zones.deliver(*within(many(50), "b"), *within(many(3, first=50), "c"))
    zones.deliver(*gone(many(2, first=50)))
    clock.at(DEBOUNCE)
    # Then at least 48 of the 51 that fire are known to be in one zone
    assert zones.opened().causes.counts == {"zone": {"b": 48, "c": 1}}
    assert told(zones.claimed()) == {"zone": ("b", 94)}


def test_a_stale_single_is_taken_off_every_value(zones: Lab, clock: Clock) -> None:
    # Given three Singles in one zone and one in another, that are written
    zones.deliver(*within(many(3), "b"), *within([firing("x")], "c"))
    clock.at(5_000)
    zones.write()
    # When all but the last go stale, and then it is a storm in that one's zone
    clock.at(10_000)
    zones.deliver(*within([firing("x")], "c"))
    clock.at(5_000 + zones.rules.stale_after)
    zones.write()
    assert zones.opened().firing == {"x"}
    zones.deliver(*within(many(9, first=20), "c"))
    clock.advance(DEBOUNCE)
    # Then the others are counted no more; that the last was not among them is not known
    assert zones.opened().causes.counts == {"zone": {"c": 9}}
    assert told(zones.claimed()) == {"zone": ("c", 90)}


def test_a_sender_whose_labels_change_under_a_fingerprint_breaks_nothing(zones: Lab, clock: Clock) -> None:
    # Given members that fired in one zone, and half of them resolve as if they had fired in another
    zones.deliver(*within(many(10), "b"))
    zones.deliver(*within(over(many(5)), "c"))
    clock.at(DEBOUNCE)
    # Then no more than all of them share it
    assert told(zones.write()) == {"zone": ("b", 100)}
    # And when none fires any more, the count ends
    zones.deliver(*within(over(many(5, first=5)), "c"))
    assert zones.opened().causes == Causes(0, 1, ["zone", "b", 100], {})


# when it is over ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(zones: Lab, clock: Clock) -> Lab:
    """A storm of twenty, 19 of them in one zone, written at START + DEBOUNCE."""
    zones.deliver(*within(many(19), "b"), *within(many(1, first=19), "c"))
    clock.at(DEBOUNCE)
    assert told(zones.write()) == {"zone": ("b", 95)}
    return zones


def test_at_resolved_stands_what_the_last_flush_said(shown: Lab, clock: Clock) -> None:
    # Given a storm that resolves in steps, between which its RR is not written
    clock.at(10_000)
    shown.deliver(*within(over(many(19)), "b"))
    shown.deliver(*within(over(many(1, first=19)), "c"))
    # When it is written as resolved, twice, for the first write fails
    clock.at(10_000 + DEBOUNCE)
    first = shown.claimed("first")
    shown.settle(first, phase="", uid="", retry_ms=100)
    clock.advance(100)
    second = shown.write()
    # Then both say what was said last, and nothing is counted any more
    assert told(first) == told(second) == {"zone": ("b", 95)}
    assert shown.opened().causes == Causes(0, 1, ["zone", "b", 95], {})


def test_a_flush_that_told_nothing_stands_too(shown: Lab, clock: Clock) -> None:
    # Given a storm whose last flush told no hint, for two zones were left
    clock.at(10_000)
    shown.deliver(*within(over(many(18)), "b"))
    clock.at(10_000 + DEBOUNCE)
    assert told(shown.write()) == {}
    # When one of the two resolves, and then the other
    shown.deliver(*within(over(many(1, first=18)), "b"))
    shown.deliver(*within(over(many(1, first=19)), "c"))
    clock.advance(DEBOUNCE)
    # Then the resolved RR has none either
    assert told(shown.write()) == {}


def test_a_worker_that_dies_after_its_claim_has_told_it(shown: Lab, clock: Clock) -> None:
    # Given a worker that claimed what changed, wrote it or not, and died before it settled
    clock.at(10_000)
    shown.deliver(*within(over(many(1, first=19)), "c"))
    clock.at(10_000 + DEBOUNCE)
    assert told(shown.claimed("dies")) == {"zone": ("b", 100)}
    # When all resolves meanwhile, and another takes over
    shown.deliver(*within(over(many(19)), "b"))
    clock.advance(40_000)
    claim = shown.claimed("another")
    # Then the RR says what the dead one may have written
    assert (claim.storm.phase, told(claim)) == ("RESOLVED", {"zone": ("b", 100)})


def test_a_renewed_lease_tells_what_is_now(shown: Lab, clock: Clock) -> None:
    # Given a claim, and a change after it; When the holder renews; Then it is told the change, as of the alerts
    shown.deliver(*within(many(2, first=30), "c"))
    clock.at(2 * DEBOUNCE)
    assert told(shown.claimed()) == {}
    shown.deliver(*within(many(30, first=40), "b"))
    assert told(shown.claimed()) == {"zone": ("b", 94)}


def test_a_storm_over_before_it_was_written_says_what_it_was(zones: Lab, clock: Clock) -> None:
    # Given a storm that declines before its first RR is due, the last two in another zone
    zones.deliver(*within(many(20), "b"))
    zones.deliver(*within(many(2, first=20), "c"))
    clock.at(1000)
    zones.deliver(*within(over(many(15)), "b"))
    zones.deliver(*within(over(many(5, first=15)), "b"))
    zones.deliver(*within(over(many(2, first=20)), "c"))
    clock.at(DEBOUNCE)
    # Then its RR says what it was before it declined
    claim = zones.claimed()
    assert (claim.storm.phase, told(claim)) == ("RESOLVED", {"zone": ("b", 90)})


def test_what_gathered_is_not_what_the_storm_was(zones: Lab, clock: Clock) -> None:
    # Given Singles of one zone that resolve, then a storm in another that is over before its first RR is due
    zones.deliver(*within(many(3), "c"))
    zones.deliver(*within(over(many(3)), "c"))
    zones.deliver(*within(many(10, first=10), "b"))
    zones.deliver(*within(over(many(10, first=10)), "b"))
    clock.at(DEBOUNCE)
    # Then its RR says what the storm was
    assert told(zones.claimed()) == {"zone": ("b", 100)}


def test_what_reopens_counts_for_itself(shown: Lab, clock: Clock) -> None:
    # Given a storm that was written as resolved
    clock.at(10_000)
    shown.deliver(*within(over(many(19)), "b"), *within(over(many(1, first=19)), "c"))
    clock.at(10_000 + DEBOUNCE)
    shown.write()
    # When it reopens elsewhere
    clock.at(20_000)
    shown.deliver(*within(many(3, first=17, starts=20), "c"))
    clock.at(20_000 + DEBOUNCE)
    # Then only that is told
    assert told(shown.write()) == {"zone": ("c", 100)}


def test_hints_of_singles_are_none_and_gathering_counts_for_the_storm(zones: Lab, clock: Clock) -> None:
    # Given Singles, of which some resolve while others come, and then a storm
    zones.deliver(*within(many(3), "c"))
    clock.at(5_000)
    assert told(zones.write()) == {}
    zones.deliver(*within(over(many(3)), "c"))
    zones.deliver(*within(many(10, first=10), "b"))
    # Then what fired before the threshold fell is counted, and nothing of it stays to be said
    clock.at(2 * DEBOUNCE)
    assert told(zones.write()) == {"zone": ("b", 100)}


def test_nothing_is_left_when_the_storm_closes(shown: Lab, clock: Clock) -> None:
    # Given a storm with counts and with a hint to keep; When it resolves and its time is over
    clock.at(10_000)
    shown.deliver(*within(over(many(19)), "b"), *within(over(many(1, first=19)), "c"))
    clock.at(10_000 + DEBOUNCE)
    shown.write()
    clock.at(10_000 + shown.rules.reopen_window)
    shown.write()
    # Then only counters of the shard stay
    assert shown.state() is None
    assert shown.key_kinds() == {"meta"}


def test_a_full_redis_counts_on(shown: Lab, clock: Clock) -> None:
    # Given an entry that waits when Redis is full
    entry = shown.accept(*within(over(many(1, first=19)), "c"), *within(many(5, first=30), "b"))
    fill(shown.client)
    # When it is taken in
    shown.ingest(entry)
    # Then it is counted
    assert shown.opened().causes.counts == {"zone": {"b": 24}}


def test_a_storm_without_such_labels_keeps_nothing(lab: Lab, clock: Clock) -> None:
    # Given alerts that have none of the labels; Then the text of their storm has no part for them
    lab.cause_labels = ZONES
    lab.deliver(*within(many(10), ""))
    lab.deliver(*within(over(many(2)), ""))
    plain = lab.client.get(StormKeys(STORM).text)
    assert lab.opened().causes == Causes()
    lab.cause_labels = ()
    lab.client.flushall()
    clock.at(0)
    lab.deliver(*many(10))
    assert lab.client.get(StormKeys(STORM).text) == plain
