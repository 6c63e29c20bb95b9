"""Stops real processes exactly at a step of their work, through a module that only tests give them to load."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import Process
from tests.support.stack import Stack
from tests.support.waiting import wait_until

MODULE = Path(__file__).with_name("stop_at")
ROOT = Path(__file__).resolve().parents[2]

STEPS = {
    "before-accept": "a web process is about to store the part of a delivery that belongs to one shard",
    "after-accept": "it has stored it, and has published and answered nothing yet",
    "before-publish": "a wake-up is about to be published: by a web process, which has perhaps answered, or by a sweep",
    "after-publish": "it is published",
    "before-ingest": "a worker has read entries from the inbox and is about to take them into their storms",
    "after-ingest": "it has taken them in",
    "before-claim": "a worker is about to lease a due storm",
    "after-claim": "it has the lease",
    "before-write": "it is about to hand an object to the sink",
    "after-write": "the sink has written it, and nobody knows yet",
    "before-settle": "everything is written, and the lease is about to be settled",
    "after-settle": "it is settled",
    "before-sweep": "the timer of a worker is about to look for what is due",
    "after-sweep": "it has marked storms as published, and has published nothing yet",
}

STEPS_INTO_A_CLUSTER = {
    "before-request": "it is about to send a request to the API server, and has looked at its lease for the last time",
    "before-status": "the server has taken an object, or its spec, and has not been told its status yet",
    "after-status": "it has taken both",
}
"""A file is written whole, so that there is nothing between."""


class Stop:
    """One order: the first call that fits stops at its step, goes on when it is told to."""

    def __init__(self, folder: Path, number: int, step: str) -> None:
        self._folder = folder
        self._number = str(number)
        self.step = step

    @property
    def reached(self) -> bool:
        return (self._folder / "reached" / self._number).exists()

    @property
    def over(self) -> bool:
        """Whether the piece of work that was stopped has ended, in success or failure."""
        return (self._folder / "over" / self._number).exists()

    @property
    def pid(self) -> int:
        """The process that got there: a worker, its pool child, or what serves the web."""
        return int((self._folder / "reached" / self._number).read_text())

    def wait_reached(self, deadline_s: float = 20.0) -> int:
        wait_until(lambda: self.reached, f"a process to come to {self.step}", deadline_s=deadline_s, poll_s=0.01)
        return self.pid

    def release(self) -> None:
        (self._folder / "go" / self._number).touch()

    def wait_over(self, deadline_s: float = 60.0) -> None:
        wait_until(lambda: self.over, f"what stopped at {self.step} to have ended", deadline_s=deadline_s)


class Steps:
    """Orders to the processes of a stack, and the journal of what they wrote. Made before the stack starts."""

    def __init__(self, stack: Stack, **environ: str) -> None:
        self.stack = stack
        self._folder = stack.folder / "steps"
        for name in ("armed", "reached", "go", "over"):
            (self._folder / name).mkdir(parents=True)
        self._numbers = itertools.count(1)
        self.add({"PYTHONPATH": f"{MODULE}{os.pathsep}{ROOT}", "STOP_AT": str(self._folder)} | environ)

    def add(self, environ: Mapping[str, str]) -> None:
        """Into the environment of all processes that start from now on."""
        self.stack.environ |= environ
        self.stack.web.environ |= environ

    def arm(self, step: str, *about: str, action: str = "stop", skip: int = 0) -> Stop:
        """``about``: words that the call must be about, a storm's id, a type or a phase; ``skip`` such calls pass.

        Actions: ``stop``; ``exhaust`` takes all of the caller's Redis connections until released, and goes on;
        ``raise <class>`` raises.
        """
        assert step in STEPS | STEPS_INTO_A_CLUSTER, step
        number = next(self._numbers)
        order = {"number": number, "about": about, "action": action, "skip": skip}
        fresh = self._folder / f"{number}.tmp"
        fresh.write_text(json.dumps(order))
        fresh.rename(self._folder / "armed" / f"{step}@{number}")
        return Stop(self._folder, number, step)

    def disarm(self) -> None:
        """Takes back what nobody has come to, and lets everybody go on."""
        for order in (self._folder / "armed").iterdir():
            order.unlink()
        for reached in (self._folder / "reached").iterdir():
            (self._folder / "go" / reached.name).touch()

    def process_of(self, stop: Stop) -> Process:
        """The process of the stack that the stopped one belongs to."""
        group = os.getpgid(stop.pid)
        return next(one for one in (self.stack.web, *self.stack.workers) if one.pid == group)

    def journal(self, key: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        """Every write of an object of a storm key, in the order in which the sink made them."""
        path = self._folder / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["key"] == dict(key)]
