"""The budget of Kubernetes writes: one bucket, storms before Singles, one pause for all, one probe at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import redis

from lua_scripts.budget import FAILURES, PROBE_MS, Budget, Health
from lua_scripts.keys import BUDGET
from tests.scripts.lab import Clock, fill


def test_many_at_once_get_no_more_than_the_bucket_holds(client: redis.Redis, clock: Clock) -> None:
    # Given a bucket of 20 tokens, and no time to fill it
    budget = Budget(client, 20)
    # When a hundred ask at once
    with ThreadPoolExecutor(32) as pool:
        grants = list(pool.map(lambda _: budget.take(1, urgent=True), range(100)))
    # Then twenty may go, and the others know how long to wait
    assert sum(grant.wait_ms == 0 for grant in grants) == 20
    assert all(0 < grant.wait_ms <= 50 for grant in grants if grant.wait_ms)


def test_singles_leave_half_of_the_bucket_to_storms(client: redis.Redis, clock: Clock) -> None:
    # Given a full bucket
    budget = Budget(client, 20)
    # When Singles take what they get, and then storms
    singles = sum(budget.take(1, urgent=False).wait_ms == 0 for _ in range(30))
    storms = sum(budget.take(1, urgent=True).wait_ms == 0 for _ in range(30))
    # Then each had half
    assert (singles, storms) == (10, 10)


def test_bucket_fills_with_the_servers_time(client: redis.Redis, clock: Clock) -> None:
    # Given an empty bucket
    budget = Budget(client, 20)
    assert [budget.take(10, urgent=True).wait_ms for _ in range(3)] == [0, 0, 500]
    # When a minute later somebody asks for more than a second's worth
    clock.advance(60_000)
    grants = [budget.take(10, urgent=True).wait_ms for _ in range(3)]
    # Then a second's worth is there, for a bucket holds no more
    assert grants == [0, 0, 500]


def test_what_one_worker_is_told_all_obey(client: redis.Redis, clock: Clock) -> None:
    # Given two workers, and a server that asked one of them for patience
    one, other = Budget(client, 20), Budget(client, 20)
    one.throttled(60_000)
    # When the other asks; Then it waits as well, and a success of a request under way does not end the pause
    assert other.take(1, urgent=True).wait_ms == 60_000
    one.succeeded()
    assert other.take(1, urgent=True).wait_ms == 60_000


def test_dead_server_is_probed_by_one_at_a_time(client: redis.Redis, clock: Clock) -> None:
    # Given a server that failed several times in a row
    budget = Budget(client, 20)
    for _ in range(FAILURES):
        budget.failed()
    assert budget.take(1, urgent=True).wait_ms == PROBE_MS
    # When the pause is over
    clock.advance(PROBE_MS)
    with ThreadPoolExecutor(16) as pool:
        grants = list(pool.map(lambda _: budget.take(1, urgent=True), range(16)))
    # Then one may go; and when it succeeds, all may
    assert sorted(grant.wait_ms == 0 for grant in grants) == [False] * 15 + [True]
    assert {grant.news for grant in grants} == {True}
    budget.succeeded()
    assert budget.health() == Health(0, 0)
    assert budget.take(1, urgent=True).wait_ms == 0


def test_full_redis_does_not_stop_it(client: redis.Redis, clock: Clock) -> None:
    # Given a Redis that is full
    budget = Budget(client, 20)
    fill(client)
    # When tokens are taken and outcomes noted; Then both go through
    assert budget.take(1, urgent=True).wait_ms == 0
    budget.throttled(60_000)
    assert budget.take(1, urgent=True).wait_ms == 60_000
    assert client.hget(BUDGET, "pu") is not None


def test_what_a_server_refuses_is_counted_in_a_bounded_place(client: redis.Redis, clock: Clock) -> None:
    # Given a server that refuses a thousand times, throttles and fails
    budget = Budget(client, 20)
    for _ in range(500):
        budget.refused(undefined=False)
        budget.refused(undefined=True)
        clock.advance(1)
    budget.throttled(60_000)
    budget.failed()
    # Then it is counted, with when our kind was first unknown, and what is kept does not grow
    health = budget.health()
    assert replace(health, paused_ms=0) == Health(
        failures=1, undefined_since_ms=clock.now - 500, refused=1000, throttled=1
    )
    assert client.hlen(BUDGET) <= 7
    # And whoever succeeds is to say so, and then all is well, but for the counts
    clock.advance(60_000)
    assert budget.take(1, urgent=True).news
    budget.succeeded()
    assert not budget.take(1, urgent=True).news
    assert budget.health() == Health(refused=1000, throttled=1)


def test_a_refusal_shows_that_the_server_is_back(client: redis.Redis, clock: Clock) -> None:
    # Given a server that failed several times in a row
    budget = Budget(client, 20)
    for _ in range(FAILURES):
        budget.failed()
    # When it refuses; Then nobody waits for it any more
    budget.refused(undefined=False)
    assert budget.take(1, urgent=True).wait_ms == 0
    assert budget.health() == Health(refused=1)
