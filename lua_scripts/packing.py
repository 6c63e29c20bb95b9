"""How fingerprints, resources and texts are packed for the scripts, and read back."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from lua_scripts.records import ResourceRecord

_HEX16: Final = re.compile(r"[0-9a-f]{16}")
_RESOURCE: Final = struct.Struct(">3s6s3sH")


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


def pack_resource(kind: str, name: str, namespace: str, node: str) -> tuple[bytes, bytes]:
    """(resource id, text): 8 bytes of a hash, and what is stored under it. The node does not make another resource."""
    identity = "\0".join((kind, name, namespace))
    rid = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    return rid, f"{identity}\0{node}".encode() if node else identity.encode()


@dataclass(frozen=True, slots=True)
class ResourceState:
    """A resource record as stored; ``shown`` is its count as of flush generation ``stamp``."""

    record: ResourceRecord
    shown: int
    stamp: int


def unpack_resource(raw: bytes) -> ResourceState:
    """A resource record as storm.lua packs it."""
    count, first, shown, stamp = _RESOURCE.unpack_from(raw)
    parts = raw[_RESOURCE.size :].decode().split("\0")
    kind, name, namespace = (*parts, "", "", "")[:3]
    node = parts[3] if len(parts) > 3 else ""
    record = ResourceRecord(kind, name, namespace, node, int.from_bytes(first, "big"), int.from_bytes(count, "big"))
    return ResourceState(record, int.from_bytes(shown, "big"), stamp)


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


def unpack_text(raw: bytes) -> StormText:
    """A text record; cmsgpack packs an empty table as an empty list."""
    key, common, sample = unpack(raw)
    return StormText(
        key={k.decode(): v.decode() for k, v in unpack(key)},
        common={k.decode(): v.decode() for k, v in common.items()} if isinstance(common, dict) else {},
        sample=unpack_detail(sample),
    )


def pack_key(key: tuple[tuple[str, str], ...]) -> bytes:
    """A storm key as the text record holds it."""
    return pack([list(pair) for pair in key])
