"""Storms that wait for their turn to be written: no failure, nobody looks at them before, and Events come last."""

from __future__ import annotations

import pytest

from lua_scripts.keys import ShardKeys, shard_of
from lua_scripts.leases import NotClaimed, SingleOutcome
from tests.scripts.lab import STORM, Clock, Lab, firing, many, resolved

DEBOUNCE = 5_000


@pytest.fixture
def storm(lab: Lab, clock: Clock) -> Lab:
    """A storm whose first RR is due."""
    lab.deliver(*many(12))
    clock.advance(DEBOUNCE)
    return lab


def test_waiting_is_no_failure(storm: Lab, clock: Clock) -> None:
    # Given a storm whose write failed once
    storm.settle(storm.claimed(), phase="", uid="", retry_ms=700)
    clock.advance(700)
    # When its turn has not come, twice; Then that counts for nothing, and it is due again when it was told
    for _ in range(2):
        claim = storm.claimed()
        assert claim.failures == 1
        assert storm.settle(claim, phase="", uid="", retry_ms=90_000, waits=True) == "dirty"
        assert storm.opened().due == clock.now + 90_000
        clock.advance(90_000)


def test_singles_that_wait_have_not_failed(lab: Lab, clock: Clock) -> None:
    # Given a Single that is due, and whose turn has not come
    lab.deliver(firing("a"))
    clock.advance(DEBOUNCE)
    claim = lab.claimed()
    assert claim.singles is not None
    unwritten = [SingleOutcome(single.fingerprint, "") for single in claim.singles]
    lab.leases.settle_singles(STORM, claim.token, lab.rules, unwritten, 30_000, waits=True)
    # When it comes; Then nothing has failed
    clock.advance(30_000)
    assert lab.claimed().failures == 0


def test_nobody_looks_at_a_postponed_storm_before_its_turn(storm: Lab, clock: Clock) -> None:
    # Given a storm that is due, and published
    shard = shard_of(STORM)
    assert [sweep.storms for sweep in storm.due.sweep([shard], 60_000)] == [(STORM,)]
    flush_due = storm.opened()["fd"]
    # When it is postponed
    storm.due.postpone(STORM, 40_000)
    # Then it is found when its turn comes and not before, and was due all the time
    clock.advance(39_999)
    assert [sweep.storms for sweep in storm.due.sweep([shard], 60_000)] == [()]
    clock.advance(1)
    assert [sweep.storms for sweep in storm.due.sweep([shard], 60_000)] == [(STORM,)]
    assert storm.opened()["fd"] == flush_due
    # And one that is gone does not come back
    storm.due.postpone("3" + "c" * 15, 40_000)
    assert storm.client.zcard(ShardKeys(shard).due) == 1


def test_what_is_due_of_a_storm(lab: Lab, clock: Clock) -> None:
    # Given a Single; Then nothing of a storm is due
    lab.deliver(firing("a"))
    clock.advance(DEBOUNCE)
    assert lab.due.flush_due(STORM) == "no"
    # Given a storm
    lab.deliver(*many(12))
    clock.advance(DEBOUNCE)
    assert lab.due.flush_due(STORM) == "storm"
    # When it is written and calm; Then nothing is
    lab.settle(lab.claimed())
    assert lab.due.flush_due(STORM) == "no"
    # When it is written once more, and its Event must wait
    lab.deliver(firing("more"))
    clock.advance(DEBOUNCE)
    lab.settle(lab.claimed(), more=True, retry_ms=1_000, waits=True)
    clock.advance(1_000)
    assert lab.due.flush_due(STORM) == "events"
    # When it changes again; Then that is no less urgent than it was
    lab.deliver(firing("late"))
    clock.advance(DEBOUNCE)
    assert lab.due.flush_due(STORM) == "storm"
    # When whoever wrote it died; Then it goes first as well
    lab.claimed()
    clock.advance(60_000)
    assert lab.due.flush_due(STORM) == "storm"
    assert lab.due.flush_due("3" + "c" * 15) == "no"


def test_events_that_are_never_told_keep_no_storm_open(storm: Lab, clock: Clock) -> None:
    # Given a storm that is resolved and written, and whose Event the server does not take
    storm.settle(storm.claimed())
    storm.deliver(*(resolved(f"a{number}", 6_000) for number in range(12)))
    clock.advance(60_000)
    waiting = {"more": True, "retry_ms": 5_000, "waits": True}
    assert storm.settle(storm.claimed(), **waiting) == "dirty"
    clock.advance(5_000)
    assert storm.due.flush_due(STORM) == "events"
    assert storm.settle(storm.claimed(), **waiting) == "dirty"
    # When its time is over, Then it is forgotten
    clock.advance(storm.rules.reopen_window)
    assert storm.claim() == NotClaimed("closed")
