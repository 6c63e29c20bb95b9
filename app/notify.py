"""Publishes wake-ups in the background, so that no webhook waits for the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from kombu.exceptions import OperationalError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WakeUps:
    """How many wake-ups went out, and how many the broker refused."""

    published: int
    failed: int


RECONCILE: Final = -1
"""In place of a shard: a comparison with Alertmanager is wanted."""


class Notifier:
    """One thread; a shard that is woken twice before its turn is published once.

    A wake-up that fails is dropped: the sweep of every worker finds inboxes that wait, and trying on would only
    press a broker in trouble.
    """

    def __init__(self, publish: Callable[[int], None]) -> None:
        self._publish = publish
        self._wanted: set[int] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._published = 0
        self._failed = 0

    def wake(self, shard: int) -> None:
        """Sees to it that a worker hears of the shard; returns at once."""
        with self._changed:
            if self._closed:
                return
            self._wanted.add(shard)
            if self._thread is None or not self._thread.is_alive():
                # Started here, not in the constructor: a thread would not survive a fork of the process.
                self._thread = threading.Thread(target=self._run, name="wake-ups", daemon=True)
                self._thread.start()
            self._changed.notify()

    def counts(self) -> WakeUps:
        with self._changed:
            return WakeUps(self._published, self._failed)

    def close(self, timeout_s: float = 2.0) -> None:
        """Publishes what is still wanted, within the time given, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if not self._wanted:
                    return
                shard = self._wanted.pop()
            try:
                self._publish(shard)
            except OperationalError as error:
                _log.warning(
                    "wake-up not published; the workers' sweep will find what waits", shard=shard, error=str(error)
                )
                published, failed = 0, 1
            else:
                published, failed = 1, 0
            with self._changed:
                self._published += published
                self._failed += failed
