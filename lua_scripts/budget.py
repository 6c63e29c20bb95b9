"""The budget of Kubernetes writes that all workers share, and what they know together of the server's health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from lua_scripts.keys import BUDGET, BUDGET_QUEUES, BUDGET_SINCE
from lua_scripts.loader import Client, Scripts, now_ms, translated

FAILURES: Final = 5
"""Failures in a row after which one worker at a time probes the server, and the others wait."""
PROBE_MS: Final = 2000
"""From a probe that failed to the next."""
PROBING_MS: Final = 10_000
"""After this long a probe counts as lost, with whoever made it: two requests that time out take no longer."""
LATE_MS: Final = 10_000
"""Who comes this long after its turn has lost it, and does not count as waiting; the same as in budget.lua."""

Happened = Literal["ok", "failed", "throttled", "refused", "undefined"]


@dataclass(frozen=True, slots=True)
class Grant:
    """``wait_ms`` 0: go ahead. ``news``: whoever succeeds then should say so, for the others believe otherwise."""

    wait_ms: int
    news: bool


@dataclass(frozen=True, slots=True)
class Health:
    """For metrics: for how long writes are paused, failures in a row, since when the server does not know our kind
    (0: it does), what it refused and throttled in all, how many writes were sent, how many storms wait for their turn,
    and for how long the first of them.
    """

    paused_ms: int = 0
    failures: int = 0
    undefined_since_ms: int = 0
    refused: int = 0
    throttled: int = 0
    writes: int = 0
    waiting: int = 0
    waiting_ms: int = 0


class Budget:
    """A token bucket of ``per_second`` writes and half a second's worth of burst, so that not even writes that are sent
    a little late make two seconds' worth in one. Raises the ``StoreError`` tree.
    """

    def __init__(self, client: Client, per_second: int) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)
        self._per_second = per_second

    def take(self, writes: int, *, urgent: bool, storm_id: str = "") -> Grant:
        """Asks for ``writes``. A storm that is turned away has its turn after what it is told to wait.

        What is not urgent leaves half of the bucket to what is, and waits behind it: storms go before Singles.
        """
        return self._ask(writes, urgent, storm_id, look=False)

    def look(self, writes: int, *, urgent: bool, storm_id: str) -> Grant:
        """As ``take``, ahead of it: what it gets is kept for the take that follows."""
        return self._ask(writes, urgent, storm_id, look=True)

    def _ask(self, writes: int, urgent: bool, storm_id: str, *, look: bool) -> Grant:
        most = max(self._per_second // 2, 2 * writes)
        args = (self._per_second, most, writes, storm_id, int(urgent), FAILURES, PROBING_MS, PROBE_MS, int(look))
        reply = self._scripts.run("budget", (BUDGET, *BUDGET_QUEUES, BUDGET_SINCE), args)
        return Grant(int(reply[0]), bool(reply[1]))

    def succeeded(self, *, more: int = 0) -> int:
        """The server answers again. ``more`` than was asked for was sent, or less; ms for which all pause, as below."""
        return self._happened("ok", 0, more)

    def failed(self, *, more: int = 0) -> int:
        """The server did not answer, or failed by itself; after several in a row everybody pauses."""
        return self._happened("failed", PROBE_MS, more)

    def throttled(self, pause_ms: int, *, more: int = 0) -> int:
        """The server asked for patience: all workers have it."""
        return self._happened("throttled", pause_ms, more)

    def refused(self, *, undefined: bool, more: int = 0) -> int:
        """The server refuses until somebody mends something; ``undefined``: it does not know our kind, so all pause."""
        return self._happened("undefined" if undefined else "refused", PROBE_MS, more)

    def _happened(self, what: Happened, pause_ms: int, more: int) -> int:
        return int(self._scripts.run("outcome", (BUDGET,), (what, pause_ms, FAILURES, more)))

    def health(self) -> Health:
        """What metrics show."""
        now = now_ms(self._client)
        with translated():
            found = self._client.hmget(BUDGET, "pu", "fa", "da", "rf", "th", "wr")
            waiting = sum(self._client.zcount(queue, now - LATE_MS, "+inf") for queue in BUDGET_QUEUES)
            first = self._client.zrange(BUDGET_SINCE, 0, 0, withscores=True)
        paused, failures, undefined, refused, throttled, writes = (int(float(raw or 0)) for raw in found)
        waiting_ms = max(0, now - int(first[0][1])) if first and waiting else 0
        return Health(
            max(0, paused - now), failures, undefined, refused, throttled, writes, waiting, waiting_ms
        )  # fmt: skip
