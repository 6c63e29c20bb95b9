"""The budget of Kubernetes writes: one bucket, storms before Singles, one pause for all, one probe at a time."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import redis

from lua_scripts.budget import FAILURES, PROBE_MS, PROBING_MS, Budget, Health
from lua_scripts.keys import BUDGET, BUDGET_QUEUES, BUDGET_SINCE
from tests.scripts.lab import Clock, fill


def shown(client: redis.Redis, budget: Budget) -> Health:
    """What metrics show, but for what depends on the time: that is by the server's true clock."""
    waiting = sum(client.zcount(queue, 0, "+inf") for queue in BUDGET_QUEUES)
    return replace(budget.health(), paused_ms=0, waiting_ms=0, waiting=waiting)


def test_many_at_once_get_no_more_than_the_bucket_holds(client: redis.Redis, clock: Clock) -> None:
    # Given a bucket of 20 tokens, half a second's worth, and no time to fill it
    budget = Budget(client, 40)
    # When a hundred ask at once
    with ThreadPoolExecutor(32) as pool:
        grants = list(pool.map(lambda _: budget.take(1, urgent=True), range(100)))
    # Then twenty may go, and the others know how long to wait
    assert sum(grant.wait_ms == 0 for grant in grants) == 20
    assert all(0 < grant.wait_ms <= 25 for grant in grants if grant.wait_ms)


def test_singles_leave_half_of_the_bucket_to_storms(client: redis.Redis, clock: Clock) -> None:
    # Given a full bucket of 20
    budget = Budget(client, 40)
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
    assert sorted(grant.wait_ms for grant in grants) == [0] + [PROBE_MS] * 15
    assert {grant.news for grant in grants} == {True}
    # And whoever it is, it keeps the others away until it tells, or is long gone
    clock.advance(PROBING_MS - 1)
    assert budget.take(1, urgent=True).wait_ms == 1
    # And when it fails, another one may go soon; when that succeeds, all may
    assert budget.failed() == PROBE_MS
    clock.advance(PROBE_MS)
    assert [budget.take(1, urgent=True).wait_ms for _ in range(2)] == [0, PROBE_MS]
    budget.succeeded()
    assert budget.health() == Health(writes=2)
    assert budget.take(1, urgent=True).wait_ms == 0


def test_full_redis_does_not_stop_it(client: redis.Redis, clock: Clock) -> None:
    # Given a Redis that is full
    budget = Budget(client, 20)
    fill(client)
    # When tokens are taken and outcomes noted; Then both go through
    assert budget.take(1, urgent=True).wait_ms == 0
    budget.throttled(60_000)
    assert budget.take(1, urgent=True, storm_id="a").wait_ms == 60_000
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
    assert shown(client, budget) == Health(failures=1, undefined_since_ms=clock.now - 500, refused=1000, throttled=1)
    assert client.hlen(BUDGET) <= 9
    # And whoever succeeds is to say so, and then all is well, but for the counts
    clock.advance(60_000)
    assert budget.take(1, urgent=True).news
    budget.succeeded()
    assert not budget.take(1, urgent=True).news
    assert budget.health() == Health(refused=1000, throttled=1, writes=2)


def test_a_refusal_shows_that_the_server_is_back(client: redis.Redis, clock: Clock) -> None:
    # Given a server that failed several times in a row
    budget = Budget(client, 20)
    for _ in range(FAILURES):
        budget.failed()
    # When it refuses; Then nobody waits for it any more
    budget.refused(undefined=False)
    assert budget.take(1, urgent=True).wait_ms == 0
    assert budget.health() == Health(refused=1, writes=1)


