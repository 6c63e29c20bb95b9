"""Running stacks that the cells of the matrix share, one of a kind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.faults.struck import LEASE_S
from tests.support.stack import READY, Stack
from tests.support.steps import Steps

SETTINGS = {
    "DEBOUNCE": "200ms", "SINGLE_HOLD": "300ms", "LEASE": f"{LEASE_S:.0f}s", "CONCURRENCY": "1",
}  # fmt: skip
HASTY = {"STOP_AT_TIMEOUT": "0.5", "STOP_AT_SLOW_RETRY_MS": "1000"}
"""Waits of minutes made short, in the processes under test alone."""


class Benches:
    """Running stacks with their steps by kind: see ``matrix.Bench``. A stack of a kind is made anew after a failure."""

    def __init__(
        self,
        folders: pytest.TempPathFactory,
        stack: Callable[..., Stack] = Stack,
        steps: Callable[..., Steps] = Steps,
    ) -> None:
        self._folders = folders
        self._stack = stack
        self._steps = steps
        self._running: dict[str, Steps] = {}

    @contextlib.contextmanager
    def __call__(self, kind: str) -> Iterator[Steps]:
        if kind not in self._running:
            self._running[kind] = self._start(kind)
        steps = self._running[kind]
        for worker in steps.stack.workers:
            worker.wait_for_log(READY)
        try:
            yield steps
        except BaseException:
            # Its harm may not be mended: the next cell gets another.
            for process in (steps.stack.web, *steps.stack.workers):
                print(f"--- {process.name}\n{process.log()[-3000:]}")
            self._stop(self._running.pop(kind))
            raise

    def _start(self, kind: str) -> Steps:
        stack = self._stack(self._folders.mktemp(kind), SETTINGS, workers=0 if kind == "clocks" else 2)
        steps = self._steps(stack, **({} if kind == "patient" else HASTY))
        stack.__enter__()
        if kind == "clocks":
            for offset_s in (-1800, 1800):
                steps.add({"STOP_AT_CLOCK": str(offset_s)})
                stack.start_worker()
        return steps

    def close(self) -> None:
        for steps in self._running.values():
            self._stop(steps)

    @staticmethod
    def _stop(steps: Steps) -> None:
        steps.disarm()
        steps.stack.close()
