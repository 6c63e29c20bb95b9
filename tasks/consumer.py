"""How a worker takes the loss of its broker, and how it ends: Celery leaves gaps at both."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any, Final

import structlog
from celery.worker import consumer

STOP_S: Final = 15.0
"""How long a worker that is to end waits for the tasks under way. What they leave undone others do: all state is in
Redis, and a lease runs out."""
LAST_S: Final = 5.0
"""How long it may take to end once its pool is gone."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, which connects again for ever."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        try:
            super().on_connection_error_after_connected(exc)
        except (AttributeError, *self.connection_errors, *self.channel_errors) as error:
            # kombu 5.7 closes a lost connection twice. Where a message is unacknowledged the second time looks for the
            # address that the first time took away, which would end the worker. What it was about to do is of no use
            # here: messages are wake-ups, and the sweep publishes again what got lost.
            log.warning("the lost connection to the broker was not closed cleanly", reason=repr(error))


class Undertaker(threading.Thread):
    """Started when a worker begins to stop: Celery waits for a child of its pool without a limit."""

    def __init__(self, pool: Any) -> None:
        super().__init__(name="stormfold-undertaker", daemon=True)
        self._children = list(pool._pool._pool)

    def run(self) -> None:
        time.sleep(STOP_S)
        late = [child.pid for child in self._children if child.is_alive()]
        log.error("the worker does not end by itself, killing its pool", after_s=STOP_S, children=late)
        for pid in late:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(LAST_S)
        os._exit(os.EX_SOFTWARE)