def test_those_turned_away_have_turns_of_their_own(client: redis.Redis, clock: Clock) -> None:
    # Given 100 storms that ask at once for two writes each, of a budget of 20 a second
    budget = Budget(client, 20)
    told = [budget.take(2, urgent=True, storm_id=f"s{number:02d}").wait_ms for number in range(100)]
    # Then the first five may go, and each other has its turn a tenth of a second after the one before
    assert told == [0] * 5 + [100 * (number + 1) for number in range(95)]
    assert shown(client, budget) == Health(writes=10, waiting=95)
    # And whoever asks before it is told the same once more, and whoever comes late the end of the queue
    clock.advance(1)
    assert budget.take(2, urgent=True, storm_id="s50").wait_ms == told[50] - 1
    assert budget.take(2, urgent=True, storm_id="late").wait_ms == told[99] + 100 - 1
    # When each asks again at its turn; Then it may go
    clock.advance(-1)
    for number in range(5, 100):
        clock.advance(100)
        assert budget.take(2, urgent=True, storm_id=f"s{number:02d}").wait_ms == 0
    assert shown(client, budget) == Health(writes=200, waiting=1)
    clock.advance(100)
    assert budget.take(2, urgent=True, storm_id="late").wait_ms == 0
    assert budget.health() == Health(writes=202)
    assert client.exists(*BUDGET_QUEUES, BUDGET_SINCE) == 0


def test_what_is_taken_ahead_is_kept_for_the_take(client: redis.Redis, clock: Clock) -> None:
    # Given a bucket that holds two writes of a storm
    budget = Budget(client, 4)
    # When three look, some more than once
    told = [budget.look(2, urgent=True, storm_id=who).wait_ms for who in ("a", "b", "c", "a", "c")]
    # Then two may go, the third has its turn, and nobody else gets what is kept for them
    assert told == [0, 0, 500, 0, 500]
    assert shown(client, budget) == Health(waiting=1)
    assert budget.take(2, urgent=True, storm_id="d").wait_ms == 1000
    # And their takes cost no more, once each
    assert [budget.take(2, urgent=True, storm_id=who).wait_ms for who in ("a", "b")] == [0, 0]
    assert budget.take(2, urgent=True, storm_id="a").wait_ms == 1500
    assert shown(client, budget) == Health(writes=4, waiting=3)


def test_what_nobody_uses_is_not_kept_for_ever(client: redis.Redis, clock: Clock) -> None:
    # Given somebody that looked and never came
    budget = Budget(client, 4)
    assert budget.look(2, urgent=True, storm_id="a").wait_ms == 0
    # When it comes later than it should; Then it takes anew
    clock.advance(501)
    assert [budget.take(2, urgent=True, storm_id=who).wait_ms for who in ("a", "a", "b")] == [0, 0, 500]
    # When another one comes long after; Then it finds a full bucket, and nothing is left of the first
    clock.advance(60_000)
    assert [budget.take(2, urgent=True, storm_id=who).wait_ms for who in ("b", "c", "d")] == [0, 0, 500]
    assert client.zscore(BUDGET_QUEUES[0], "a") is None


def test_whoever_looked_first_probes(client: redis.Redis, clock: Clock) -> None:
    # Given a server that does not know our kind, and a pause that is over
    budget = Budget(client, 20)
    budget.refused(undefined=True)
    clock.advance(PROBE_MS)
    # When some look; Then one of them may go, and does
    assert [budget.look(2, urgent=True, storm_id=who).wait_ms for who in ("a", "b")] == [0, PROBE_MS]
    assert [budget.take(2, urgent=True, storm_id=who).wait_ms for who in ("b", "a")] == [PROBE_MS, 0]


def test_singles_wait_until_no_storm_does_and_not_for_ever(client: redis.Redis, clock: Clock) -> None:
    # Given storms without end, and a Single
    budget = Budget(client, 20)
    went: list[int] = []
    waits = {f"s{number}": 0 for number in range(50)} | {"single": 0}
    # When all ask at their turns for five minutes
    for tick in range(3000):
        for who in waits:
            waits[who] -= 100
            if waits[who] <= 0:
                waits[who] = budget.take(2, urgent=who != "single", storm_id=who).wait_ms
                if who == "single" and waits[who] == 0:
                    went.append(tick)
        clock.advance(100)
    # Then it has waited for two minutes each time, and then had its share
    assert 2 <= len(went) <= 3
    assert all(1190 <= later - earlier <= 1300 for earlier, later in itertools.pairwise([0, *went]))


