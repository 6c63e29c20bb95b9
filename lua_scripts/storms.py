"""The state of storms: taking entries in, and reading what stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lua_scripts import packing
from lua_scripts.errors import StoreError
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, storm_key_names
from lua_scripts.loader import Client, Scripts, translated
from lua_scripts.packing import Detail
from lua_scripts.records import (
    Ledger,
    MemberRecord,
    Phase,
    ResourceRecord,
    Rules,
    StormAlert,
    StormRecord,
    StormType,
    Taken,
)

PHASES: Final[Mapping[str, Phase]] = {"G": "GATHERING", "A": "ACTIVE", "R": "RESOLVED"}
TYPES: Final[Mapping[str, StormType]] = {"": "", "p": "pattern", "r": "rate"}


@dataclass(frozen=True, slots=True)
class EntryToTake:
    """An entry ready for ``ingest``; ``details`` runs parallel to ``alerts``, or is empty where it is not at hand.

    ``cause_labels``: of which labels it is counted what firing members share; those that the key does not say.
    """

    entry_id: str
    storm_id: str
    slug: str
    namespace: str
    key: tuple[tuple[str, str], ...]
    alerts: Sequence[StormAlert]
    common: Mapping[str, str]
    details: Sequence[Detail] = ()
    cause_labels: Sequence[str] = ()


def text_fields(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    """A header as texts."""
    return {name.decode(): value.decode() for name, value in raw.items()}


def storm_record(storm_id: str, header: Mapping[str, str], key: Mapping[str, str]) -> StormRecord:
    """A header as storm.lua stores it, typed; absent fields are 0 or empty."""

    def number(field: str) -> int:
        return int(float(header.get(field, 0)))

    return StormRecord(
        storm_id=storm_id,
        name=header.get("n", ""),
        namespace=header.get("ns", ""),
        key=key,
        phase=PHASES[header["ph"]],
        storm_type=TYPES[header.get("ty", "")],
        epoch_ms=number("e"),
        alert_count=number("f"),
        total_alerts=number("nw") + number("ro"),
        first_seen_ms=number("fs"),
        last_seen_ms=number("ls"),
        flaps=number("fl"),
        fence=number("fn"),
        ledger=Ledger(
            received=number("rc"), new=number("nw"), duplicate=number("du"), reopened=number("ro"),
            resolved=number("rs"), outdated=number("od"),
        ),
        silenced=min(number("si") - 1, number("f")) if number("si") else None,
    )  # fmt: skip


def storm_namespace(client: Any, keys: StormKeys) -> str:
    """The namespace in a storm's key, which its resources are stored without; '' where the key has none."""
    raw = client.get(keys.text)
    return packing.unpack_key(raw).get("namespace", "") if raw else ""


