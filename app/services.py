"""The parts that the views share, made once per web process and handed in, so that tests can hand in others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.alerts import Alert
from app.metrics import Metrics
from app.notify import RECONCILE, Notifier
from app.settings import Settings
from app.store import RedisStore, Store
from lua_scripts.records import NewEntry


class MakeEntries(Protocol):
    """Groups the alerts of a delivery by storm key and packs them, by shard."""

    def __call__(
        self, delivery_id: str, alerts: Sequence[Alert], settings: Settings, /
    ) -> Mapping[int, list[NewEntry]]: ...


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    store: Store
    notifier: Notifier
    make_entries: MakeEntries
    metrics: Metrics


def open_services(settings: Settings) -> Services:
    """The real parts. Connects to nothing yet."""
    from app.entries import make_entries

    store = RedisStore(settings)
    notifier = Notifier(_publisher(settings))
    return Services(settings, store, notifier, make_entries, Metrics(store, notifier))


def _publisher(settings: Settings) -> Callable[[int], None]:
    from app.broker import make_celery, publish_ingest, publish_reconcile_alerts

    celery = make_celery(settings, publisher=True)

    def publish(shard: int) -> None:
        if shard == RECONCILE:
            publish_reconcile_alerts(celery)
        else:
            publish_ingest(celery, shard)

    return publish