def test_a_storm_that_has_its_tokens_keeps_no_single_waiting(client: redis.Redis, clock: Clock) -> None:
    # Given a bucket of 20, and a storm that looked and has not written yet, be it that its worker died
    budget = Budget(client, 40)
    assert budget.look(2, urgent=True, storm_id="storm").wait_ms == 0
    # When a Single asks; Then it may go, for its half of the bucket is there
    assert budget.take(2, urgent=False, storm_id="single").wait_ms == 0


def test_a_storm_that_is_late_keeps_singles_waiting_for_no_more_than_its_tokens(
    client: redis.Redis, clock: Clock
) -> None:
    # Given a bucket of 20 that is empty, and a storm that was told its turn and does not come
    budget = Budget(client, 40)
    while budget.take(2, urgent=True, storm_id="storm").wait_ms == 0:
        pass
    # When a Single asks before that turn and at it; Then it waits until there is enough for both and the half of storms
    assert budget.take(2, urgent=False, storm_id="single").wait_ms >= 300
    clock.advance(51)
    wait_ms = budget.take(2, urgent=False, storm_id="single").wait_ms
    assert wait_ms >= 200
    # And then it goes, with the storm's tokens left in the bucket
    clock.advance(wait_ms + 50)
    assert [budget.take(2, urgent=False, storm_id="single").wait_ms] == [0]
    assert budget.take(2, urgent=True, storm_id="storm").wait_ms == 0


def test_whoever_never_comes_back_loses_its_turn(client: redis.Redis, clock: Clock) -> None:
    # Given some with a turn
    budget = Budget(client, 2)
    for number in range(10):
        budget.take(2, urgent=True, storm_id=f"s{number}")
    assert shown(client, budget).waiting == 8
    # When they have not come long after it, and another one asks; Then it is alone
    clock.advance(60_000)
    assert budget.take(2, urgent=True, storm_id="other").wait_ms == 0
    assert budget.health() == Health(writes=6)


def test_a_pause_is_followed_by_one_turn_after_the_other(client: redis.Redis, clock: Clock) -> None:
    # Given a server that does not know our kind
    budget = Budget(client, 20)
    assert budget.refused(undefined=True) == PROBE_MS
    # When storms ask; Then all wait for the probe, one after the other
    told = [budget.take(2, urgent=True, storm_id=f"s{number}").wait_ms for number in range(5)]
    assert told == [PROBE_MS + 100 * number for number in range(5)]
    # When one probes and finds nothing new; Then the others wait for the next
    clock.advance(PROBE_MS)
    assert budget.take(2, urgent=True, storm_id="s0").wait_ms == 0
    assert budget.refused(undefined=True) == PROBE_MS
    clock.advance(100)
    assert budget.take(2, urgent=True, storm_id="s1").wait_ms >= PROBE_MS - 100
    # When it is installed; Then it goes on at once, at the budget's pace
    clock.advance(PROBE_MS)
    assert budget.take(2, urgent=True, storm_id="s1").wait_ms == 0
    assert budget.succeeded() == 0
    assert [budget.take(2, urgent=True, storm_id=f"s{number}").wait_ms for number in (2, 3, 4)] == [0, 0, 0]


def test_what_was_sent_beyond_what_was_asked_for_is_taken_too(client: redis.Redis, clock: Clock) -> None:
    # Given a full bucket of ten
    budget = Budget(client, 20)
    budget.take(2, urgent=True)
    # When four more were sent, and another one sent nothing of its two
    budget.succeeded(more=4)
    budget.take(2, urgent=True)
    budget.failed(more=-2)
    # Then that is what is counted, and what is left
    assert budget.health() == Health(failures=1, writes=6)
    assert [budget.take(2, urgent=True).wait_ms for _ in range(3)] == [0, 0, 100]


def test_metrics_show_who_waits_and_not_who_never_came(client: redis.Redis) -> None:
    # Given one that was turned away, by the server's own clock
    budget = Budget(client, 4)
    for who in ("a", "b", "c"):
        budget.take(2, urgent=True, storm_id=who)
    # Then it is seen to wait, as long as its turn may still come
    assert budget.health().waiting == 1
    client.zadd(BUDGET_QUEUES[0], {"c": 1_000})
    seen = budget.health()
    assert (seen.waiting, seen.waiting_ms) == (0, 0)
