"""All that the web process asks of Redis, behind one breaker and with timeouts that a webhook can afford."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from app.breaker import Breaker
from app.settings import Settings
from lua_scripts import loader
from lua_scripts.connection import WEB, check_safe, connect
from lua_scripts.due import Due, DueCounts
from lua_scripts.errors import StoreFull
from lua_scripts.inbox import Depth, Inbox
from lua_scripts.memory import Memory, read_memory
from lua_scripts.polls import PollReport, Polls
from lua_scripts.records import Accepted, DeadLetter, Ledger, MemberRecord, NewEntry, StormRecord
from lua_scripts.storms import Storms

SAFE_FOR_S: Final = 10.0
"""How long an answer to "may this Redis evict?" is trusted: somebody may change the policy while we run."""

MEMORY_FOR_S: Final = 0.25
STATE_PER_BYTE: Final = 0.5
"""Bytes of state that a byte of webhook becomes, on the safe side: labels are kept packed, repeats become nothing."""
HEADROOM_SHARE: Final = 0.06
HEADROOM_MIN: Final = 1024 * 1024
"""What intake leaves free of Redis's memory."""


class Store(Protocol):
    """What the views need; every method raises the ``StoreError`` tree."""

    def accept(self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int) -> Accepted: ...
    def check_admission(self, size: int) -> None: ...
    def check_ready(self) -> None: ...
    def ask_poll(self) -> None: ...
    def poll_report(self) -> PollReport | None: ...
    def totals(self) -> Ledger: ...
    def depth(self) -> Depth: ...
    def due_counts(self) -> DueCounts: ...
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


class RedisStore:
    """The real one. Opens its client at first use: a Redis that is away must not keep the web process from starting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._opened: _Doors | None = None
        self._safe_until = 0.0
        self._memory = Memory(0, 0)
        self._memory_until = 0.0
        self._admitted = 0

    def _doors(self) -> _Doors:
        with self._lock:
            if self._opened is None:
                # Some more than threads, for calls that overlap a connection that is being given up.
                limits = replace(WEB, max_connections=self._settings.web_threads + 8)
                client = connect(self._settings.redis_url, limits)
                inbox = Inbox(client, self._settings.redis_wait_replicas)
                self._opened = _Doors(client, inbox, Storms(client), Due(client), Polls(client))
            return self._opened

    def accept(self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int) -> Accepted:
        with self._breaker.guard():
            return self._doors().inbox.accept(shard, entries, dead, ignored)

    def check_admission(self, size: int) -> None:
        """Refuses a body of so many bytes at once where the last call went unanswered, where Redis may evict what it
        is given, and where the room that is left is needed for draining: workers and broker write to Redis too.
        """
        with self._breaker.guard():
            now = time.monotonic()
            if now >= self._safe_until:
                check_safe(self._doors().client)
                self._safe_until = now + SAFE_FOR_S
            if now >= self._memory_until:
                self._memory_until = now + MEMORY_FOR_S  # before the call, so that the other threads do not wait for it
                self._memory, self._admitted = read_memory(self._doors().client), 0
            self._admitted += size
            limit = self._memory.limit
            wanted = int(self._admitted * STATE_PER_BYTE) + max(HEADROOM_MIN, int(limit * HEADROOM_SHARE))
            if limit and self._memory.room < wanted:
                self._admitted -= size
                raise StoreFull(f"Redis uses {self._memory.used} of {limit} bytes: the rest is kept for draining")

    def check_ready(self) -> None:
        """Redis answers, keeps what it is given, and knows the scripts; they are loaded where it forgot them."""
        with self._breaker.guard():
            client = self._doors().client
            check_safe(client)
            if not loader.loaded(client):
                loader.load_all(client)

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

    def page(self, cursor: str | None, limit: int) -> tuple[list[StormRecord], str | None]:
        with self._breaker.guard():
            return self._doors().storms.page(cursor, limit)

    def find(self, name: str) -> StormRecord | None:
        with self._breaker.guard():
            return self._doors().storms.find(name)

    def members(self, storm_id: str, cursor: str | None, limit: int) -> tuple[list[MemberRecord], str | None]:
        with self._breaker.guard():
            return self._doors().storms.members(storm_id, cursor, limit)
