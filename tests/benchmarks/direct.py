"""Takes alerts into storms without HTTP and Celery, through the code that web and worker use."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.alerts import Alert, storm_id, storm_key
from app.cli.payloads import PostedAlert
from app.entries import make_entries, unpack
from app.settings import Settings, load
from lua_scripts.loader import load_all
from lua_scripts.records import NewEntry
from lua_scripts.storms import EntryToTake
from tasks.ingest import to_take
from tasks.services import Services
from tasks.work import ingest
from tests.support.redis_server import RedisServer

CAUSE_LABELS: Final = load({}).cause_labels


def services(server: RedisServer, folder: Path, **settings: str) -> Services:
    """What a worker has, on this server."""
    own = {"REDIS_URL": server.url, "SINK": f"directory:{folder / 'manifests'}"} | settings
    found: Settings = load({f"STORMFOLD_{name}": value for name, value in own.items()})
    made = Services(found)
    load_all(made.client)
    return made


def to_alert(posted: PostedAlert) -> Alert:
    """The alert as the webhook reads it."""
    ends = int(posted.ends_at.timestamp() * 1000) if posted.ends_at else 0
    return Alert(
        fingerprint=posted.fingerprint, firing=posted.firing, starts_at_ms=int(posted.starts_at.timestamp() * 1000),
        ends_at_ms=ends, labels=dict(posted.labels), annotations=dict(posted.annotations),
        generator_url=posted.generator_url,
    )  # fmt: skip


def id_of(services: Services, alert: Alert) -> str:
    return storm_id(storm_key(alert.labels, services.settings.group_by))


def accept(services: Services, alerts: Sequence[Alert]) -> list[NewEntry]:
    """Puts one delivery into the inbox; its entries."""
    by_shard = make_entries(uuid.uuid4().hex, alerts, services.settings)
    for shard, entries in by_shard.items():
        services.inbox.accept(shard, entries)
    return list(itertools.chain.from_iterable(by_shard.values()))


def call_for(entry: NewEntry) -> EntryToTake:
    """The script call of an entry whose storm is active already."""
    return to_take(entry.entry_id, unpack(entry.payload), CAUSE_LABELS, details=False)


def record(services: Services, alerts: Sequence[Alert]) -> None:
    """Accepts and drains."""
    for shard in {int(entry.storm_id[0], 16) for entry in accept(services, alerts)}:
        ingest(services, shard)
