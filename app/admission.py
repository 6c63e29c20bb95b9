"""Whether a delivery is let in: by what Redis will use once all that waits is state, and by how long that waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lua_scripts.errors import StoreFull, StoreOverloaded
from lua_scripts.inbox import Waiting
from lua_scripts.memory import Memory
from lua_scripts.records import NewEntry

LOOK_FOR_S: Final = 0.25
"""How long one look at Redis serves; what is admitted meanwhile is added to it."""
HEADROOM_SHARE: Final = 0.06
HEADROOM_MIN: Final = 1024 * 1024
"""What nobody may take: workers and broker write to Redis too. Up to there come deliveries that make no new state."""

# Bytes of state, measured on Redis 7.0 over storms of 1 to 10,000 alerts with and without long texts, a fifth added.
# A test holds them against the scripts as they are.
PER_STORM: Final = 1320
PER_ALERT: Final = 290
PER_SINGLE: Final = 300
PER_COUNTED: Final = 300
TEXT: Final = 1.2
GATHERING: Final = 10
"""Alerts of a storm key of which Singles and details are kept, before they are a storm."""
COUNTED: Final = 16
"""Alerts of a storm key that may each bring values of its own to what is counted of causes: no more are kept."""


def state_of(entries: int, alerts: int, payload: int) -> int:
    """Bytes that entries become, the safe side of it: each a storm of its own, each alert a new one."""
    if not entries or not alerts:
        return 0
    gathering = min(alerts, entries * GATHERING) / alerts
    # Texts: of those that gather all of it, of each storm one sample more, of the others the names of resources.
    texts = TEXT * payload * (TEXT * gathering + entries / alerts + 1 - gathering)
    causes = PER_COUNTED * min(alerts, entries * COUNTED)
    return int(PER_STORM * entries + alerts * (PER_ALERT + PER_SINGLE * gathering) + causes + texts)


def state_of_all(entries: Iterable[NewEntry]) -> int:
    """Bytes that new entries become."""
    return sum(state_of(1, entry.alerts, len(entry.payload)) for entry in entries)


@dataclass(frozen=True, slots=True)
class Load:
    """One look at Redis."""

    memory: Memory
    waiting: Waiting

    @property
    def future(self) -> int:
        """Bytes in use once all that waits has become state, and no longer waits."""
        waiting = self.waiting
        return self.memory.used + max(0, state_of(waiting.entries, waiting.alerts, waiting.bytes) - waiting.bytes)


class Admission:
    """Shared by all threads of a web process. Raises ``StoreFull``, ``StoreOverloaded``, and what ``look`` raises."""

    def __init__(
        self, look: Callable[[], Load], percent: int, max_age_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._percent = percent
        self._max_age_ms = max_age_ms
        self._clock = clock
        self._lock = threading.Lock()
        self._load = Load(Memory(0, 0), Waiting())
        self._until = 0.0
        self._admitted = 0

    def check(self) -> None:
        """Refuses everything: where workers do not keep up, and where the last room for draining begins."""
        load = self._fresh()
        if load.waiting.age_ms > self._max_age_ms:
            raise StoreOverloaded(
                f"the oldest alert has waited for {load.waiting.age_ms / 1000:.0f} s, "
                f"intake stops at {self._max_age_ms / 1000:.0f} s (STORMFOLD_ADMIT_AGE): workers do not keep up"
            )
        limit = load.memory.limit
        self._hold(load, 0, limit - max(HEADROOM_MIN, int(limit * HEADROOM_SHARE)), "the rest is kept for draining")

    def admit(self, growth: int) -> None:
        """Lets a delivery in that makes so many bytes of state, or refuses it. One that makes none only frees."""
        if not growth:
            return
        load = self._fresh()
        limit = load.memory.limit
        share = min(limit * self._percent // 100, limit - HEADROOM_MIN)
        with self._lock:
            self._hold(load, growth, share, f"intake stops at {self._percent}% (STORMFOLD_ADMIT_MEMORY)")
            self._admitted += growth

    def _hold(self, load: Load, growth: int, most: int, why: str) -> None:
        future = load.future + self._admitted + growth
        if load.memory.limit and future > most:
            raise StoreFull(
                f"Redis uses {load.memory.used} of {load.memory.limit} bytes and would use {future} "
                f"once all that waits is taken in: {why}"
            )

    def _fresh(self) -> Load:
        now = self._clock()
        with self._lock:
            if now < self._until:
                return self._load
            self._until = now + LOOK_FOR_S  # before the look, so that the other threads do not wait for it
        load = self._look()
        with self._lock:
            self._load, self._admitted = load, 0
        return load
