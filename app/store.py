"""All that the web process asks of Redis, behind one breaker and with timeouts that a webhook can afford."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from app.admission import Admission, Load
from app.breaker import Breaker
from app.settings import Settings
from lua_scripts import loader
from lua_scripts.audit import Audit, Audited
from lua_scripts.budget import Budget, Health
from lua_scripts.connection import WEB, check_safe, connect
from lua_scripts.due import Due, DueCounts
from lua_scripts.inbox import Depth, Inbox, LetterCounts
from lua_scripts.memory import read_memory
from lua_scripts.orphans import Orphans
from lua_scripts.polls import PollReport, Polls
from lua_scripts.records import Accepted, DeadLetter, Ledger, MemberRecord, NewEntry, StormRecord
from lua_scripts.storms import Storms
from lua_scripts.workers import Workers

SAFE_FOR_S: Final = 10.0
"""How long an answer to "may this Redis evict?" is trusted: somebody may change the policy while we run."""

NO_LIMIT: Final = "Redis has no maxmemory: intake stops by the age of what waits alone, and memory may run out"


class Store(Protocol):
    """What the views need; every method raises the ``StoreError`` tree."""

    def accept(
        self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int, unkept: int
    ) -> Accepted: ...
    def check_admission(self) -> None: ...
    def admit(self, growth: int) -> None: ...
    def check_ready(self) -> Sequence[str]: ...
    def ask_poll(self) -> None: ...
    def poll_report(self) -> PollReport | None: ...
    def totals(self) -> Ledger: ...
    def depth(self) -> Depth: ...
    def due_counts(self) -> DueCounts: ...
    def letter_counts(self) -> LetterCounts: ...
    def audited(self) -> Audited: ...
    def last_beats(self) -> Mapping[str, int]: ...
    def kube_health(self) -> Health: ...
    def rival_objects(self) -> int: ...
    def page(self, cursor: str | None, limit: int) -> tuple[list[StormRecord], str | None]: ...
    def find(self, name: str) -> StormRecord | None: ...
    def members(self, storm_id: str, cursor: str | None, limit: int) -> tuple[list[MemberRecord], str | None]: ...


@dataclass(frozen=True, slots=True)
class _Doors:
    client: loader.Client
    inbox: Inbox
    storms: Storms
    due: Due
    polls: Polls
    audit: Audit
    workers: Workers
    budget: Budget
    orphans: Orphans


class RedisStore:
    """The real one. Opens its client at first use: a Redis that is away must not keep the web process from starting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._opened: _Doors | None = None
        self._safe_until = 0.0
        self._admission = Admission(self._look, settings.admit_memory, settings.admit_age)

    def _doors(self) -> _Doors:
        with self._lock:
            if self._opened is None:
                # Some more than threads, for calls that overlap a connection that is being given up.
                limits = replace(WEB, max_connections=self._settings.web_threads + 8)
                client = connect(self._settings.redis_url, limits)
                inbox = Inbox(client, self._settings.redis_wait_replicas)
                self._opened = _Doors(
                    client, inbox, Storms(client), Due(client), Polls(client), Audit(client), Workers(client),
                    Budget(client, self._settings.kube_writes_per_second), Orphans(client),
                )  # fmt: skip
            return self._opened

    def accept(
        self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int, unkept: int
    ) -> Accepted:
        with self._breaker.guard():
            return self._doors().inbox.accept(shard, entries, dead, ignored, unkept)

    def check_admission(self) -> None:
        """Refuses at once where the last call went unanswered, where Redis may evict what it is given, where workers do
        not keep up, and where the room that is left is needed for draining.
        """
        with self._breaker.guard():
            now = time.monotonic()
            if now >= self._safe_until:
                check_safe(self._doors().client)
                self._safe_until = now + SAFE_FOR_S
            self._admission.check()

    def admit(self, growth: int) -> None:
        """Refuses a delivery that would make so many bytes of state, where Redis should not hold them."""
        with self._breaker.guard():
            self._admission.admit(growth)

    def _look(self) -> Load:
        doors = self._doors()
        return Load(read_memory(doors.client), doors.inbox.waiting())

    def check_ready(self) -> Sequence[str]:
        """Redis answers, keeps what it is given, and knows the scripts; they are loaded where it forgot them. What is
        returned are warnings.
        """
        with self._breaker.guard():
            client = self._doors().client
            check_safe(client)
            if not loader.loaded(client):
                loader.load_all(client)
            return () if read_memory(client).limit else (NO_LIMIT,)

    def ask_poll(self) -> None:
        """Has a worker compare with Alertmanager soon; the question stands in Redis until one has."""
        with self._breaker.guard():
            self._doors().polls.ask()

    def poll_report(self) -> PollReport | None:
        with self._breaker.guard():
            return self._doors().polls.report()

    def totals(self) -> Ledger:
        with self._breaker.guard():
            return self._doors().inbox.totals()

    def depth(self) -> Depth:
        with self._breaker.guard():
            return self._doors().inbox.depth()

    def due_counts(self) -> DueCounts:
        with self._breaker.guard():
            return self._doors().due.counts()

    def letter_counts(self) -> LetterCounts:
        with self._breaker.guard():
            return self._doors().inbox.letter_counts()

    def audited(self) -> Audited:
        with self._breaker.guard():
            return self._doors().audit.seen()

    def last_beats(self) -> Mapping[str, int]:
        with self._breaker.guard():
            return self._doors().workers.last_beats()

    def kube_health(self) -> Health:
        with self._breaker.guard():
            return self._doors().budget.health()

    def rival_objects(self) -> int:
        with self._breaker.guard():
            return self._doors().orphans.last_rivals()

    def page(self, cursor: str | None, limit: int) -> tuple[list[StormRecord], str | None]:
        with self._breaker.guard():
            return self._doors().storms.page(cursor, limit)

    def find(self, name: str) -> StormRecord | None:
        with self._breaker.guard():
            return self._doors().storms.find(name)

    def members(self, storm_id: str, cursor: str | None, limit: int) -> tuple[list[MemberRecord], str | None]:
        with self._breaker.guard():
            return self._doors().storms.members(storm_id, cursor, limit)
