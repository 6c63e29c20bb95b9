"""A full Redis is drained, workers consume again once it has room, and one whose consumer stalls mends itself."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.broker import Queues, make_celery
from app.settings import load
from lua_scripts.inbox import Inbox
from lua_scripts.keys import ShardKeys
from tests.support.expect import expected, ledger, outcome, storm_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until

BEAT_S = 4.0
"""A worker that lives says so more often than this."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, {"WORKER_HEARTBEAT_FILE": str(tmp_path / "alive")}, workers=1) as running:
        yield running


def queued(stack: Stack) -> int:
    return sum(stack.redis.client.llen(queue) for queue in Queues.ALL)


def beat_age_s(stack: Stack) -> float:
    """How long ago the worker's file said that it lives."""
    return time.time() - (stack.folder / "alive").stat().st_mtime


def metric(stack: Stack, name: str) -> float:
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", stack.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])


def test_an_idle_worker_shows_that_it_lives(stack: Stack) -> None:
    # Given a worker with nothing to do
    first = (stack.folder / "alive").stat().st_mtime
    # Then it says so by its file and in the metrics, time and again
    wait_until(lambda: (stack.folder / "alive").stat().st_mtime > first, "a sign of life", deadline_s=15)
    wait_until(
        lambda: (
            "stormfold_worker_last_live" in stack.get("/metrics").body.decode()
            and time.time() - metric(stack, "stormfold_worker_last_live_timestamp_seconds") < BEAT_S
        ),
        "the metric to say so",
        deadline_s=15,
    )
    # And not when it is stopped
    stack.workers[0].freeze()
    wait_until(lambda: beat_age_s(stack) > 2 * BEAT_S, "the file to be old")
    stack.workers[0].thaw()
    wait_until(lambda: beat_age_s(stack) < BEAT_S, "the file to be fresh")


def test_a_worker_that_stopped_consuming_mends_itself(stack: Stack) -> None:
    # Given a worker whose consumer was taken from its queues while it lives on
    [worker] = stack.workers
    settings = load({"STORMFOLD_REDIS_URL": stack.redis.url})
    control = make_celery(settings, publisher=True).control
    for queue in Queues.ALL:
        replies = control.cancel_consumer(queue, reply=True, timeout=5)
        assert [next(iter(reply.values()))["ok"] for reply in replies] == [f"no longer consuming from {queue}"]
    # When alerts come
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    wait_until(lambda: queued(stack) > 0, "a message that nobody consumes")
    # Then the sweep does the work meanwhile
    stack.wait_received(scene.key(), 12)
    assert outcome(stack, scene.key()) == expected(ledger(new=12), storms=[storm_rr(alerts)])
    # and the worker notices, counts as dead until it is mended, and consumes again
    worker.wait_for_log("it connects anew")
    wait_until(lambda: queued(stack) == 0, "the queues to be consumed", describe=lambda: queued(stack))
    wait_until(lambda: beat_age_s(stack) < BEAT_S, "the worker to live again")
    assert worker.running
    later = scene.pods(12, "Later")
    stack.post(later)
    stack.wait_received(scene.key("Later"), 12, deadline_s=5)


@pytest.mark.parametrize("there_before", [True, False])
def test_a_full_redis_is_drained_and_consumed_from_once_it_has_room(tmp_path: Path, there_before: bool) -> None:
    # Given a backlog, and a Redis that is over its limit
    with Stack(tmp_path, workers=2 if there_before else 0) as stack:
        for worker in stack.workers:
            worker.freeze()
        scene = new_scene()
        first = scene.pods(40, "First")
        for alert in first:
            stack.post([alert])
        stack.redis.client.setrange("ballast", 20 << 20, "x")
        stack.redis.client.config_set("maxmemory", 10 << 20)
        refused = wait_until(
            lambda: (answer := stack.post_raw(b'{"alerts": []}')).status == 503 and answer, "intake to stop"
        )
        assert refused.json["type"] == "urn:stormfold:problem:redis-out-of-memory"
        # When workers go on, or start
        for worker in stack.workers:
            worker.thaw()
        if not there_before:
            stack.start_worker(wait=False)
            stack.start_worker(wait=False)
        # Then they drain it and write, full as it is
        wait_until(lambda: stack.pending() == 0, "the inbox to be drained", deadline_s=60, describe=stack.pending)
        stack.wait_received(scene.key("First"), 40)
        assert outcome(stack, scene.key("First")) == expected(ledger(new=40), storms=[storm_rr(first)])
        assert stack.redis.refused_for_memory() > 0
        # When it has room again
        stack.redis.client.delete("ballast")
        stack.redis.client.config_set("maxmemory", 64 << 20)
        wait_until(lambda: stack.post_raw(b'{"alerts": []}').status == 202, "intake to go on")
        # Then the same workers consume, and neither has stalled
        for kind in ("Second", "Third"):
            later = scene.pods(12, kind)
            stack.post(later)
            stack.wait_received(scene.key(kind), 12)
            assert outcome(stack, scene.key(kind)) == expected(ledger(new=12), storms=[storm_rr(later)])
        wait_until(lambda: queued(stack) == 0, "the queues to be consumed", describe=lambda: queued(stack))
        assert [worker.running for worker in stack.workers] == [True, True]
        assert Inbox(stack.redis.client).totals().balanced


def test_a_corrupted_counter_shows_in_the_metrics(stack: Stack) -> None:
    # Given a ledger that balances
    wait_until(lambda: metric(stack, "stormfold_ledger_checked_timestamp_seconds") > 0, "a round", deadline_s=60)
    assert metric(stack, "stormfold_ledger_unbalanced") == 0
    # When a hand changes a counter
    stack.redis.client.hincrby(ShardKeys(5).meta, "nw", 1)
    # Then the sweep finds it
    wait_until(lambda: metric(stack, "stormfold_ledger_unbalanced") == 1, "the finding", deadline_s=60, poll_s=0.5)
    assert "the ledger does not balance" in stack.workers[0].log()
