"""Drives the scripts through their typed methods on one Redis, and reads back the whole state of a storm."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack
import pytest
import redis

from lua_scripts import loader
from lua_scripts.due import Due
from lua_scripts.errors import StoreError
from lua_scripts.inbox import Inbox
from lua_scripts.keys import StormKeys, shard_of
from lua_scripts.leases import Claim, Leases, NotClaimed, Settled, SingleOutcome, StormOutcome
from lua_scripts.packing import Detail, unpack_fingerprint
from lua_scripts.records import NewEntry, Rules, StormAlert, Taken
from lua_scripts.storms import EntryToTake, Storms
from tasks.content import shown_resources
from tests.scripts.state import State, read_state

START = 1_790_000_000_000
"""When the tests with a clock of their own begin, in ms."""
CLOCK_KEY = "test:clock"
STORM = "3" + "a" * 15
OTHER_STORM = "3" + "b" * 15
"""Of the same shard as STORM."""
LEASE_MS = 30_000

RULES = Rules(
    rate_threshold=10, rate_window=60_000, pattern_threshold=5, pattern_window=120_000, debounce=5_000, max_wait=30_000,
    single_hold=5_000, reopen_window=300_000, stale_after=21_600_000, max_members=50_000, tombstone=900_000,
)  # fmt: skip
"""The defaults of the design."""


def firing(name: str, starts: int = 0, *, pod: str = "", severity: int = 2) -> StormAlert:
    """A firing alert; ``starts`` in ms after START. Its pod is named like it unless told."""
    return StormAlert(name, True, START + starts, 0, severity, "Pod", pod or name, "shop", "")


def resolved(name: str, ends: int, starts: int = 0, *, pod: str = "", severity: int = 2) -> StormAlert:
    """A resolved alert; times in ms after START."""
    return StormAlert(name, False, START + starts, START + ends, severity, "Pod", pod or name, "shop", "")


def many(count: int, *, first: int = 0, pods: int | None = None, starts: int = 0) -> list[StormAlert]:
    """Distinct firing alerts, on a pod each, or on ``pods`` pods."""
    return [
        firing(f"a{at}", starts, pod=f"pod-{at if pods is None else at % pods}") for at in range(first, first + count)
    ]


@dataclass
class Clock:
    """The time that scripts see, under the control of a test."""

    client: redis.Redis

    @property
    def now(self) -> int:
        seconds, micros = self.client.lrange(CLOCK_KEY, 0, 1)
        return int(seconds) * 1000 + int(micros) // 1000

    def set(self, ms: int) -> None:
        limit = self.client.config_get("maxmemory")["maxmemory"]
        if limit == "1":  # a full Redis refuses the test's own writes too
            empty_again(self.client)
        with self.client.pipeline() as pipeline:
            pipeline.delete(CLOCK_KEY)
            pipeline.rpush(CLOCK_KEY, ms // 1000, ms % 1000 * 1000)
            pipeline.execute()
        self.client.config_set("maxmemory", limit)

    def at(self, ms: int) -> None:
        """``ms`` after START."""
        self.set(START + ms)

    def advance(self, ms: int) -> None:
        self.set(self.now + ms)


@contextmanager
def controlled_clock(client: redis.Redis) -> Iterator[Clock]:
    """The scripts as they are, but for the time, which they read from a key instead of the server's clock."""
    patched = {}
    for name, source in loader.sources().items():
        assert source.text.count("TIME'") <= 1, f"{name} asks for the time more than once"
        text = source.text.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK_KEY}', 0, 1)")
        assert "TIME'" not in text
        sha = client.script_load(text)
        patched[name] = loader.Source(text, sha.decode() if isinstance(sha, bytes) else sha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "sources", lambda: patched)
        clock = Clock(client)
        clock.set(START)
        yield clock


