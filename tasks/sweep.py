"""The timer in every worker: publishes what is due, and does a bounded share itself where the broker refuses."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from app.broker import (
    Queues,
    publish_aggregate,
    publish_ingest,
    publish_reconcile,
    publish_reconcile_alerts,
    publish_trim,
    queue_depth,
)
from lua_scripts.errors import StoreError
from lua_scripts.keys import SHARDS
from tasks.alertmanager.turns import poll_is_due
from tasks.liveness import Liveness
from tasks.services import Services
from tasks.sinks.errors import SinkError
from tasks.work import aggregate, ingest

INTERVAL_S: Final = 0.2
BROKER_PAUSE_S: Final = 2.0
"""After a refused publish the broker is left alone for this long."""
MAX_QUEUED: Final = 512
"""Messages of one queue beyond which no more are published: nobody consumes them."""
SHARE_S: Final = 1.0
"""How long one sweep may work itself."""
LATE_MS: Final = 5000
"""An inbox whose oldest entry is this old is drained here, whatever became of its wake-up."""
JOBS_S: Final = 1.0
AUDIT_MS: Final = 2000
"""One shard's ledger is checked in each; a round over all takes about half a minute."""
JOBS: Final[tuple[tuple[str, int, Callable[[Celery], None]], ...]] = (
    ("trim", 600_000, publish_trim),
    ("reconcile", 300_000, publish_reconcile),
)
"""Periodic jobs: name, period in ms, and how to ask a worker for it. A turn that gets lost comes again next period."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Sweeper(threading.Thread):
    """Looks at all shards about five times a second until stopped. It survives all failures of Redis and broker."""

    def __init__(self, services: Callable[[], Services], liveness: Liveness | None = None) -> None:
        super().__init__(name="stormfold-sweep", daemon=True)
        self._services = services
        self._liveness = liveness
        self._stopping = threading.Event()
        self._broker_pause = 0.0
        self._next_jobs = 0.0
        self._failing = False

    def stop(self) -> None:
        """Ends after the sweep under way."""
        self._stopping.set()

    def run(self) -> None:
        try:
            self._loop()
        except BaseException:
            # A worker without a sweep would look healthy and depend on the broker: better it ends and is started anew.
            log.critical("the sweep failed for a reason of its own; this worker stops", exc_info=True)
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    def _loop(self) -> None:
        while not self._stopping.wait(random.uniform(0.75, 1.25) * INTERVAL_S):
            try:
                self.sweep()
            except (StoreError, SinkError) as error:
                if not self._failing:
                    log.warning("sweep does not get through, it goes on trying", reason=str(error))
                self._failing = True
            else:
                if self._failing:
                    log.info("sweep gets through again")
                self._failing = False
            if self._liveness:
                with suppress(StoreError):  # the file alone says it then
                    self._liveness.look(self._services())

    def sweep(self) -> None:
        """One look at all shards. Raises ``StoreError``."""
        services = self._services()
        # A mark outlives neither a lease nor a minute: a task that died with its worker delays a storm by no more.
        lapse = min(60_000, services.settings.lease)
        shards = random.sample(range(SHARDS), SHARDS)
        found = services.due.sweep(shards, lapse)
        mine_to_drain = self._wake([sweep.shard for sweep in found if sweep.wake])
        mine_to_write = self._publish([storm for sweep in found for storm in sweep.storms])
        # Where the broker refuses, the web's wake-ups are refused as well: nobody else will hear of what waits.
        late = 0 if time.monotonic() < self._broker_pause else LATE_MS
        mine_to_drain += [s.shard for s in found if s.entries and s.oldest_ms <= s.now_ms - late]
        mine_to_write += [storm for sweep in found for storm in sweep.overdue]
        self._work(services, mine_to_drain, mine_to_write)
        self._jobs(services)

    def _jobs(self, services: Services) -> None:
        """Publishes periodic jobs whose turn has come; looked at about once a second."""
        if time.monotonic() < self._next_jobs:
            return
        self._next_jobs = time.monotonic() + JOBS_S
        for name, period_ms, publish in JOBS:
            if services.jobs.my_turn(name, period_ms):
                self._try(lambda publish=publish: publish(services.publisher))  # type: ignore[misc]
        if services.jobs.my_turn("audit", AUDIT_MS):
            for finding in services.audit.look():
                log.error("the ledger does not balance", where=finding)
        if poll_is_due(services):
            self._try(lambda: publish_reconcile_alerts(services.publisher))

    def _wake(self, shards: Sequence[int]) -> list[int]:
        """Publishes wake-ups; the shards for which the broker would not."""
        services = self._services()
        return [s for s in shards if not self._try(lambda s=s: publish_ingest(services.publisher, s))]  # type: ignore[misc]

    def _publish(self, storm_ids: Sequence[str]) -> list[str]:
        """Publishes tasks for due storms; the storms for which the broker would not."""
        if not storm_ids:
            return []
        services = self._services()
        if not self._try(lambda: self._check_depth(services)):
            return list(storm_ids)
        names = services.due.names(storm_ids)
        return [
            storm_id
            for storm_id, name in zip(storm_ids, names, strict=True)
            if not self._try(lambda s=storm_id, n=name: publish_aggregate(services.publisher, s, n))  # type: ignore[misc]
        ]

    @staticmethod
    def _check_depth(services: Services) -> None:
        depth = queue_depth(services.publisher, Queues.AGGREGATE)
        if depth > MAX_QUEUED:
            raise OperationalError(f"{depth} messages wait in the queue already")

    def _try(self, publish: Callable[[], None]) -> bool:
        if time.monotonic() < self._broker_pause:
            return False
        try:
            publish()
        except OperationalError as error:
            self._broker_pause = time.monotonic() + BROKER_PAUSE_S
            log.warning("the broker refuses; this worker does the work itself", reason=str(error))
            return False
        return True

    def _work(self, services: Services, shards: Sequence[int], storms: Sequence[str]) -> None:
        end = time.monotonic() + SHARE_S
        for shard in dict.fromkeys(shards):
            if time.monotonic() >= end or self._stopping.is_set():
                return
            ingest(services, shard, budget_s=end - time.monotonic())
        for storm_id in dict.fromkeys(storms):
            if time.monotonic() >= end or self._stopping.is_set():
                return
            aggregate(services, storm_id)
