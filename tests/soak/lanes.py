"""Faults one after the other, several such lanes at once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.soak.faults import FAILURES, GAPS_S, LANES, Fault, Kinds
from tests.soak.stage import Stage


@dataclass(frozen=True, slots=True)
class Harm:
    """One fault that was done; times of the wall clock."""

    kind: str
    begun: float
    ended: float


class Lane(threading.Thread):
    """Deals the kinds of a lane from a shuffled deck, so that each comes up as often as it should."""

    def __init__(self, name: str, kinds: Kinds, stage: Stage, seed: int, done: Callable[[Harm], None]) -> None:
        super().__init__(name=f"faults-{name}", daemon=True)
        self._stage = stage
        self._kinds = kinds
        self._gap = GAPS_S[name]
        self._chance = random.Random(f"{name} {seed}")
        self._done = done
        self.over = threading.Event()
        self.now = ""
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                for kind, fault in self._deck():
                    if self.over.wait(self._chance.uniform(*self._gap)):
                        return
                    self._do(kind, fault)
        except FAILURES as failure:
            self.failure = failure

    def _deck(self) -> list[tuple[str, Fault]]:
        deck = [(kind, fault) for kind, (often, fault) in self._kinds.items() for _ in range(often)]
        self._chance.shuffle(deck)
        return deck

    def _do(self, kind: str, fault: Fault) -> None:
        # A generator of its own: how often one fault draws must not decide what the next one is.
        chance = random.Random(self._chance.random())
        self.now, begun = kind, time.time()
        if fault(self._stage, chance):
            self._done(Harm(kind, begun, time.time()))
        self.now = ""


class Faults:
    """All lanes and what they did."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self._lock = threading.Lock()
        self.harms: list[Harm] = []
        lanes = LANES | dict(stage.sink.lanes)
        self._lanes = [Lane(name, kinds, stage, seed, self._note) for name, kinds in lanes.items()]

    def _note(self, harm: Harm) -> None:
        with self._lock:
            self.harms.append(harm)

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    def finish(self) -> None:
        """Ends after the faults under way. Raises what made a lane fail."""
        for lane in self._lanes:
            lane.over.set()
        for lane in self._lanes:
            lane.join(90)
        self.check()

    def check(self) -> None:
        for lane in self._lanes:
            if lane.failure is not None:
                raise lane.failure

    def now(self) -> list[str]:
        return [lane.now for lane in self._lanes if lane.now]

    def kinds(self) -> Counter[str]:
        with self._lock:
            return Counter(harm.kind for harm in self.harms)

    def around(self, begun: float, ended: float) -> list[str]:
        """What was done within a span of time."""
        with self._lock:
            return [harm.kind for harm in self.harms if harm.begun < ended and harm.ended > begun]