@dataclass
class Lab:
    """One Redis and all typed methods over it. ``write`` stands for a worker whose sink always works."""

    client: redis.Redis
    rules: Rules = RULES
    cause_labels: Sequence[str] = ()
    entries: dict[str, EntryToTake] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.client)
        self.storms = Storms(self.client)
        self.leases = Leases(self.client)
        self.due = Due(self.client)

    def change_rules(self, **changes: int) -> None:
        self.rules = replace(self.rules, **changes)

    # -- the way in

    def entry(self, *alerts: StormAlert, storm: str = STORM, details: bool = True) -> EntryToTake:
        """An entry of a delivery of its own, not accepted yet."""
        key_labels = {"alertname": "Down", "namespace": "shop"}
        entry = EntryToTake(
            f"delivery-{next(self.numbers)}-{len(alerts)}", storm, "down", "shop", tuple(key_labels.items()), alerts,
            key_labels,
            [Detail(key_labels | {"pod": alert.name}, {}, "") for alert in alerts] if details else [],
            self.cause_labels,
        )  # fmt: skip
        self.entries[entry.entry_id] = entry
        return entry

    def accept(self, *alerts: StormAlert, storm: str = STORM, details: bool = True) -> EntryToTake:
        """Stores an entry in the inbox."""
        entry = self.entry(*alerts, storm=storm, details=details)
        self.inbox.accept(shard_of(storm), [NewEntry(entry.entry_id, storm, len(alerts), b"payload")])
        return entry

    def ingest(self, entry: EntryToTake) -> Taken:
        """Takes one entry in."""
        [taken] = self.storms.ingest([entry], self.rules)
        if isinstance(taken, StoreError):
            raise taken
        return taken

    def deliver(self, *alerts: StormAlert, storm: str = STORM) -> Taken:
        """Stores an entry and takes it in."""
        return self.ingest(self.accept(*alerts, storm=storm))

    # -- the way out

    def claim(
        self, token: str = "holder", storm: str = STORM, lease_ms: int = LEASE_MS, **more: int
    ) -> Claim | NotClaimed:
        return self.leases.claim(storm, token, lease_ms, self.rules, **more)

    def claimed(self, token: str = "holder", storm: str = STORM, lease_ms: int = LEASE_MS) -> Claim:
        """A claim that a test needs to succeed."""
        claim = self.claim(token, storm, lease_ms)
        assert isinstance(claim, Claim), claim
        return claim

    def settle(self, claim: Claim, **changes: Any) -> Settled:
        """Settles what a sink that works has written for a claim. ``changes`` replace parts of the storm's outcome."""
        storm = claim.storm.storm_id
        if claim.singles is not None:
            done = [
                SingleOutcome(s.fingerprint, s.want, f"uid-{s.fingerprint}", "7", "shop", s.silenced)
                for s in claim.singles
            ]
            return self.leases.settle_singles(storm, claim.token, self.rules, done, 500)
        named = list(self.leases.singles(storm))
        dropped = [s.fingerprint for s in named if s.state == "pending" or s.wrote == "Resolved"]
        _, obsolete = shown_resources(
            self.leases.resources(storm), claim.generation, firing=claim.storm.alert_count > 0
        )  # fmt: skip
        outcome = StormOutcome(
            phase="Stale" if claim.stale else "Active" if claim.storm.alert_count else "Resolved",
            uid="uid-storm", resource_version=str(claim.storm.fence), digest="digest", namespace="shop",
            superseded=[s.fingerprint for s in named if s.fingerprint not in dropped], dropped=dropped,
            obsolete=obsolete,
        )  # fmt: skip
        return self.leases.settle_storm(storm, claim.token, self.rules, replace(outcome, **changes))

    def write(self, storm: str = STORM) -> Claim | NotClaimed:
        """Claims and settles; what the claim said."""
        claim = self.claim(f"token-{next(self.numbers)}", storm)
        if isinstance(claim, Claim):
            assert self.settle(claim) != "lost"
        return claim

    def listed(self, claim: Claim) -> dict[str, int]:
        """The resources that the RR of a claim lists, with their counts."""
        states = self.leases.resources(claim.storm.storm_id)
        shown, _ = shown_resources(states, claim.generation, firing=claim.storm.alert_count > 0)
        return {record.name: record.alert_count for record in shown}

    # -- reading back

    def state(self, storm: str = STORM) -> State | None:
        return read_state(self.client, storm)

    def opened(self, storm: str = STORM) -> State:
        """The state of a storm that a test knows to be open."""
        state = self.state(storm)
        assert state is not None, "no storm is open"
        return state

    def dump(self) -> dict[str, object]:
        """Everything in Redis but the test's clock: type, content and whether it expires."""
        readers: dict[str, Any] = {
            "hash": self.client.hgetall,
            "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            "list": lambda key: self.client.lrange(key, 0, -1),
            "string": self.client.get,
        }
        result: dict[str, object] = {}
        for raw in self.client.scan_iter(count=1000):
            name = raw.decode()
            if name != CLOCK_KEY:
                kind = self.client.type(name).decode()
                if kind == "none":
                    continue  # it expired just now
                result[name] = (readers[kind](name), self.client.pttl(name) >= 0)
        return result

    def key_kinds(self) -> set[str]:
        """The third parts of all key names: ``meta``, ``due``, ``s``, ..."""
        return {name.split(":")[2] for name in self.dump()}

    def all_members(self, storm: str = STORM, limit: int = 100) -> list[str]:
        """The fingerprints that the listing names, page by page."""
        names: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = self.storms.members(storm, cursor, limit)
            names += [member.fingerprint for member in page]
            if cursor is None:
                return names


def fill(client: redis.Redis) -> None:
    """Makes Redis refuse whatever grows memory."""
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.RedisError, match=r"OOM|maxmemory"):
        client.set("test:more", "x")


def empty_again(client: redis.Redis) -> None:
    """Gives Redis its memory back."""
    client.config_set("maxmemory", 64 * 1024 * 1024)


def overflow_names(client: redis.Redis, storm: str = STORM) -> set[str]:
    """The fingerprints beyond MAX_MEMBERS, read from their buckets."""
    names: set[str] = set()
    for raw in client.hgetall(StormKeys(storm).overflow).values():
        at = 0
        while at < len(raw):
            names.add(unpack_fingerprint(raw[at + 1 : at + 1 + raw[at]]))
            at += 1 + raw[at]
    return names


def packed(value: Sequence[object]) -> bytes:
    """msgpack, for what a test plants by itself."""
    result: bytes = msgpack.packb(value, use_bin_type=False)
    return result
