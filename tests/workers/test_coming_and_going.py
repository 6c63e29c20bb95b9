"""Workers, broker and Redis come and go under load, and nothing is lost, doubled or left waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert


class Load:
    """Posts one webhook after the other in a thread of its own; ``alerts`` are those that were accepted."""

    def __init__(self, stack: Stack, make: Callable[[int], list[Alert]]) -> None:
        self.alerts: list[Alert] = []
        self._stack, self._make = stack, make
        self._over = threading.Event()
        self._failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                alerts = self._make(len(self.alerts))
                self._stack.post(alerts)
                self.alerts += alerts
        except (AssertionError, OSError) as failure:
            self._failures.append(failure)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert self._failures == []

    def wait_for(self, count: int) -> None:
        wait_until(lambda: self._failures or len(self.alerts) >= count, f"{count} alerts posted")


def test_workers_come_and_go_under_load(tmp_path: Path) -> None:
    # Given two workers under load (and a hold that outlasts the first five alerts on the slowest machine)
    with Stack(tmp_path, {"SINGLE_HOLD": "25s"}) as stack:
        scene = new_scene()
        with Load(stack, lambda first: scene.pods(2, first=first)) as load:
            load.wait_for(20)
            # When one is killed, one joins, one leaves in order, and another is killed while it starts
            stack.workers.pop(0).kill()
            joined = stack.start_worker()
            assert stack.stop_worker(stack.workers[0]) == 0
            stack.start_worker(wait=False).kill()
            load.wait_for(len(load.alerts) + 20)
            stack.start_worker()
            assert joined.running
        posted = load.alerts
        stack.wait_received(scene.key(), len(posted))
        # Then every alert counts exactly once, in one object
        found = outcome(stack, scene.key())
        wanted = expected(ledger(new=len(posted)), storms=[storm_rr(posted)])
        if len(posted) > 500:
            for view in (*found["storms"], *wanted["storms"]):
                view.pop("resources")
        assert found == wanted


def test_no_worker_at_all_for_a_while(tmp_path: Path) -> None:
    # Given a web process and no worker
    with Stack(tmp_path, workers=0) as stack:
        scene = new_scene()
        alerts = scene.pods(15)
        # When alerts come, and only then two workers
        for alert in alerts:
            stack.post([alert])
        assert stack.pending() == 15
        assert stack.all_objects() == []
        ledger_before = stack.api("storms")["ledger"]
        stack.start_worker(wait=False)
        stack.start_worker(wait=False)
        stack.wait_received(scene.key(), 15)
        # Then they were accounted for as pending, and are one storm now
        assert ledger_before == dict.fromkeys(ledger_before, 0) | {"received": 15, "pending": 15}
        assert outcome(stack, scene.key()) == expected(ledger(new=15), storms=[storm_rr(alerts)])


def test_broker_is_down_and_comes_back(tmp_path: Path) -> None:
    # Given a broker apart from the Redis that keeps the state
    with Stack(tmp_path, separate_broker=True) as stack:
        assert stack.broker is not None
        scene = new_scene()
        before, after, lone = scene.pods(12, "Before"), scene.pods(12, "After"), scene.pod_alert("db-0", "Lone")
        stack.post(before)
        stack.wait_received(scene.key("Before"), 12)
        # When the broker is killed
        stack.broker.kill()
        # Then every alert is accepted all the same, and the workers drain and write by themselves, more than once
        for number in range(2):
            during = scene.pods(12, f"During{number}")
            answers = [stack.post([alert]) for alert in during]
            assert [answer["accepted"] for answer in answers] == [1] * 12
            stack.wait_received(scene.key(f"During{number}"), 12)
            assert outcome(stack, scene.key(f"During{number}")) == expected(ledger(new=12), storms=[storm_rr(during)])
        stack.post([lone])
        stack.wait_received(scene.key("Lone"), 1)
        assert outcome(stack, scene.key("Lone")) == expected(ledger(new=1), singles=[single_rr(lone)])
        # And when the broker is back, everything goes on, with the same workers
        stack.broker.start()
        stack.post(after)
        stack.wait_received(scene.key("After"), 12)
        assert outcome(stack, scene.key("After")) == expected(ledger(new=12), storms=[storm_rr(after)])
        assert all(worker.running for worker in stack.workers)
        assert outcome(stack, scene.key("Before")) == expected(ledger(new=12), storms=[storm_rr(before)])


def test_redis_is_killed_and_comes_back(tmp_path: Path) -> None:
    # Given accepted alerts that no worker has seen yet
    with Stack(tmp_path, workers=0) as stack:
        scene = new_scene()
        alerts = scene.pods(15)
        stack.post(alerts[:10])
        # When Redis is killed and comes back, before and while workers run
        stack.redis.restart()
        stack.start_worker()
        stack.start_worker()
        stack.wait_received(scene.key(), 10)
        stack.redis.restart()
        wait_until(lambda: stack.get("/readyz").status == 200, "the web process to be ready again")
        stack.post(alerts)
        stack.wait_received(scene.key(), 25)
        # Then what was accepted is there once, and later alerts meet it
        assert outcome(stack, scene.key()) == expected(ledger(new=15, duplicate=10), storms=[storm_rr(alerts)])
        assert all(worker.running for worker in stack.workers)
