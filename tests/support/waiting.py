"""Waiting for a condition with a deadline, instead of sleeping for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    deadline_s: float = 30.0,
    poll_s: float = POLL_S,
    describe: Callable[[], object] | None = None,
) -> T:
    """The first true value of ``condition``; without one in time an AssertionError that says ``what`` was awaited."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            seen = value if describe is None else describe()
            raise AssertionError(f"not within {deadline_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(poll_s)


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Run the calls in a thread each, released together by a barrier; their results in order, or the first failure."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]
