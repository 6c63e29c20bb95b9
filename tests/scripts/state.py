"""The whole state of one storm as Redis holds it, decoded from its documented form without the scripts' help."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import msgpack
import redis

from lua_scripts.keys import ShardKeys, StormKeys, shard_of
from lua_scripts.packing import unpack_fingerprint, unpack_resource

TEXTS = {"ph", "n", "ns", "ty", "lk", "uid", "rv", "wp", "dg", "ev"}
NUMBERS = {
    "e", "f", "of", "rc", "nw", "du", "ro", "rs", "od", "s0", "s1", "s2", "s3", "s4", "fs", "ls", "lr", "fl", "fu",
    "fd", "nx", "lu", "dy", "fn", "gn", "fa", "sx", "si", "lw",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    state: str
    starts: int
    severity: int
    resource: bytes
    ends: int = 0
    turn: int = 0


@dataclass(frozen=True)
class Single:
    state: str
    opened: int
    last: int
    flaps: int
    wrote: str
    first_unwritten: int


@dataclass(frozen=True)
class Causes:
    """``said`` is flat, or None where it is not known what the last flush said."""

    firing: int = 0
    generation: int = 0
    said: list[str | int] | None = None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Keys that are absent read as empty; header fields that are absent as 0 or ''."""

    header: dict[str, Any]
    members: dict[str, Member]
    resources: dict[str, int]
    singles: dict[str, Single]
    singles_due: dict[str, int]
    details: set[str]
    rate: dict[str, int]
    pattern_size: int
    due: int | None
    causes: Causes

    def __getitem__(self, field: str) -> Any:
        return self.header[field]

    @property
    def firing(self) -> set[str]:
        return {name for name, member in self.members.items() if member.state == "F"}

    @property
    def resolved(self) -> set[str]:
        return {name for name, member in self.members.items() if member.state == "R"}


def read_member(raw: bytes) -> Member:
    """'>c1I6Bc8', and '>I6I6' once it was resolved."""
    assert len(raw) in (16, 28), raw
    assert raw[:1] in (b"F", b"R"), raw
    starts, severity, resource = int.from_bytes(raw[1:7], "big"), raw[7], raw[8:16]
    ends, turn = int.from_bytes(raw[16:22], "big"), int.from_bytes(raw[22:28], "big")
    return Member(raw[:1].decode(), starts, severity, resource, ends, turn)


def read_single(raw: bytes) -> Single:
    state, opened, last, flaps, wrote, uid, version, namespace, *more = msgpack.unpackb(raw)
    assert state in "PNWS"
    assert wrote in ("", "A", "R", "T")
    assert all(isinstance(number, int) for number in (opened, last, flaps, *more)), raw
    assert all(isinstance(text, str) for text in (uid, version, namespace)), raw
    return Single(state, opened, last, flaps, wrote, more[0] if more else 0)


def read_causes(text: bytes) -> Causes:
    """The 4th part of a storm's text: no label without a value, no value without a member, and bounded."""
    _, _, _, *more = msgpack.unpackb(text, raw=True)
    if not more:
        return Causes()
    [packed] = more
    firing, generation, said, *tables = msgpack.unpackb(packed)
    counts = dict(zip(tables[::2], tables[1::2], strict=True))
    assert all(1 <= len(values) <= 16 for values in counts.values()), counts
    assert all(isinstance(n, int) and n > 0 for values in counts.values() for n in values.values()), counts
    assert firing > 0 or not counts
    return Causes(firing, generation, None if said is False else list(said), counts)


def read_header(raw: dict[bytes, bytes]) -> dict[str, Any]:
    """Every field is a known one, and a number is written as one."""
    header: dict[str, Any] = dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS, 0)
    for name, value in ((name.decode(), value.decode()) for name, value in raw.items()):
        assert name in header, f"unknown field {name}"
        if name in NUMBERS:
            assert value.lstrip("-").isdigit(), f"{name} is {value}"
            assert int(value) > 0, f"{name} is {value}: a zero is left out, and nothing here is negative"
            header[name] = int(value)
        else:
            assert value, f"{name} is empty: then it is left out"
            header[name] = value
    return header


def read_state(client: redis.Redis, storm: str) -> State | None:
    """The storm's state, None where none is open."""

    def scores(key: str) -> dict[str, int]:
        return {unpack_fingerprint(name): int(at) for name, at in client.zrange(key, 0, -1, withscores=True)}

    keys = StormKeys(storm)
    raw = client.hgetall(keys.header)
    due = client.zscore(ShardKeys(shard_of(storm)).due, storm)
    if not raw:
        assert due is None, "the due set names a storm that does not exist"
        return None
    for tombstone in client.lrange(keys.tombstones, 0, -1):
        assert len(tombstone) > 12
        struct.unpack(">6s6s", tombstone[:12])
    return State(
        header=read_header(raw),
        members={unpack_fingerprint(n): read_member(v) for n, v in client.hgetall(keys.members).items()},
        resources={
            (state := unpack_resource(v)).record.name: state.record.alert_count
            for v in client.hgetall(keys.resources).values()
        },
        singles={unpack_fingerprint(n): read_single(v) for n, v in client.hgetall(keys.singles).items()},
        singles_due=scores(keys.singles_due),
        details={unpack_fingerprint(n) for n in client.hkeys(keys.details)},
        rate=scores(keys.rate),
        pattern_size=client.zcard(keys.pattern),
        due=None if due is None else int(due),
        causes=read_causes(client.get(keys.text)),
    )  # fmt: skip


def read_unknown(client: redis.Redis, storm: str) -> dict[str, tuple[int, int]]:
    """The tombstones of unknown members: fingerprint -> (endsAt, expiry)."""
    result = {}
    for name, raw in client.hgetall(StormKeys(storm).unknown).items():
        result[unpack_fingerprint(name)] = int.from_bytes(raw[:6], "big"), int.from_bytes(raw[6:12], "big")
    return result
