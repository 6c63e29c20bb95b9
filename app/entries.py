"""What the inbox holds: alerts of one storm key of one delivery, packed by the web process and unpacked by workers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from app.alerts import Alert, StormKey, rr_namespace, storm_id, storm_key
from app.settings import Settings
from lua_scripts.keys import shard_of
from lua_scripts.records import NewEntry

MAX_ALERTS: Final = 100
"""Alerts of one entry: what one script call takes in within its few milliseconds."""
MAX_BYTES: Final = 256 * 1024
"""Packed size of one entry before compression; a single larger alert still gets an entry of its own."""


def alerts_in(entry_id: str) -> int:
    """How many alerts an entry holds, by its id: known even where the payload cannot be read."""
    return int(entry_id.rpartition("-")[2])


class BadEntry(Exception):
    """An entry cannot be read: its content is at fault, so trying again does not help."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Alerts of one storm key; ``namespace`` is where its RRs go."""

    delivery_id: str
    key: StormKey
    namespace: str
    alerts: tuple[Alert, ...]

    @property
    def storm_id(self) -> str:
        return storm_id(self.key)


def _row(alert: Alert) -> bytes:
    packed: bytes = msgpack.packb([
        alert.fingerprint, alert.firing, alert.starts_at_ms, alert.ends_at_ms, alert.labels, alert.annotations,
        alert.generator_url,
    ])  # fmt: skip
    return packed


def _pack(delivery_id: str, key: StormKey, namespace: str, rows: Sequence[bytes]) -> bytes:
    head: bytes = msgpack.packb([delivery_id, [list(pair) for pair in key], namespace, len(rows)])
    return zlib.compress(head + b"".join(rows), 1)


def pack(entry: Entry) -> bytes:
    """The entry as the inbox holds it."""
    return _pack(entry.delivery_id, entry.key, entry.namespace, [_row(alert) for alert in entry.alerts])


def unpack(payload: bytes) -> Entry:
    """The entry that ``pack`` packed. Raises ``BadEntry``."""
    try:
        stream = msgpack.Unpacker(max_buffer_size=0)
        stream.feed(zlib.decompress(payload))
        delivery_id, key, namespace, count = stream.unpack()
        alerts = tuple(Alert(*stream.unpack()) for _ in range(count))
        return Entry(delivery_id, tuple((str(label), str(value)) for label, value in key), namespace, alerts)
    except (zlib.error, ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise BadEntry(f"the entry cannot be unpacked: {error}") from error


def _chunks(alerts: Sequence[Alert]) -> Iterator[list[bytes]]:
    rows: list[bytes] = []
    size = 0
    for alert in alerts:
        row = _row(alert)
        if rows and (len(rows) == MAX_ALERTS or size + len(row) > MAX_BYTES):
            yield rows
            rows, size = [], 0
        rows.append(row)
        size += len(row)
    if rows:
        yield rows


def entries_of(
    delivery_id: str, key: StormKey, namespace: str, alerts: Sequence[Alert], first: int = 0
) -> list[NewEntry]:
    """The entries of alerts that belong to a storm key, whatever their labels say; numbered from ``first``."""
    storm = storm_id(key)
    return [
        NewEntry(f"{delivery_id}-{number}-{len(rows)}", storm, len(rows), _pack(delivery_id, key, namespace, rows))
        for number, rows in enumerate(_chunks(alerts), first)
    ]


def make_entries(delivery_id: str, alerts: Sequence[Alert], settings: Settings) -> Mapping[int, list[NewEntry]]:
    """The entries of a delivery by shard, in the order of their alerts."""
    groups: dict[StormKey, list[Alert]] = {}
    for alert in alerts:
        groups.setdefault(storm_key(alert.labels, settings.group_by), []).append(alert)
    by_shard: dict[int, list[NewEntry]] = {}
    number = 0
    for key, members in groups.items():
        namespace = rr_namespace(dict(key), settings.namespace, settings.fallback_namespace)
        made = entries_of(delivery_id, key, namespace, members, number)
        by_shard.setdefault(shard_of(made[0].storm_id), []).extend(made)
        number += len(made)
    return by_shard
