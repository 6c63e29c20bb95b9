"""What the storms hold of the alerts that Alertmanager lists, and how long it has not listed what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lua_scripts import packing
from lua_scripts.keys import StormKeys, storm_key_names
from lua_scripts.loader import Client, Scripts, now_ms, translated
from lua_scripts.records import Rules

BATCH: Final = 500
"""Most fingerprints that one question to Redis is about."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a storm holds of one alert. ``resolved_ms``: when the resolve that stands was received, 0 for none."""

    firing: bool
    resolved_ms: int


@dataclass(frozen=True, slots=True)
class HeldOf:
    """Whether the storm is open, and those of the alerts asked for that it knows, by fingerprint."""

    open: bool = False
    alerts: Mapping[str, Held] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FiringMember:
    """A member that fires, with what a resolve must come after: its start and the end last applied."""

    fingerprint: str
    starts_at_ms: int
    last_end_ms: int


@dataclass(frozen=True, slots=True)
class Absences:
    """How many polls in a row have missed which members, as of the poll of that number."""

    poll: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


class Presence:
    """Questions about members, in bounded batches. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def now_ms(self) -> int:
        """The time by Redis's clock."""
        return now_ms(self._client)

    def held(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, HeldOf]:
        """What each storm (by id) holds of these fingerprints."""
        parts = [
            (storm_id, list(fingerprints[at : at + BATCH]))
            for storm_id, fingerprints in wanted.items()
            for at in range(0, len(fingerprints), BATCH)
        ]
        found: dict[str, dict[str, Held]] = {}
        is_open: dict[str, bool] = {}
        for batch in _batches(parts):
            for storm_id, opened, alerts in self._held(batch):
                is_open[storm_id] = opened
                found.setdefault(storm_id, {}).update(alerts)
        return {storm_id: HeldOf(is_open[storm_id], alerts) for storm_id, alerts in found.items()}

    def _held(self, parts: Sequence[tuple[str, list[str]]]) -> Iterator[tuple[str, bool, dict[str, Held]]]:
        packed = [[packing.pack_fingerprint(fingerprint) for fingerprint in names] for _, names in parts]
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for (storm_id, _), names in zip(parts, packed, strict=True):
                pipeline.hmget(StormKeys(storm_id).header, "ph", "of")
                pipeline.hmget(StormKeys(storm_id).members, names)
            replies = pipeline.execute()
        for at, (storm_id, fingerprints) in enumerate(parts):
            (phase, overflow), raws = replies[2 * at], replies[2 * at + 1]
            alerts = {name: _held(raw) for name, raw in zip(fingerprints, raws, strict=True) if raw}
            if phase and int(overflow or 0):
                strangers = {
                    key: name for key, name in zip(packed[at], fingerprints, strict=True) if name not in alerts
                }
                alerts |= {strangers[key]: Held(True, 0) for key in self._in_overflow(storm_id, list(strangers))}
            yield storm_id, phase is not None, alerts

    def _in_overflow(self, storm_id: str, names: Sequence[bytes]) -> list[bytes]:
        """Those of the packed fingerprints that are members beyond MAX_MEMBERS."""
        if not names:
            return []
        buckets = {name: hashlib.sha1(name, usedforsecurity=False).hexdigest()[:3] for name in names}
        wanted = sorted(set(buckets.values()))
        with translated():
            raws = self._client.hmget(StormKeys(storm_id).overflow, wanted)
        held = {bucket: set(_bucket(raw)) for bucket, raw in zip(wanted, raws, strict=True) if raw}
        return [name for name in names if name in held.get(buckets[name], ())]

    def firing(self, storm_id: str) -> Iterator[list[FiringMember]]:
        """The members that fire, page by page; one may come twice. Those beyond MAX_MEMBERS are not among them."""
        cursor = 0
        while True:
            with translated():
                cursor, page = self._client.hscan(StormKeys(storm_id).members, cursor, count=BATCH)
            yield [
                FiringMember(packing.unpack_fingerprint(name), _number(raw, 1), _number(raw, 16))
                for name, raw in page.items()
                if raw[:1] == b"F"
            ]
            if cursor == 0:
                return

    def absences(self, storm_ids: Sequence[str]) -> list[Absences]:
        """What was noted last about each storm."""
        if not storm_ids:
            return []
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for storm_id in storm_ids:
                pipeline.get(StormKeys(storm_id).absent)
            raws = pipeline.execute()
        return [_absences(raw) if raw else Absences() for raw in raws]

    def note_absences(self, storm_id: str, absences: Absences, keep_ms: int) -> None:
        """Notes what a poll missed; forgotten after ``keep_ms``, or at once where it missed nothing."""
        key = StormKeys(storm_id).absent
        with translated():
            if not absences.counts:
                self._client.delete(key)
                return
            counts = {packing.pack_fingerprint(name): count for name, count in absences.counts.items()}
            self._client.set(key, packing.pack([absences.poll, counts]), px=keep_ms)

    def silenced_singles(self, storm_id: str) -> frozenset[str]:
        """The alerts whose Singles were noted to be silenced, read in bounded pages."""
        found: set[str] = set()
        cursor = 0
        while True:
            with translated():
                cursor, page = self._client.hscan(StormKeys(storm_id).singles, cursor, count=BATCH)
            found.update(packing.unpack_fingerprint(name) for name, raw in page.items() if _is_silenced(raw))
            if cursor == 0:
                return frozenset(found)

    def note_silenced(
        self, storm_id: str, members: int | None, rules: Rules, began: Iterable[str] = (), ended: Iterable[str] = ()
    ) -> bool:
        """Notes how many firing members are silenced (None: as before), and of which Singles that began or ended.

        Whether any of it is news, which the RRs will then show. The number comes last: until it is noted, all of this
        is compared again.
        """
        packed = [[packing.pack_fingerprint(name) for name in names] for names in (began, ended)]
        longest = max(len(names) for names in packed)
        news = False
        for at in range(0, max(1, longest), BATCH):
            parts = packing.pack([names[at : at + BATCH] for names in packed])
            count = "" if members is None or at + BATCH < longest else members
            args = (storm_id, packing.pack(rules.as_list()), count, parts)
            news |= bool(self._scripts.run("silence", storm_key_names(storm_id), args))
        return news


def _batches(parts: Sequence[tuple[str, list[str]]]) -> Iterator[list[tuple[str, list[str]]]]:
    """The parts in runs of about BATCH fingerprints together."""
    batch: list[tuple[str, list[str]]] = []
    size = 0
    for part in parts:
        if batch and size + len(part[1]) > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += len(part[1])
    if batch:
        yield batch


def _number(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 6], "big")


def _held(raw: bytes) -> Held:
    """A member record as dedup.lua packs it: after the first resolve it ends with the receipt of its last turn."""
    firing = raw[:1] == b"F"
    return Held(firing, 0 if firing else _number(raw, 22))


def _is_silenced(raw: bytes) -> bool:
    """A Single's record as storm.lua packs it; one from before silences were noted there is shorter."""
    fields = packing.unpack(raw)
    return len(fields) > 9 and fields[9] == 2


def _absences(raw: bytes) -> Absences:
    poll, counts = packing.unpack(raw)
    return Absences(poll, {packing.unpack_fingerprint(name): count for name, count in counts.items()})


def _bucket(raw: bytes) -> Iterator[bytes]:
    """The packed fingerprints of an overflow bucket: (length, fingerprint) after another."""
    at = 0
    while at < len(raw):
        yield raw[at + 1 : at + 1 + raw[at]]
        at += 1 + raw[at]
