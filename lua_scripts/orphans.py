"""Open RRs in the sink held against the state: known, doubled, or orphans of a Redis that was emptied."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from lua_scripts import packing
from lua_scripts.errors import StoreError
from lua_scripts.keys import JOBS, SHARDS, ShardKeys, StormKeys, shard_of, storm_key_names
from lua_scripts.loader import Client, Scripts, now_ms, translated

RIVALS: Final = "rivals"


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An open RR as the sink has it. ``fingerprint`` and ``opened_ms`` are a Single's, ``storm_type`` a storm's."""

    kind: Literal["storm", "single"]
    storm_id: str
    name: str
    namespace: str
    uid: str
    resource_version: str
    fence: int
    storm_type: Literal["rate", "pattern"] = "pattern"
    fingerprint: str = ""
    opened_ms: int = 0


@dataclass(frozen=True, slots=True)
class ClosedObject:
    """A closed RR as the sink has it. ``covered_by`` names the RR that superseded it; the last two are a Single's."""

    storm_id: str
    name: str
    covered_by: str = ""
    fingerprint: str = ""
    opened_ms: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """What the state says of an open RR. ``other`` of a double: the storm's name, or when the Single was opened."""

    verdict: Literal["known", "stray", "double", "taken", "orphan", "lost"]
    other: str = ""


class Orphans:
    """What an emptied Redis forgot. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def now_ms(self) -> int:
        """Redis's time."""
        return now_ms(self._client)

    def match(self, objects: Sequence[OpenObject], grace_ms: int, looked_ms: int) -> list[Match]:
        """Holds open RRs, found by a look begun at ``looked_ms``, against the state; orphans older than the grace are
        given up, and strays are due to be written as what they stand for.
        """
        replies = self._scripts.run_many("match", [self._call(each, grace_ms, looked_ms) for each in objects])
        result = []
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
            result.append(Match(reply[0].decode(), reply[1].decode() if len(reply) > 1 else ""))
        return result

    def held(self, closed: Sequence[ClosedObject]) -> list[bool]:
        """Whether a closed RR's history is open all the same: it may fire again, or an open storm names it.

        An answer of no stays right: a history that was closed goes on under another name.
        """
        if not closed:
            return []
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for each in closed:
                keys = StormKeys(each.storm_id)
                pipeline.hget(keys.header, "n")
                pipeline.hget(keys.singles, packing.pack_fingerprint(each.fingerprint))
            replies = iter(pipeline.execute())
        return [
            self._held(each, (name or b"").decode(), single)
            for each, name, single in zip(closed, replies, replies, strict=True)
        ]

    def rivals(self, foreign: Sequence[OpenObject]) -> int:
        """How many open RRs of other installations stand for storms that are open here, too."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for each in foreign:
                pipeline.exists(StormKeys(each.storm_id).header)
            return sum(pipeline.execute()) if foreign else 0

    @staticmethod
    def _held(each: ClosedObject, storm: str, single: bytes | None) -> bool:
        if storm and storm in (each.name, each.covered_by):
            return True
        return bool(each.fingerprint) and single is not None and int(packing.unpack(single)[1]) == each.opened_ms

    @staticmethod
    def _call(each: OpenObject, grace_ms: int, looked_ms: int) -> tuple[tuple[str, ...], list[str | bytes | int]]:
        keys = (*storm_key_names(each.storm_id), ShardKeys(shard_of(each.storm_id)).orphans)
        fingerprint = packing.pack_fingerprint(each.fingerprint) if each.fingerprint else b""
        return keys, [
            each.storm_id, each.kind, each.name, each.namespace, each.uid, each.resource_version, each.fence,
            "r" if each.storm_type == "rate" else "p", fingerprint, each.opened_ms, grace_ms,
            looked_ms,
        ]  # fmt: skip

    def reconciled(self, rivals: int) -> None:
        """Notes for every shard that the sink was looked through, and how many open RRs others have for our storms."""
        for shard in range(SHARDS):  # a bare write would be refused by a full Redis, and nothing be written to the sink
            self._scripts.run("turn", (ShardKeys(shard).meta,), ("rl", 0))
        with suppress(StoreError), translated():  # a figure to look at: not worth a failed look
            self._client.hset(JOBS, RIVALS, rivals)

    def last_rivals(self) -> int:
        """How many open RRs of other installations the last look met that stand for storms which are open here, too."""
        with translated():
            return int(self._client.hget(JOBS, RIVALS) or 0)

    def written(self) -> dict[str, str]:
        """Storm id -> RR name of every storm that believes its RR to be in the sink."""
        result: dict[str, str] = {}
        with translated():
            for shard in range(SHARDS):
                ids = [raw.decode() for raw in self._client.zrange(ShardKeys(shard).due, 0, -1)]
                if not ids:
                    continue
                pipeline = self._client.pipeline(transaction=False)
                for storm_id in ids:
                    pipeline.hmget(StormKeys(storm_id).header, "n", "uid", "wp")
                for storm_id, (name, uid, wrote) in zip(ids, pipeline.execute(), strict=True):
                    if name and uid and wrote == b"A":
                        result[storm_id] = name.decode()
        return result

    def unseen(self, looked_ms: int) -> int:
        """Forgets the orphans that a look begun at ``looked_ms`` did not meet; of how many storm keys."""
        forgotten = 0
        for shard in range(SHARDS):
            key = ShardKeys(shard).orphans
            with translated():
                storm_ids = self._client.hkeys(key)
            forgotten += sum(self._scripts.run("unseen", (key,), (storm_id, looked_ms)) for storm_id in storm_ids)
        return forgotten

    def missing(self, storm_id: str, name: str, looked_ms: int) -> bool:
        """Has a storm's RR written again that a look begun at ``looked_ms`` did not find; False where it was since."""
        return bool(self._scripts.run("missing", storm_key_names(storm_id), (storm_id, name, looked_ms)))
