"""Whether this worker consumes: shown to probes by a file, to metrics by Redis; a consumer that stalls is restarted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from celery import signals
from celery.worker import state
from kombu.exceptions import OperationalError

from app.broker import Queues, queue_depth
from tasks.services import Services

CHECK_S: Final = 2.0
STALLED_S: Final = 10.0
"""An idle worker whose queues hold messages for so long does not consume any more: Celery may stop doing so for ever
after Redis was out of memory."""
STUCK_S: Final = 120.0
"""The same of a worker that is busy: no task of ours takes that long."""
MEND_S: Final = 15.0
FROZEN_S: Final = 10.0
"""When nobody looked for so long, this process itself stood still or Redis hung: what came meanwhile proves nothing."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Consumption(Protocol):
    """The consumer as its worker sees it. ``last`` is when it last received a task, in monotonic seconds."""

    @property
    def last(self) -> float: ...
    @property
    def busy(self) -> bool: ...
    def restart(self) -> None: ...


class StalledConsumerError(ConnectionError):
    """Raised within Celery's event loop, which takes it for a lost connection and connects anew."""


def _lose_connection() -> None:
    raise StalledConsumerError("the consumer has stalled")


class CeleryConsumption:
    """That of a Celery worker's main process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.last = time.monotonic()
        signals.task_received.connect(self._received)

    def _received(self, **_: Any) -> None:
        self.last = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a task is under way, or waits for the pool."""
        return bool(state.reserved_requests)

    def restart(self) -> None:
        """Has the consumer connect anew, to all queues, also to those that somebody took from it."""
        if self._worker.consumer is not None:
            self._worker.app.amqp.queues.select(Queues.ALL)
            self._worker.consumer.call_soon(_lose_connection)


class Liveness:
    """Looked at by the sweep. A worker lives while it consumed, or found nothing to consume, lately.

    A broker that is away is no sign of death: it is none of the worker's fault, and starting it anew mends nothing.
    """

    def __init__(
        self, name: str, file: str, consumption: Consumption, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._file = Path(file) if file else None
        self._consumption = consumption
        self._clock = clock
        self._looked = self._nothing = clock()
        self._mended = float("-inf")

    def look(self, services: Services) -> None:
        """Leaves a sign of life, or mends what keeps the worker from consuming. Raises ``StoreError``."""
        if self._clock() - self._looked < CHECK_S:
            return
        if not self.lives(lambda: _messages(services)):
            return
        if self._file:
            with suppress(OSError):  # a folder that is gone or full: the probe will say so
                self._file.touch()
        services.workers.beat(self._name)

    def lives(self, messages: Callable[[], int]) -> bool:
        """Whether it lives; ``messages`` counts what waits in its queues, and is asked where it consumed nothing."""
        now = self._clock()
        if now - self._looked > FROZEN_S:
            self._nothing = now
        self._looked = now
        if now - self._consumption.last < STALLED_S:
            return True
        try:
            waiting = messages()
        except OperationalError:
            waiting = 0
        if not waiting:
            self._nothing = now
            return True
        quiet_s = now - max(self._consumption.last, self._nothing)
        busy = self._consumption.busy
        if quiet_s < (STUCK_S if busy else STALLED_S):
            return True
        if not busy and now - self._mended >= MEND_S:
            self._mended = now
            log.error(
                "worker consumes nothing though messages wait, it connects anew", messages=waiting, quiet_s=quiet_s
            )
            self._consumption.restart()
        return False


def _messages(services: Services) -> int:
    return sum(queue_depth(services.publisher, queue) for queue in Queues.ALL)
