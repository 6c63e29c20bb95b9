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
from lua_scripts.inbox import Depth, Inbox
from lua_scripts.records import Accepted, DeadLetter, Ledger, MemberRecord, NewEntry, StormRecord
from lua_scripts.storms import Storms

SAFE_FOR_S: Final = 10.0
"""How long an answer to "may this Redis evict?" is trusted: somebody may change the policy while we run."""


class Store(Protocol):
    """What the views need; every method raises the ``StoreError`` tree."""

    def accept(self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int) -> Accepted: ...
    def check_admission(self) -> None: ...
    def check_ready(self) -> None: ...
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


class RedisStore:
    """The real one. Opens its client at first use: a Redis that is away must not keep the web process from starting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._breaker = Breaker()
        self._lock = threading.Lock()
        self._opened: _Doors | None = None
        self._safe_until = 0.0

    def _doors(self) -> _Doors:
        with self._lock:
            if self._opened is None:
                # Some more than threads, for calls that overlap a connection that is being given up.
                limits = replace(WEB, max_connections=self._settings.web_threads + 8)
                client = connect(self._settings.redis_url, limits)
                inbox = Inbox(client, self._settings.redis_wait_replicas)
                self._opened = _Doors(client, inbox, Storms(client), Due(client))
            return self._opened

    def accept(self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int) -> Accepted:
        with self._breaker.guard():
            return self._doors().inbox.accept(shard, entries, dead, ignored)

    def check_admission(self) -> None:
        """Raises at once where the last call went unanswered, and where Redis may evict what it is given."""
        with self._breaker.guard():
            if time.monotonic() >= self._safe_until:
                check_safe(self._doors().client)
                self._safe_until = time.monotonic() + SAFE_FOR_S

    def check_ready(self) -> None:
        """Redis answers, keeps what it is given, and knows the scripts; they are loaded where it forgot them."""
        with self._breaker.guard():
            client = self._doors().client
            check_safe(client)
            if not loader.loaded(client):
                loader.load_all(client)

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
