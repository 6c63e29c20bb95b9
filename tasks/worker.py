"""The worker process: Celery's prefork pool over all queues, and the sweep beside it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutdown
from celery.worker import state
from kombu.exceptions import OperationalError

from app.broker import Queues, Tasks, make_celery, publish_ingest
from app.logs import configure_logging
from app.settings import Settings, SettingsError
from lua_scripts.connection import check_safe
from lua_scripts.errors import StoreError, StoreUnsafe
from lua_scripts.loader import load_all
from tasks.alertmanager.turns import reconcile_alerts
from tasks.consumer import Undertaker
from tasks.liveness import CeleryConsumption, Liveness
from tasks.services import PerProcess, Services
from tasks.sweep import Sweeper
from tasks.work import aggregate, ingest, reconcile, trim

SOUND_S: Final = 10.0
"""A worker that ran for less before Celery gave up is left to whoever watches it: it may never come up."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def register(app: Celery, services: Callable[[], Services]) -> None:
    """Gives the app its tasks. They keep no state and may run twice or at once: Redis decides what takes effect."""

    task: Callable[..., Callable[[Callable[..., Any]], Any]] = app.task

    @task(name=Tasks.INGEST)
    def ingest_task(shard: int) -> dict[str, Any]:
        drained = ingest(services(), shard)
        if drained.more:
            try:
                publish_ingest(services().publisher, shard)
            except OperationalError as error:
                log.warning("no wake-up for the rest of the shard, the sweep sees to it", reason=str(error))
        return asdict(drained)

    @task(name=Tasks.AGGREGATE)
    def aggregate_task(storm_id: str, storm: str = "") -> dict[str, Any]:
        return {"storm": storm, **asdict(aggregate(services(), storm_id))}

    @task(name=Tasks.RECONCILE)
    def reconcile_task() -> dict[str, Any]:
        return asdict(reconcile(services()))

    @task(name=Tasks.RECONCILE_ALERTS)
    def reconcile_alerts_task() -> dict[str, Any]:
        return asdict(reconcile_alerts(services()))

    @task(name=Tasks.TRIM)
    def trim_task() -> int:
        return trim(services())


class SweepStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Runs the sweep beside the pool; started after the pool has forked, and before the broker must answer."""

    requires = frozenset({"celery.worker.components:Pool"})

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._sweeper: Sweeper | None = None

    def start(self, worker: Any) -> None:
        services = worker.app.services
        file = services().settings.worker_heartbeat_file
        self._sweeper = Sweeper(services, Liveness(worker.hostname, file, CeleryConsumption(worker)))
        self._sweeper.start()

    def stop(self, worker: Any) -> None:
        Undertaker(worker.pool).start()
        if self._sweeper:
            self._sweeper.stop()
            self._sweeper.join(timeout=5)


def make_worker_app(settings: Settings) -> Celery:
    """The Celery app of a worker, with tasks and sweep; opens no connection."""
    app = make_celery(settings, publisher=False)
    services = PerProcess(settings)
    app.services = services
    register(app, services)
    app.steps["worker"].add(SweepStep)
    app.conf.worker_consumer = "tasks.consumer:Consumer"
    return app


def wait_for_redis(services: Services) -> None:
    """Returns once Redis answers and has the scripts; raises ``StoreUnsafe`` where it must not be used."""
    pause = 0.2
    while True:
        try:
            check_safe(services.client)
            load_all(services.client)
            return
        except StoreUnsafe:
            raise
        except StoreError as error:
            log.warning("waiting for Redis", reason=str(error))
            time.sleep(pause)
            pause = min(5.0, pause * 2)


def _touch(file: str) -> None:
    """So that a probe finds it from the first second, and a file that cannot be written is told at once."""
    try:
        if file:
            Path(file).touch()
    except OSError as error:
        raise SettingsError(f"STORMFOLD_WORKER_HEARTBEAT_FILE: cannot write {file!r}: {error.strerror}") from error


def run_worker(settings: Settings, *, name: str | None = None) -> None:
    """Runs until SIGTERM (finishes its tasks) or SIGQUIT (does not).

    Exits 2 where Redis must not be used. Where Celery ends without being told to, this process starts anew, or exits
    with a status other than 0 where it had only just begun.
    """
    if not settings.broker_url:
        raise SettingsError("STORMFOLD_BROKER_URL: needed, for a Redis cluster cannot be the broker")
    configure_logging(settings)
    _touch(settings.worker_heartbeat_file)
    app = make_worker_app(settings)
    try:
        wait_for_redis(app.services())
    except StoreUnsafe as error:
        sys.stderr.write(f"stormfold worker: {error}\n")
        raise SystemExit(2) from error
    arguments = [
        "--quiet",
        "worker",
        "--task-events",
        "--without-gossip",
        "--without-mingle",
        "--pool=prefork",
        f"--concurrency={settings.concurrency}",
        f"--queues={','.join(Queues.ALL)}",
        f"--loglevel={settings.log_level}",
        f"--hostname={name or 'worker'}@%h",
    ]
    failed: list[int] = []

    def note(sender: Any, **_: Any) -> None:
        failed.extend([sender.exitcode] if sender.exitcode else [])

    worker_shutdown.connect(note)
    begun = time.monotonic()
    app.worker_main(arguments)  # keeps the exit status of the worker to itself
    if failed and state.should_stop is None and time.monotonic() - begun > SOUND_S:
        log.error("Celery gave up, starting this worker anew", status=failed[0])
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if failed:
        raise SystemExit(failed[0])
