"""The budget of Kubernetes writes that all workers share, and what they know together of the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lua_scripts.keys import BUDGET
from lua_scripts.loader import Client, Scripts, now_ms, translated

FAILURES: Final = 5
"""Failures in a row after which one worker at a time probes the server, and the others wait."""
PROBE_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class Grant:
    """``wait_ms`` 0: go ahead. ``news``: whoever succeeds then should say so, for the others believe otherwise."""

    wait_ms: int
    news: bool


@dataclass(frozen=True, slots=True)
class Health:
    """For metrics: for how long writes are paused, failures in a row, since when the server does not know our kind
    (0: it does), and what it refused and throttled in all.
    """

    paused_ms: int = 0
    failures: int = 0
    undefined_since_ms: int = 0
    refused: int = 0
    throttled: int = 0


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
        return Grant(int(reply[0]), bool(reply[1]))

    def succeeded(self) -> None:
        """The server answers again."""
        self._scripts.run("outcome", (BUDGET,), ("ok", 0))

    def failed(self) -> None:
        """The server did not answer, or failed by itself; after several in a row everybody pauses."""
        failures = int(self._scripts.run("outcome", (BUDGET,), ("failed", 0)))
        if failures >= FAILURES:
            self._scripts.run("outcome", (BUDGET,), ("pause", PROBE_MS))

    def throttled(self, pause_ms: int) -> None:
        """The server asked for patience: all workers have it."""
        self._scripts.run("outcome", (BUDGET,), ("throttled", pause_ms))

    def refused(self, *, undefined: bool) -> None:
        """The server refuses until somebody mends something; ``undefined``: it does not know our kind."""
        self._scripts.run("outcome", (BUDGET,), ("undefined" if undefined else "refused", 0))

    def health(self) -> Health:
        """What metrics show."""
        now = now_ms(self._client)
        with translated():
            found = self._client.hmget(BUDGET, "pu", "fa", "da", "rf", "th")
        paused, failures, undefined, refused, throttled = (int(float(raw or 0)) for raw in found)
        return Health(max(0, paused - now), failures, undefined, refused, throttled)
