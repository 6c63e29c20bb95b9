"""Writing due storms: claim one, write what its lease returned, go on while it is due again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from lua_scripts.leases import NotClaimed
from tasks.sinks.base import Deadline
from tasks.turn import Turn
from tasks.writer import LostLease, Means, Writer

TURNS: Final = 16
"""Claims of one storm in a row before it waits for its next turn."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What one task did for a storm: RRs written, and how its last turn ended."""

    written: int
    ended: str


class Aggregation:
    """Writes due storms; the lease in Redis sees to it that one storm is written by one worker at a time."""

    def __init__(self, means: Means, *, max_resources: int, cause_labels: Sequence[str] = ()) -> None:
        self._means = means
        self._max_resources = max_resources
        self._cause_labels = cause_labels

    def run(self, storm_id: str) -> Aggregated:
        """Writes what is due of a storm, a bounded number of turns. Raises ``StoreError``; sink errors are settled."""
        written, ended = 0, "idle"
        end = time.monotonic() + self._means.lease_ms / 1000
        for _ in range(TURNS):
            count, ended = self._turn(storm_id)
            written += count
            if count == 0 or ended not in ("settled", "dirty") or time.monotonic() > end:
                break
        return Aggregated(written, ended)

    def _turn(self, storm_id: str) -> tuple[int, str]:
        token = uuid.uuid4().hex
        # Counted from before the claim: the lease in Redis began later, so this ends earlier.
        deadline = Deadline(self._means.lease_ms / 1000)
        claim = self._means.leases.claim(storm_id, token, self._means.lease_ms, self._means.rules, reconciled=True)
        if isinstance(claim, NotClaimed):
            return 0, claim.reason
        writer = Writer(self._means, deadline, claim)
        turn = Turn(self._means.leases, writer, self._means.rules)
        try:
            if claim.singles is None:
                return turn.write_storm(self._max_resources, self._cause_labels)
            return turn.write_singles(claim.singles)
        except LostLease:
            log.warning("lease lost while writing", storm=claim.storm.name)
            return 0, "lost"
