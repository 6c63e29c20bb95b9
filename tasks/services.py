"""What the tasks of one process work with, opened lazily so that every pool child has connections of its own."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property

from celery import Celery

from app.broker import make_celery
from app.settings import Settings
from lua_scripts.audit import Audit
from lua_scripts.budget import Budget
from lua_scripts.connection import WORKER, connect
from lua_scripts.due import Due
from lua_scripts.inbox import Inbox
from lua_scripts.jobs import Jobs
from lua_scripts.leases import Leases
from lua_scripts.loader import Client
from lua_scripts.orphans import Orphans
from lua_scripts.polls import Polls
from lua_scripts.presence import Presence
from lua_scripts.records import Rules
from lua_scripts.refusals import Refusals
from lua_scripts.storms import Storms
from lua_scripts.workers import Workers
from tasks.sinks import open_sink
from tasks.sinks.base import Sink
from tasks.sinks.gate import BudgetGate


def rules_of(settings: Settings) -> Rules:
    """The storm rules among the settings."""
    return Rules(
        rate_threshold=settings.rate_threshold,
        rate_window=settings.rate_window,
        pattern_threshold=settings.pattern_threshold,
        pattern_window=settings.pattern_window,
        debounce=settings.debounce,
        max_wait=settings.max_wait,
        single_hold=settings.single_hold,
        reopen_window=settings.reopen_window,
        stale_after=settings.stale_after,
        max_members=settings.max_members,
        tombstone=settings.tombstone,
    )


@dataclass(frozen=True)
class Services:
    """One process's doors to Redis, the broker and the sink."""

    settings: Settings

    @cached_property
    def rules(self) -> Rules:
        return rules_of(self.settings)

    @cached_property
    def client(self) -> Client:
        return connect(self.settings.redis_url, WORKER)

    @cached_property
    def inbox(self) -> Inbox:
        return Inbox(self.client)

    @cached_property
    def storms(self) -> Storms:
        return Storms(self.client)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.client)

    @cached_property
    def refusals(self) -> Refusals:
        return Refusals(self.client)

    @cached_property
    def due(self) -> Due:
        return Due(self.client)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.client)

    @cached_property
    def audit(self) -> Audit:
        return Audit(self.client)

    @cached_property
    def workers(self) -> Workers:
        return Workers(self.client)

    @cached_property
    def orphans(self) -> Orphans:
        return Orphans(self.client)

    @cached_property
    def presence(self) -> Presence:
        return Presence(self.client)

    @cached_property
    def polls(self) -> Polls:
        return Polls(self.client)

    @cached_property
    def publisher(self) -> Celery:
        return make_celery(self.settings, publisher=True)

    @cached_property
    def gate(self) -> BudgetGate:
        return BudgetGate(Budget(self.client, self.settings.kube_writes_per_second))

    @cached_property
    def sink(self) -> Sink:
        return open_sink(self.settings, self.gate)


class PerProcess:
    """Hands out the services of the process that asks: a forked child must not share its parent's sockets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._owner = 0
        self._services = Services(settings)

    def __call__(self) -> Services:
        if self._owner != os.getpid():
            with self._lock:
                if self._owner != os.getpid():
                    self._services = Services(self._settings)
                    self._owner = os.getpid()
        return self._services