class Storms:
    """Storms of all shards. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def phases(self, storm_ids: Sequence[str]) -> list[Phase | None]:
        """The phase of each storm, None where none is open: a hint whether ``ingest`` will want details."""
        if not storm_ids:
            return []
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for storm_id in storm_ids:
                pipeline.hget(StormKeys(storm_id).header, "ph")
            return [PHASES[raw.decode()] if raw else None for raw in pipeline.execute()]

    def ingest(self, entries: Sequence[EntryToTake], rules: Rules) -> list[Taken | StoreError]:
        """Takes entries into their storms, each atomically; a failed one's place holds its error."""
        packed_rules = packing.pack(rules.as_list())
        calls = [(storm_key_names(entry.storm_id), self._arguments(entry, packed_rules)) for entry in entries]
        return [
            reply if isinstance(reply, StoreError) else self._taken(reply)
            for reply in self._scripts.run_many("ingest", calls)
        ]

    @staticmethod
    def _arguments(entry: EntryToTake, rules: bytes) -> list[str | bytes | int]:
        alerts: list[tuple[bytes, int, int, int, bytes, int, int]] = []
        texts: dict[bytes, bytes] = {}
        own = dict(entry.key).get("namespace", "")
        places, causes = packing.pack_causes(entry.cause_labels, [alert.causes for alert in entry.alerts])
        for alert, place in zip(entry.alerts, places, strict=True):
            rid, text = packing.pack_resource(alert.kind, alert.name, alert.namespace, alert.node, own)
            texts[rid] = text
            fingerprint = packing.pack_fingerprint(alert.fingerprint)
            times = alert.starts_at_ms, alert.ends_at_ms
            alerts.append((fingerprint, int(alert.firing), *times, rid, alert.severity, place))
        return [
            entry.entry_id, rules, entry.storm_id, entry.slug, entry.namespace, packing.pack_key(entry.key),
            packing.pack(alerts), packing.pack(texts), packing.pack_common(entry.common),
            packing.pack([packing.pack_detail(detail) for detail in entry.details]), causes,
        ]  # fmt: skip

    @staticmethod
    def _taken(reply: Sequence[Any]) -> Taken:
        status = reply[0].decode()
        if status != "ok":
            return Taken(status)
        phase = reply[6].decode()
        new, duplicate, reopened, resolved, outdated = (int(count) for count in reply[1:6])
        return Taken("ok", new, duplicate, reopened, resolved, outdated, PHASES[phase] if phase else None)

    def page(self, cursor: str | None = None, limit: int = 100) -> tuple[list[StormRecord], str | None]:
        """A page of open storms and the cursor of the next; one that opens or closes meanwhile may be missed.

        ``ValueError`` for a cursor that is not one of ours.
        """
        shard, offset = (int(part) for part in cursor.split(".")) if cursor else (0, 0)
        found: list[StormRecord] = []
        with translated():
            while shard < SHARDS and len(found) < limit:
                wanted = limit - len(found)
                # by id, not by due time: that would move while pages are turned
                ids = sorted(raw.decode() for raw in self._client.zrange(ShardKeys(shard).due, 0, -1))
                chosen = ids[offset : offset + wanted]
                found += self._records(chosen)
                if offset + wanted >= len(ids):
                    shard, offset = shard + 1, 0
                else:
                    offset += wanted
        return found, f"{shard}.{offset}" if shard < SHARDS else None

    def _records(self, storm_ids: Sequence[str]) -> list[StormRecord]:
        if not storm_ids:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for storm_id in storm_ids:
            pipeline.hgetall(StormKeys(storm_id).header)
            pipeline.get(StormKeys(storm_id).text)
        replies = pipeline.execute()
        records = []
        for at, storm_id in enumerate(storm_ids):
            header, text = text_fields(replies[2 * at]), replies[2 * at + 1]
            if header and text:
                records.append(storm_record(storm_id, header, packing.unpack_key(text)))
        return records

    def find(self, name: str) -> StormRecord | None:
        """The open storm whose RR is called ``name``. The name's last digit is its shard."""
        if not name.startswith("storm-") or name[-1] not in "0123456789abcdef":
            return None
        with translated():
            ids = [raw.decode() for raw in self._client.zrange(ShardKeys(int(name[-1], 16)).due, 0, -1)]
            if not ids:
                return None
            pipeline = self._client.pipeline(transaction=False)
            for storm_id in ids:
                pipeline.hget(StormKeys(storm_id).header, "n")
            for storm_id, raw in zip(ids, pipeline.execute(), strict=True):
                if raw is not None and raw.decode() == name:
                    return next(iter(self._records([storm_id])), None)
        return None

    def members(
        self, storm_id: str, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[MemberRecord], str | None]:
        """About ``limit`` members and the cursor of the next page; every member that is there throughout is named.

        ``ValueError`` for a cursor that is not one of ours.
        """
        keys = StormKeys(storm_id)
        part, _, position = (cursor or "m.0").partition(".")
        at = int(position)
        with translated():
            if part == "m":
                at, page = self._client.hscan(keys.members, at, count=limit)
                members = self._named(keys, page)
                return members, f"m.{at}" if at else ("o.0" if self._client.exists(keys.overflow) else None)
            if part != "o":
                raise ValueError(f"not a cursor: {cursor}")
            at, page = self._client.hscan(keys.overflow, at, count=max(1, limit // 16))
        return [
            MemberRecord(fingerprint, "firing", 0, None) for raw in page.values() for fingerprint in _bucket(raw)
        ], f"o.{at}" if at else None

    def _named(self, keys: StormKeys, page: Mapping[bytes, bytes]) -> list[MemberRecord]:
        rids = {raw[8:16] for raw in page.values()}
        wanted = sorted(rids)
        raws = self._client.hmget(keys.resources, wanted) if wanted else []
        own = storm_namespace(self._client, keys)
        resources: dict[bytes, ResourceRecord] = {
            rid: packing.unpack_resource(raw, own).record for rid, raw in zip(wanted, raws, strict=True) if raw
        }
        return [
            MemberRecord(
                packing.unpack_fingerprint(name),
                "firing" if raw[:1] == b"F" else "resolved",
                int.from_bytes(raw[1:7], "big"),
                resources.get(raw[8:16]),
            )
            for name, raw in page.items()
        ]


def _bucket(raw: bytes) -> list[str]:
    """The fingerprints of one overflow bucket: (length, fingerprint) after another."""
    result, at = [], 0
    while at < len(raw):
        length = raw[at]
        result.append(packing.unpack_fingerprint(raw[at + 1 : at + 1 + length]))
        at += 1 + length
    return result
