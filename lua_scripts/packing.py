"""How fingerprints, resources and texts are packed for the scripts, and read back."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from lua_scripts.records import Cause, ResourceRecord

_HEX16: Final = re.compile(r"[0-9a-f]{16}")
GENERATIONS: Final = 32768
"""Flush generations that a resource record tells apart."""
YEAR_2020: Final = 1_577_836_800_000
_SHORT: Final = struct.Struct(">HBB5s")
_LONG: Final = struct.Struct(">H3s3s5s")
_KINDS: Final = (
    "Pod", "Node", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "PersistentVolumeClaim",
    "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service", "Instance", "Unknown",
)  # fmt: skip
"""Kinds that take one byte; others are spelt out. New ones go to the end: stored records hold the places."""
_KIND_OF: Final = {chr(at): kind for at, kind in enumerate(_KINDS, 1)}
_BYTE_OF: Final = {kind: byte for byte, kind in _KIND_OF.items()}
_LABEL_ID: Final = 6


def pack(value: Any) -> bytes:
    """msgpack without the bin types, which Redis's cmsgpack does not know."""
    packed: bytes = msgpack.packb(value, use_bin_type=False)
    return packed


def unpack(raw: bytes) -> Any:
    """What ``pack`` or cmsgpack packed; texts come back as bytes."""
    return msgpack.unpackb(raw, raw=True, strict_map_key=False)


def pack_fingerprint(text: str) -> bytes:
    """Alertmanager's 16 hex digits as 8 bytes; any other text behind a NUL (two, where that made it 8 bytes long)."""
    if _HEX16.fullmatch(text):
        return bytes.fromhex(text)
    raw = b"\0" + text.encode()
    return b"\0" + raw if len(raw) == 8 else raw


def unpack_fingerprint(raw: bytes) -> str:
    """The text that ``pack_fingerprint`` packed."""
    return raw.hex() if len(raw) == 8 else raw.lstrip(b"\0").decode()


def pack_resource(kind: str, name: str, namespace: str, node: str, storm_namespace: str) -> tuple[bytes, bytes]:
    """(resource id, text): 8 bytes of a hash, and what is stored under it. The node does not make another resource.

    The text is kind and name; the node where there is one; then the namespace where it is not that of the storm key.
    """
    text = _BYTE_OF.get(kind, f"{kind}\0") + name
    rid = hashlib.blake2b(f"{kind}\0{name}\0{namespace}".encode(), digest_size=8).digest()
    if namespace != storm_namespace:
        text += f"\0{node}\0{namespace}"
    elif node:
        text += f"\0{node}"
    return rid, text.encode()


@dataclass(frozen=True, slots=True)
class ResourceState:
    """A resource record as stored; ``shown`` is its count as of flush generation ``stamp``."""

    record: ResourceRecord
    shown: int
    stamp: int


def unpack_resource(raw: bytes, storm_namespace: str = "") -> ResourceState:
    """A resource record as storm.lua packs it."""
    stamp, count, shown, first = _SHORT.unpack_from(raw)
    size = _SHORT.size
    if stamp >= GENERATIONS:
        stamp, long_count, long_shown, first = _LONG.unpack_from(raw)
        stamp, size = stamp - GENERATIONS, _LONG.size
        count, shown = int.from_bytes(long_count, "big"), int.from_bytes(long_shown, "big")
    text = raw[size:].decode()
    kind = _KIND_OF.get(text[:1])
    parts = [kind, *text[1:].split("\0")] if kind else text.split("\0")
    kind, name, node = (*parts, "", "", "")[:3]
    namespace = parts[3] if len(parts) > 3 else storm_namespace
    first_ms = YEAR_2020 + int.from_bytes(first, "big")
    return ResourceState(ResourceRecord(kind, name, namespace, node, first_ms, count), shown, stamp)


@dataclass(frozen=True, slots=True)
class Detail:
    """What an alert says beyond its identity; kept only until its Single is written, and for one sample per storm."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    generator_url: str


def pack_detail(detail: Detail) -> bytes:
    """A detail, compressed."""
    packed: bytes = msgpack.packb([dict(detail.labels), dict(detail.annotations), detail.generator_url])
    return zlib.compress(packed, 6)


def unpack_detail(raw: bytes) -> Detail | None:
    """The detail, or None where none was kept."""
    if not raw:
        return None
    labels, annotations, generator_url = msgpack.unpackb(zlib.decompress(raw))
    return Detail(labels, annotations, generator_url)


@dataclass(frozen=True, slots=True)
class StormText:
    """The long texts of a storm: its key, the labels common to all alerts, one sample."""

    key: Mapping[str, str]
    common: Mapping[str, str]
    sample: Detail | None


def _label_id(name: str, value: str) -> bytes:
    return hashlib.blake2b(f"{name}\0{value}".encode(), digest_size=_LABEL_ID).digest()


def pack_common(labels: Mapping[str, str]) -> bytes:
    """The labels that alerts share, as ids: the labels themselves are in the sample."""
    return b"".join(sorted(_label_id(name, value) for name, value in labels.items()))


def unpack_key(raw: bytes) -> dict[str, str]:
    """The storm key of a text record."""
    return {name.decode(): value.decode() for name, value in unpack(unpack(raw)[0])}


def unpack_text(raw: bytes) -> StormText:
    """A text record."""
    _, common, packed, *_ = unpack(raw)
    sample = unpack_detail(packed)
    ids = {common[at : at + _LABEL_ID] for at in range(0, len(common), _LABEL_ID)}
    labels = sample.labels.items() if sample else ()
    return StormText(unpack_key(raw), {name: value for name, value in labels if _label_id(name, value) in ids}, sample)


def pack_key(key: tuple[tuple[str, str], ...]) -> bytes:
    """A storm key as the text record holds it."""
    return pack([list(pair) for pair in key])


def pack_causes(labels: Sequence[str], rows: Sequence[tuple[str, ...] | None]) -> tuple[list[int], bytes]:
    """(which combination of values each row is, 0 where that is not known; what ingest needs to count them).

    Alerts of a storm repeat each other: each value is sent once, and each combination of them.
    """
    values: dict[str, int] = {"": 0}
    combinations: dict[tuple[str, ...], int] = {}
    places = [0 if row is None else combinations.setdefault(row, len(combinations) + 1) for row in rows]
    packed = [[values.setdefault(value, len(values)) for value in row] for row in combinations]
    return places, pack([list(labels), list(values)[1:], packed])


def unpack_causes(flat: Sequence[Any]) -> tuple[Cause, ...]:
    """Hints as causes.lua tells them."""
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return tuple(Cause(label.decode(), value.decode(), int(percent)) for label, value, percent in triples)
