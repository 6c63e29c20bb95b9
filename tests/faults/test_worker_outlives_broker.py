"""A worker outlives what its broker does to it, and where it is told to end, it ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.broker import Queues
from tests.support.children import children, send
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.processes import Process
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, workers=1) as stack:
        yield stack


def messages(stack: Stack) -> int:
    """Those that wait in a queue."""
    return sum(int(stack.redis.client.llen(queue)) for queue in Queues.ALL)


def unacknowledged(stack: Stack) -> int:
    return int(stack.redis.client.hlen("unacked"))


def with_one_task_under_way(stack: Stack, scene: Scene) -> tuple[Process, list[int], Alert]:
    """The worker, its pool, which is stopped, and the alert whose ingest the worker has fetched."""
    [worker] = stack.workers
    wait_until(lambda: messages(stack) == unacknowledged(stack) == 0, "what a worker does first to be done")
    pool = children(worker.pid)
    send(pool, signal.SIGSTOP)
    alert = scene.pod_alert("db-0", "First")
    stack.post([alert])
    wait_until(lambda: unacknowledged(stack) >= 1, "a task under way", describe=lambda: messages(stack))
    return worker, pool, alert


def assert_it_goes_on(stack: Stack, scene: Scene, worker: Process, first: Alert) -> None:
    wait_until(lambda: stack.get("/readyz").status == 200, "the web process to be ready again")
    later = scene.pods(12, "Later")
    stack.post(later)
    stack.wait_received(scene.key("First"), 1)
    stack.wait_received(scene.key("Later"), 12)
    assert outcome(stack, scene.key("First")) == expected(ledger(new=1), singles=[single_rr(first)])
    assert outcome(stack, scene.key("Later")) == expected(ledger(new=12), storms=[storm_rr(later)])
    wait_until(lambda: messages(stack) == 0, "the worker to consume what the broker holds", describe=worker.log)
    assert worker.running
    assert "Unrecoverable error" not in worker.log()


def test_redis_goes_away_while_a_task_is_under_way(stack: Stack) -> None:
    # Given a worker with a task that it has not acknowledged, and that looks for more
    scene = new_scene()
    worker, pool, alert = with_one_task_under_way(stack, scene)
    # When Redis is killed, and comes back once the worker has noticed
    stack.redis.kill()
    worker.wait_for_log("Trying again in")
    stack.redis.start()
    send(pool, signal.SIGCONT)
    # Then the same worker goes on and nothing is missing
    assert_it_goes_on(stack, scene, worker, alert)


def test_full_redis_refuses_an_acknowledgement(stack: Stack) -> None:
    # Given a worker with a task that it has not acknowledged
    scene = new_scene()
    worker, pool, alert = with_one_task_under_way(stack, scene)
    # When Redis is full as it does so, and has room again once the worker has noticed
    stack.redis.client.config_set("maxmemory", 1_000_000)
    send(pool, signal.SIGCONT)
    worker.wait_for_log("OutOfMemoryError")
    stack.redis.client.config_set("maxmemory", 64 * 1024 * 1024)
    # Then the same worker goes on and nothing is missing
    assert_it_goes_on(stack, scene, worker, alert)


def test_worker_ends_although_its_pool_hangs(stack: Stack) -> None:
    # Given a worker whose pool does nothing any more
    scene = new_scene()
    worker, pool, alert = with_one_task_under_way(stack, scene)
    # When it is told to end
    worker.send(signal.SIGTERM)
    # Then it does, within the half minute that orchestrators grant, and leaves nobody behind
    wait_until(lambda: not worker.running, "the worker to end", deadline_s=25, describe=worker.log)
    assert [pid for pid in pool if Path(f"/proc/{pid}").exists()] == []
    # And another one does its work
    stack.workers.remove(worker)
    stack.start_worker()
    stack.wait_received(scene.key("First"), 1)
    assert outcome(stack, scene.key("First")) == expected(ledger(new=1), singles=[single_rr(alert)])


GIVES_UP_ONCE = """
import pathlib, sys
from app.cli import main
from tasks import consumer, worker
worker.SOUND_S = 0.0
before = pathlib.Path("gave-up")
def give_up(self):
    if not before.exists():
        before.touch()
        raise StopIteration("once")
consumer.Consumer.on_ready = give_up
sys.argv = ["stormfold", "worker", "--name", "anew"]
main()
"""


def test_worker_that_celery_gives_up_starts_anew(stack: Stack) -> None:
    # Given alerts, and a worker in whose event loop something fails that Celery does not foresee
    stack.stop_worker(stack.workers[0])
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    worker = Process("anew", [sys.executable, "-c", GIVES_UP_ONCE], environ=stack.environ, folder=stack.folder)
    stack.workers.append(worker.start())
    # When that happens
    worker.wait_for_log("starting this worker anew")
    # Then the same process begins again and works
    stack.wait_received(scene.key(), 12)
    assert outcome(stack, scene.key()) == expected(ledger(new=12), storms=[storm_rr(alerts)])
    wait_until(lambda: messages(stack) == 0, "the worker to consume what the broker holds", describe=worker.log)
    assert worker.running
    # And once told to end, it ends
    assert stack.stop_worker(worker) == 0
