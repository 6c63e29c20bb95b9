"""sweep: who is told about what is due, at most so many at a time, and again where a message got lost."""

from __future__ import annotations

import pytest

from lua_scripts.due import MAX_PUBLISHED, OVERDUE_MS, WAKE_LAPSE_MS, DueCounts, Sweep
from lua_scripts.keys import ShardKeys, shard_of
from tests.scripts.lab import START, STORM, Clock, Lab, empty_again, fill, firing, many
from tests.support.waiting import at_once

SHARD = shard_of(STORM)
LAPSE_MS = 60_000
HOLD_MS = 5_000


def sweep(lab: Lab) -> Sweep:
    [found] = lab.due.sweep([SHARD], LAPSE_MS)
    return found


def test_empty_shard(lab: Lab, clock: Clock) -> None:
    assert sweep(lab) == Sweep(SHARD, START, 0, 0, False, 0, 0, (), ())
    assert lab.dump() == {}


def test_names_a_due_storm_once_until_the_mark_lapses(lab: Lab, clock: Clock) -> None:
    # Given a storm due at START + HOLD
    lab.deliver(firing("a"))
    # When the shard is swept before, at that time, soon after, and when the mark has lapsed
    clock.at(HOLD_MS - 1)
    before = sweep(lab)
    clock.at(HOLD_MS)
    first = sweep(lab)
    clock.at(HOLD_MS + LAPSE_MS - 1)
    marked = sweep(lab)
    clock.at(HOLD_MS + LAPSE_MS)
    lapsed = sweep(lab)
    # Then it is named when it is due, and again when the message must have got lost
    assert (before.due, before.storms) == (0, ())
    assert first == Sweep(SHARD, START + HOLD_MS, 0, 0, False, 1, START + HOLD_MS, (STORM,), ())
    assert (marked.storms, marked.overdue) == ((), (STORM,))
    assert (lapsed.storms, lapsed.overdue) == ((STORM,), (STORM,))


def test_overdue_begins_after_its_time(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a"))
    clock.at(HOLD_MS + OVERDUE_MS)
    assert sweep(lab).overdue == ()
    clock.advance(1)
    assert sweep(lab).overdue == (STORM,)


def test_claim_makes_room_for_the_next(lab: Lab, clock: Clock) -> None:
    # Given more due storms than may be published and unclaimed
    storms = [f"3{at:015x}" for at in range(MAX_PUBLISHED + 3)]
    for storm in storms:
        lab.deliver(firing("a"), storm=storm)
        clock.advance(1)
    clock.at(HOLD_MS + 100)
    # When the shard is swept, then two are claimed and it is swept again
    first, second = sweep(lab), sweep(lab)
    lab.write(storms[0])
    lab.write(storms[4])
    third = sweep(lab)
    # Then the longest due come first, and for every one claimed another follows
    assert first.storms == tuple(storms[:MAX_PUBLISHED])
    assert second.storms == ()
    assert third.storms == tuple(storms[MAX_PUBLISHED : MAX_PUBLISHED + 2])


def test_lost_wake_up_is_published_again(lab: Lab, clock: Clock) -> None:
    # Given an entry for which a wake-up was asked and got lost
    lab.accept(firing("a"))
    # When the shard is swept while it may still be on its way, then later, and right after
    clock.at(WAKE_LAPSE_MS)
    early = sweep(lab)
    clock.at(WAKE_LAPSE_MS + 1)
    late = sweep(lab)
    again = sweep(lab)
    # Then it is published once more, and not twice
    assert (early.wake, early.entries, early.oldest_ms) == (False, 1, START)
    assert (late.wake, again.wake) == (True, False)


def test_no_wake_up_while_somebody_drains(lab: Lab, clock: Clock) -> None:
    # Given entries that a worker drains
    for at in range(3):
        lab.accept(firing(f"a{at}"))
    clock.at(10_000)
    lab.inbox.take(SHARD)
    # When the shard is swept meanwhile
    clock.advance(WAKE_LAPSE_MS)
    # Then nobody else is woken
    assert not sweep(lab).wake


def test_inbox_without_a_mark_waits_a_second(lab: Lab, clock: Clock) -> None:
    lab.accept(firing("a"))
    lab.client.hdel(ShardKeys(SHARD).meta, "wk")
    clock.at(1000)
    assert not sweep(lab).wake
    clock.at(1001)
    assert sweep(lab).wake


def test_goes_on_when_redis_is_full(lab: Lab, clock: Clock) -> None:
    # Given a due storm and a forgotten entry in a full Redis
    lab.deliver(firing("a"))
    lab.accept(firing("b"))
    clock.at(HOLD_MS)
    fill(lab.client)
    # When the shard is swept
    found = sweep(lab)
    empty_again(lab.client)
    # Then both are named
    assert (found.storms, found.wake, found.entries) == ((STORM,), True, 1)


def test_100_threads_sweep_and_one_is_told(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a"))
    lab.accept(firing("b"))
    clock.at(HOLD_MS)
    found = at_once(*[lambda: sweep(lab)] * 100)
    assert sum(len(one.storms) for one in found) == 1
    assert sum(one.wake for one in found) == 1


def test_all_shards_in_one_call_and_the_figures_of_metrics(lab: Lab, clock: Clock) -> None:
    # Given due storms in three shards and one not due yet in a fourth
    for shard in (0, 9, 15):
        lab.deliver(firing("a"), storm=f"{shard:x}" + "0" * 15)
    clock.at(HOLD_MS)
    lab.deliver(*many(2), storm="5" + "0" * 15)
    clock.at(HOLD_MS + 700)
    # When all are swept, and counted (by the server's own time, long after)
    found = lab.due.sweep(range(16), LAPSE_MS)
    counts = lab.due.counts()
    # Then each shard answers for itself
    assert [one.shard for one in found] == list(range(16))
    assert {one.shard for one in found if one.storms} == {0, 9, 15}
    assert counts.open == 4
    assert lab.due.names(["0" + "0" * 15, "1" + "0" * 15]) == [lab.opened("0" + "0" * 15)["n"], ""]


@pytest.mark.parametrize("due", [False, True])
def test_counts_by_the_servers_time(lab: Lab, due: bool) -> None:
    lab.change_rules(single_hold=0 if due else 60_000)
    lab.deliver(firing("a"))
    counts = lab.due.counts()
    assert (counts.open, counts.due) == (1, int(due))
    assert counts.overdue_ms < 5000
    assert lab.due.names([]) == []
    assert isinstance(counts, DueCounts)
