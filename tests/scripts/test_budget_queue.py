"""The queue for the budget where much goes wrong: old Singles, storms that never come back, probes that take long."""

from __future__ import annotations

import redis

from lua_scripts.budget import FAILURES, PROBING_MS, Budget
from tests.scripts.lab import Clock

LONG_MS = 120_000
"""After so long a Single joins the queue of storms, as in budget.lua."""


def test_storms_are_not_sent_behind_singles_that_waited_long(client: redis.Redis, clock: Clock) -> None:
    # Given 300 Singles that waited for longer than Singles do, while storms took all there was
    budget = Budget(client, 20)
    for turn in range(LONG_MS // 5_000 + 2):
        while budget.take(2, urgent=True).wait_ms == 0:
            pass
        budget.take(2, urgent=True, storm_id=f"busy-{turn}")
        for number in range(300):
            budget.take(1, urgent=False, storm_id=f"single-{number}")
        clock.advance(5_000)
    # When a dozen storms come
    waits = [budget.take(2, urgent=True, storm_id=f"storm-{number}").wait_ms for number in range(12)]
    # Then they wait for each other and for Singles whose turn has come, and not for those that come in half a minute
    assert max(waits) <= 8_000
    assert sorted(waits) == waits


def test_a_storm_goes_before_its_time_when_those_before_it_never_came(client: redis.Redis, clock: Clock) -> None:
    # Given a hundred storms that were given turns, and all but the last of which are gone
    budget = Budget(client, 20)
    told = [budget.take(2, urgent=True, storm_id=f"storm-{number}").wait_ms for number in range(100)]
    assert told[-1] > 9_000
    # When their places are lost, and the last one asks
    clock.advance(told[-2] + 10_500)
    # Then it has not waited for them in vain
    assert budget.take(2, urgent=True, storm_id="storm-99").wait_ms == 0


def test_a_full_bucket_lets_the_next_ones_go_early(client: redis.Redis, clock: Clock) -> None:
    # Given three storms, the last of which has its turn in some tenths of a second
    budget = Budget(client, 20)
    while budget.take(2, urgent=True).wait_ms == 0:
        pass
    told = [budget.take(2, urgent=True, storm_id=f"storm-{number}").wait_ms for number in range(3)]
    assert told == sorted(told)
    # When the bucket has enough for all three before its turn, Then it goes; not while it has enough for two only
    budget.failed(more=-4)
    assert budget.take(2, urgent=True, storm_id="storm-2").wait_ms > 0
    budget.failed(more=-2)
    assert budget.take(2, urgent=True, storm_id="storm-2").wait_ms == 0


def test_a_probe_may_take_long_to_render(client: redis.Redis, clock: Clock) -> None:
    # Given a server that failed time and again, and a storm that may probe it
    budget = Budget(client, 20)
    for _ in range(FAILURES):
        budget.failed()
    clock.advance(2_500)
    assert budget.look(2, urgent=True, storm_id="large").wait_ms == 0
    # When it takes its time between being asked and being sent, Then it is still the one that probes
    clock.advance(PROBING_MS - 1_000)
    assert budget.look(2, urgent=True, storm_id="another").wait_ms > 0
    assert budget.take(2, urgent=True, storm_id="large").wait_ms == 0


def test_a_storm_that_needed_no_write_holds_up_no_single(client: redis.Redis, clock: Clock) -> None:
    # Given a storm that asked ahead of its claim, and then had nothing to write
    budget = Budget(client, 20)
    assert budget.look(2, urgent=True, storm_id="calm").wait_ms == 0
    # When a Single asks; Then it does not wait for it
    assert budget.take(1, urgent=False, storm_id="single").wait_ms == 0
