"""The sweep goes on whatever Redis, broker and sink do, and takes its worker along where it cannot."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from lua_scripts.errors import StoreUnreachable
from tasks import sweep
from tasks.services import Services
from tasks.sinks.errors import SinkRefused
from tasks.sweep import Sweeper


def no_services() -> Services:
    raise AssertionError("not asked for")


class Scripted(Sweeper):
    """A sweeper whose sweeps do what a test says, one after the other, and which then stops."""

    def __init__(self, *results: Exception | None) -> None:
        super().__init__(no_services)
        self.left = list(results)

    def sweep(self) -> None:
        result = self.left.pop(0)
        if not self.left:
            self.stop()
        if result is not None:
            raise result


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "INTERVAL_S", 0.001)


def test_goes_on_when_redis_and_sink_fail() -> None:
    # Given a Redis that is away, and then a sink that nobody configured
    sweeper = Scripted(StoreUnreachable("refused"), SinkRefused("no kubeconfig"), None)
    # When the sweep runs
    sweeper.start()
    sweeper.join(5)
    # Then it came to its end, past both
    assert sweeper.left == []


def test_takes_the_worker_along_when_it_fails_for_a_reason_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a sweep with a mistake in it
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    sweeper = Scripted(ZeroDivisionError("a mistake"), None)
    # When it runs
    sweeper.start()
    sweeper.join(5)
    # Then the worker is asked to finish its tasks and leave
    assert sent == [(os.getpid(), signal.SIGTERM)]
