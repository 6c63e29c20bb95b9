"""When a worker counts as alive, and when its consumer is restarted; the rule, with a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kombu.exceptions import OperationalError

from tasks.liveness import MEND_S, STALLED_S, STUCK_S, Liveness


@dataclass
class Worker:
    """A consumer, its queues, and time, which passes by looking every two seconds."""

    now: float = 100.0
    last: float = 100.0
    busy: bool = False
    waiting: int = 0
    broker_is_away: bool = False
    restarts: int = 0

    def __post_init__(self) -> None:
        self.liveness = Liveness("worker", "", self, lambda: self.now)

    def restart(self) -> None:
        self.restarts += 1

    def messages(self) -> int:
        if self.broker_is_away:
            raise OperationalError("away")
        return self.waiting

    def run(self, seconds: float) -> list[bool]:
        """What the looks say over a time."""
        end, lives = self.now + seconds, []
        while self.now < end:
            self.now += 2
            lives.append(self.liveness.lives(self.messages))
        return lives


def test_a_worker_with_nothing_to_consume_lives() -> None:
    worker = Worker()
    assert set(worker.run(1000)) == {True}
    assert worker.restarts == 0


def test_a_worker_that_consumes_lives_whatever_waits() -> None:
    worker = Worker(waiting=500)
    for _ in range(100):
        worker.last = worker.now
        assert set(worker.run(8)) == {True}
    assert worker.restarts == 0


def test_an_idle_worker_whose_messages_wait_is_mended_and_again_after_a_while() -> None:
    # Given messages that come after a quiet time
    worker = Worker()
    worker.run(100)
    worker.waiting = 3
    # Then it has some seconds to take them
    assert set(worker.run(STALLED_S - 2)) == {True}
    assert worker.restarts == 0
    # and is dead after that, and restarted, now and then
    assert set(worker.run(4 * MEND_S)[1:]) == {False}
    assert 4 <= worker.restarts <= 5
    # When it consumes again
    worker.last = worker.now
    worker.waiting = 0
    assert set(worker.run(100)) == {True}


def test_a_busy_worker_has_longer_and_is_left_to_its_supervisor() -> None:
    worker = Worker(busy=True, waiting=1)
    assert set(worker.run(STUCK_S - 2)) == {True}
    assert worker.run(20)[-1] is False
    assert worker.restarts == 0


def test_a_broker_that_is_away_kills_nobody() -> None:
    # Given
    worker = Worker(waiting=1, broker_is_away=True)
    assert set(worker.run(1000)) == {True}
    # When it is back, the worker has its time again
    worker.broker_is_away = False
    assert set(worker.run(STALLED_S - 2)) == {True}
    assert worker.restarts == 0


@pytest.mark.parametrize("frozen_s", [60, 3600])
def test_what_came_while_the_process_stood_still_proves_nothing(frozen_s: int) -> None:
    # Given a process that is stopped while messages come
    worker = Worker()
    worker.run(20)
    worker.now += frozen_s
    worker.waiting = 5
    # Then it has its time from when it goes on
    assert set(worker.run(STALLED_S - 2)) == {True}
    assert worker.restarts == 0
