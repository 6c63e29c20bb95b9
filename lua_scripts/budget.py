"""The budget of Kubernetes writes that all workers share, and what they know together of the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lua_scripts.keys import BUDGET
from lua_scripts.loader import Client, Scripts, translated

FAILURES: Final = 5
"""Failures in a row after which one worker at a time probes the server, and the others wait."""
PROBE_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class Grant:
    """``wait_ms`` 0: go ahead. ``failures`` in a row before this request: whoever succeeds then should say so."""

    wait_ms: int
    failures: int


@dataclass(frozen=True, slots=True)
class Health:
    """For metrics: for how long writes are paused, and the failures in a row."""

    paused_ms: int
    failures: int


class Budget:
    """A token bucket of ``per_second`` writes and one second's worth of burst. Raises the ``StoreError`` tree."""

    def __init__(self, client: Client, per_second: int) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)
        self._per_second = per_second

    def take(self, writes: int, *, urgent: bool) -> Grant:
        """Asks for ``writes``. What is not urgent leaves half of the bucket to what is: storms go before Singles."""
        most = max(self._per_second, 2 * writes)
        left = 0 if urgent else most // 2
        reply = self._scripts.run("budget", (BUDGET,), (self._per_second, most, writes, left, FAILURES, PROBE_MS))
        return Grant(int(reply[0]), int(reply[1]))

    def succeeded(self) -> None:
        """The server answers again."""
        self._scripts.run("outcome", (BUDGET,), ("ok", 0))

    def failed(self) -> None:
        """The server did not answer, or failed by itself; after several in a row everybody pauses."""
        failures = int(self._scripts.run("outcome", (BUDGET,), ("failed", 0)))
        if failures >= FAILURES:
            self._scripts.run("outcome", (BUDGET,), ("throttled", PROBE_MS))

    def throttled(self, pause_ms: int) -> None:
        """The server asked for patience: all workers have it."""
        self._scripts.run("outcome", (BUDGET,), ("throttled", pause_ms))

    def health(self) -> Health:
        """What metrics show."""
        with translated():
            seconds, micros = self._client.time()
            paused, failures = self._client.hmget(BUDGET, "pu", "fa")
        now = int(seconds) * 1000 + int(micros) // 1000
        return Health(max(0, int(float(paused or 0)) - now), int(failures or 0))
