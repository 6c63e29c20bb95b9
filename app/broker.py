"""Celery as both sides use it: names of tasks and queues, and settings under which neither side hangs or gives up."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from app.settings import Settings


class Queues:
    """Every queue; each worker consumes all of them."""

    INGEST: Final = "ingest"
    AGGREGATE: Final = "aggregate"
    MAINTENANCE: Final = "maintenance"
    ALL: Final = (INGEST, AGGREGATE, MAINTENANCE)


class Tasks:
    """Task names as they stand in messages; web and workers share nothing else."""

    INGEST: Final = "stormfold.ingest"
    AGGREGATE: Final = "stormfold.aggregate"
    TRIM: Final = "stormfold.trim"
    RECONCILE: Final = "stormfold.reconcile"
    RECONCILE_ALERTS: Final = "stormfold.reconcile_alerts"


# A publisher must fail fast: the message is only a wake-up, and the webhook's answer waits for nobody.
_PUBLISHER_TRANSPORT: Final = {
    "socket_timeout": 0.5,
    "socket_connect_timeout": 0.3,
    "retry_on_timeout": False,
    "max_retries": 0,
}
# A worker must never give up. Tasks take seconds; one that a dead worker held comes back after two minutes at most.
_WORKER_TRANSPORT: Final = {
    "visibility_timeout": 120,
    "health_check_interval": 3,
    "socket_keepalive": True,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}


def broker_address(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as kombu writes it, and the transport options that go with it."""
    parts = urlsplit(url)
    if parts.scheme != "redis+sentinel":
        return url, {}
    primary, _, db = parts.path.strip("/").partition("/")
    credentials, at, hosts = parts.netloc.rpartition("@")
    urls = ";".join(f"sentinel://{credentials}{at}{host}/{db or 0}" for host in hosts.split(","))
    return urls, {"master_name": primary}


def make_celery(settings: Settings, *, publisher: bool) -> Celery:
    """An app that publishes (fails within half a second) or one that works (connects for ever). Opens no connection."""
    url, options = broker_address(settings.broker_url)
    app = Celery("stormfold", broker=url, set_as_current=not publisher)
    app.conf.update(
        broker_transport_options={**(_PUBLISHER_TRANSPORT if publisher else _WORKER_TRANSPORT), **options},
        broker_connection_timeout=0.5 if publisher else 4.0,
        broker_connection_retry=not publisher,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A full Redis refuses an acknowledgement too: for Celery an error of the channel, which ends a worker.
        broker_channel_error_retry=not publisher,
        broker_pool_limit=settings.web_threads + 2,
        task_publish_retry=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=Queues.MAINTENANCE,
        task_queues=[Queue(name, routing_key=name) for name in Queues.ALL],  # type: ignore[no-untyped-call]
        task_routes={
            Tasks.INGEST: {"queue": Queues.INGEST},
            Tasks.AGGREGATE: {"queue": Queues.AGGREGATE},
            Tasks.TRIM: {"queue": Queues.MAINTENANCE},
            Tasks.RECONCILE: {"queue": Queues.MAINTENANCE},
            Tasks.RECONCILE_ALERTS: {"queue": Queues.MAINTENANCE},
        },
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
    )
    return app


def publish_ingest(app: Celery, shard: int) -> None:
    """Wakes a worker for a shard's inbox. Raises ``kombu.exceptions.OperationalError``."""
    app.send_task(Tasks.INGEST, kwargs={"shard": shard}, queue=Queues.INGEST)


def publish_aggregate(app: Celery, storm_id: str, name: str) -> None:
    """Asks for a due storm to be written; the name is for people who read the task's arguments."""
    app.send_task(Tasks.AGGREGATE, kwargs={"storm": name, "storm_id": storm_id}, queue=Queues.AGGREGATE)


def publish_trim(app: Celery) -> None:
    """Asks for dead letters beyond their bounds to be shed."""
    app.send_task(Tasks.TRIM, queue=Queues.MAINTENANCE)


def publish_reconcile(app: Celery) -> None:
    """Asks for the open RRs in the sink to be held against the state."""
    app.send_task(Tasks.RECONCILE, queue=Queues.MAINTENANCE)


def publish_reconcile_alerts(app: Celery) -> None:
    """Asks for the storms to be held against what Alertmanager lists. Raises ``OperationalError``."""
    app.send_task(Tasks.RECONCILE_ALERTS, queue=Queues.MAINTENANCE)


def queue_depth(app: Celery, queue: str) -> int:
    """Messages that wait in a queue. Raises ``kombu.exceptions.OperationalError``."""
    with app.connection_for_write() as connection:
        try:
            with connection.channel() as channel:
                declared = channel.queue_declare(queue=queue, passive=False, durable=True, auto_delete=False)
        except (*connection.connection_errors, *connection.channel_errors) as error:
            # Unlike publishing, this reaches the transport bare: what is raised is redis-py's own.
            raise OperationalError(str(error)) from error
        return int(declared.message_count)
