"""When Redis hangs, is gone, is full or may evict: 503 within a second, the reason told, and back by itself."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from lua_scripts.inbox import Inbox
from lua_scripts.memory import read_memory
from lua_scripts.records import Ledger
from tests.support.stack import Stack
from tests.support.waiting import at_once, wait_until
from tests.support.webhook import Alert, Answer, at, body_of, request

BODY = body_of([Alert({"alertname": "A", "namespace": "shop", "pod": "cart-1"}, at(0))])


def _timed_post(stack: Stack) -> tuple[Answer, float]:
    begun = time.monotonic()
    answer = stack.post_raw(BODY)
    return answer, time.monotonic() - begun


def _assert_refused_in_time(stack: Stack, kind: str, requests: int = 100) -> None:
    """So many webhooks at once are all refused for the reason, each within a second."""
    answers = at_once(*[partial(_timed_post, stack)] * requests)
    seen = Counter((answer.status, answer.json["type"], answer.headers["retry-after"]) for answer, _ in answers)
    assert seen == {(503, f"urn:stormfold:problem:{kind}", "1"): requests}
    assert max(seconds for _, seconds in answers) < 1.0


def _assert_recovers(stack: Stack) -> None:
    wait_until(lambda: stack.post_raw(BODY).status == 202, "webhooks to be accepted again", deadline_s=10)


def test_a_redis_that_hangs(stack: Stack) -> None:
    # Given
    assert stack.post_raw(BODY).status == 202
    stack.redis.freeze()
    # When / Then: at first contact, while the breaker refuses, and when it probes
    _assert_refused_in_time(stack, "redis-timeout")
    _assert_refused_in_time(stack, "redis-timeout")
    wait_until(lambda: _timed_post(stack)[1] > 0.2, "a probe of the breaker", deadline_s=5)
    _assert_refused_in_time(stack, "redis-timeout")
    # And the rest of the process goes on
    assert stack.get("/healthz").status == 200
    assert (stack.get("/readyz").status, stack.get("/").status, stack.get("/api/v1/storms").status) == (503, 503, 503)
    assert "stormfold_redis_up 0.0" in stack.get("/metrics").body.decode()
    # And it comes back by itself
    stack.redis.thaw()
    _assert_recovers(stack)
    assert stack.get("/readyz").status == 200


def test_health_is_told_while_a_hundred_webhooks_wait(stack: Stack) -> None:
    # Given
    stack.redis.freeze()

    def health() -> tuple[Answer, float]:
        begun = time.monotonic()
        answer = stack.get("/healthz")
        return answer, time.monotonic() - begun

    # When
    *webhooks, (answer, seconds) = at_once(*[partial(_timed_post, stack)] * 100, health)
    # Then
    assert {webhook.status for webhook, _ in webhooks} == {503}
    assert answer.status == 200
    assert seconds < 1.0


def test_a_redis_that_is_gone(stack: Stack) -> None:
    # Given
    assert stack.post_raw(BODY).status == 202
    stack.redis.kill()
    # When / Then
    _assert_refused_in_time(stack, "redis-unreachable")
    assert stack.get("/readyz").json["type"] == "urn:stormfold:problem:redis-unreachable"
    # And when it is back, all that was confirmed is there
    stack.redis.start()
    _assert_recovers(stack)
    assert Inbox(stack.redis.client).totals() == Ledger(received=2, pending=2)


def test_a_redis_that_is_full_refuses_without_a_trace(stack: Stack) -> None:
    # Given
    assert stack.post_raw(BODY).status == 202
    stack.redis.client.config_set("maxmemory", "500kb")
    # When / Then
    _assert_refused_in_time(stack, "redis-out-of-memory")
    assert Inbox(stack.redis.client).totals() == Ledger(received=1, pending=1)
    # And the page and the API go on
    assert (stack.get("/").status, stack.get("/api/v1/storms").status) == (200, 200)
    # And when there is room again
    stack.redis.client.config_set("maxmemory", "64mb")
    _assert_recovers(stack)


def test_intake_ends_while_there_is_still_room_to_drain(stack: Stack) -> None:
    # Given a Redis that would take the write, but has less room than draining may need
    memory = read_memory(stack.redis.client)
    stack.redis.client.config_set("maxmemory", memory.used + 512 * 1024)
    wait_until(lambda: stack.post_raw(BODY).status == 503, "webhooks to be refused", deadline_s=5)
    before = Inbox(stack.redis.client).totals()
    # When
    _assert_refused_in_time(stack, "redis-out-of-memory", requests=10)
    # Then nothing more is kept, and Redis itself refused nothing
    assert Inbox(stack.redis.client).totals() == before
    assert stack.redis.refused_for_memory() == 0


def test_a_delivery_is_refused_that_would_fill_redis_as_state(stack: Stack) -> None:
    # Given room for the compressed entries of 5,000 storm keys, but not for their storms
    memory = read_memory(stack.redis.client)
    stack.redis.client.config_set("maxmemory", memory.used + (8 << 20))
    many = body_of([Alert({"alertname": f"A{n}", "namespace": "shop", "pod": "cart-1"}, at(0)) for n in range(5000)])
    assert stack.post_raw(BODY).status == 202
    # When they come in one delivery
    answer = stack.post_raw(many)
    # Then it is refused as a whole, and others are not
    assert (answer.status, answer.json["type"]) == (503, "urn:stormfold:problem:redis-out-of-memory")
    assert "ADMIT_MEMORY" in answer.json["detail"]
    assert Inbox(stack.redis.client).totals() == Ledger(received=1, pending=1)
    _assert_recovers(stack)
    # And once there is room it comes in
    stack.redis.client.config_set("maxmemory", memory.used + (64 << 20))
    wait_until(lambda: stack.post_raw(many).status == 202, "the large delivery to be accepted", deadline_s=5)


def test_what_waits_counts_as_the_state_that_it_will_be(stack: Stack) -> None:
    # Given a backlog of storm keys, each in a delivery of its own, in a Redis with room for about 4,000 storms
    memory = read_memory(stack.redis.client)
    stack.redis.client.config_set("maxmemory", memory.used + (10 << 20))

    def post(number: int) -> int:
        alerts = [Alert({"alertname": f"A{number}-{n}", "namespace": "shop", "pod": "x"}, at(0)) for n in range(100)]
        return stack.post_raw(body_of(alerts)).status

    # When they go on coming, and no worker takes them in
    statuses = [post(number) for number in range(60)]
    # Then intake stops long before Redis is full, at about that many, and all it took is there
    accepted = statuses.index(503)
    assert set(statuses[accepted:]) == {503}
    assert 15 < accepted < 50
    assert Inbox(stack.redis.client).totals() == Ledger(received=100 * accepted, pending=100 * accepted)
    assert stack.redis.refused_for_memory() == 0
    assert read_memory(stack.redis.client).used < memory.used + (5 << 20)


def test_resolved_alerts_come_in_beyond_the_share(stack: Stack) -> None:
    # Given a Redis that is used to 90 %
    stack.redis.client.setrange("ballast", 14 << 20, "x")
    used = read_memory(stack.redis.client).used
    stack.redis.client.config_set("maxmemory", used * 10 // 9)
    over = [Alert({"alertname": "A", "namespace": "shop", "pod": "cart-1"}, at(0), ends_at=at(10))]
    wait_until(lambda: stack.post_raw(BODY).status == 503, "what fires to be refused", deadline_s=5)
    # Then what only frees is not
    assert stack.post_raw(body_of(over)).status == 202


def test_an_inbox_that_nobody_drains_stops_intake(tmp_path: Path) -> None:
    # Given alerts that wait, of which none may be older than a second, and no limit of memory
    with Stack(tmp_path, {"ADMIT_AGE": "1s"}, workers=0) as stack:
        stack.redis.client.config_set("maxmemory", 0)
        assert stack.post_raw(BODY).status == 202
        # When the first one is older
        refused = wait_until(
            lambda: (answer := stack.post_raw(BODY)).status == 503 and answer, "intake to stop", deadline_s=5
        )
        # Then the problem says so, and the process is ready all the same, with a warning
        assert refused.json["type"] == "urn:stormfold:problem:overloaded"
        assert "workers do not keep up" in refused.json["detail"]
        assert refused.headers["retry-after"] == "1"
        ready = stack.get("/readyz")
        assert ready.status == 200
        assert ["maxmemory" in warning for warning in ready.json["warnings"]] == [True]
        # And when a worker has taken them in
        stack.start_worker()
        _assert_recovers(stack)


def test_a_redis_that_may_evict(stack: Stack) -> None:
    # Given a web process that starts while its Redis may evict
    stack.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    stack.web.kill()
    stack.web.start()
    wait_until(partial(_healthy, stack), "the web process to answer")
    # When / Then
    _assert_refused_in_time(stack, "redis-unsafe", requests=10)
    problem = stack.get("/readyz")
    assert (problem.status, problem.json["type"]) == (503, "urn:stormfold:problem:redis-unsafe")
    assert "maxmemory-policy allkeys-lru" in problem.json["detail"]
    assert Inbox(stack.redis.client).totals() == Ledger()
    # And when it is mended, without a restart
    stack.redis.client.config_set("maxmemory-policy", "noeviction")
    _assert_recovers(stack)
    assert stack.get("/readyz").status == 200


def _healthy(stack: Stack) -> bool:
    try:
        return request(stack.port, "GET", "/healthz").status == 200
    except OSError:
        return False


def test_the_web_process_starts_while_redis_hangs(stack: Stack) -> None:
    # Given
    stack.web.kill()
    stack.redis.freeze()
    # When
    stack.web.start()
    wait_until(partial(_healthy, stack), "the web process to answer")
    # Then
    _assert_refused_in_time(stack, "redis-timeout")
    stack.redis.thaw()
    _assert_recovers(stack)


@pytest.mark.parametrize("harm", ["freeze", "kill"])
def test_a_broker_that_is_away_changes_nothing(tmp_path: Path, harm: str) -> None:
    # Given
    with Stack(tmp_path, workers=0, separate_broker=True) as stack:
        assert stack.broker is not None
        getattr(stack.broker, harm)()
        # When
        answers = at_once(*[partial(_timed_post, stack)] * 50)
        # Then
        assert Counter(answer.status for answer, _ in answers) == {202: 50}
        assert max(seconds for _, seconds in answers) < 1.0
        assert Inbox(stack.redis.client).totals() == Ledger(received=50, pending=50)
        wait_until(
            lambda: 'stormfold_wakeups_total{outcome="failed"} 1.0' in stack.get("/metrics").body.decode(),
            "the failed wake-up to be counted",
        )
