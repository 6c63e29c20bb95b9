"""The durable inbox: what the webhook stores and the workers drain, and the dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from lua_scripts.errors import StoreError
from lua_scripts.keys import SHARDS, ShardKeys, shard_of
from lua_scripts.loader import Client, Scripts, now_ms, translated
from lua_scripts.records import Accepted, DeadLetter, Ledger, NewEntry, StoredEntry

TAKE_ENTRIES: Final = 64
TAKE_BYTES: Final = 2 * 1024 * 1024
MAX_DEAD_LETTERS: Final = 1000
MAX_DEAD_BYTES: Final = 512 * 1024
"""Dead letters kept per shard: their number, and their size together. The oldest make room for the newest."""
DEAD_LETTER_AGE_MS: Final = 24 * 3600 * 1000
WAIT_MS: Final = 300


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in the inbox. ``oldest_ms`` is the time of receipt of the oldest entry, 0 when there is none."""

    entries: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in the inbox as admission sees it: ``bytes`` are an estimate, ``age_ms`` that of the oldest entry."""

    entries: int = 0
    alerts: int = 0
    bytes: int = 0
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class LetterCounts:
    """Dead letters that are held, that were shed beyond the bounds, and alerts that were replayed."""

    held: int = 0
    shed: int = 0
    replayed: int = 0


def pack_letter(letter: DeadLetter) -> bytes:
    """The letter but for its id and time, as it is stored."""
    parts = [letter.reason, letter.path, letter.alert, letter.delivery_id, letter.cut]
    packed: bytes = msgpack.packb(parts + [letter.storm_id, letter.fingerprint, letter.opened_ms] * letter.is_object)
    return packed


def _unpack_letter(letter_id: str, raw: bytes, buried_ms: int) -> DeadLetter:
    reason, path, alert, delivery_id, cut, *of_object = msgpack.unpackb(raw)
    return DeadLetter(letter_id, reason, path, alert, delivery_id, buried_ms, cut, *of_object)


def letter_keys(shard: int) -> tuple[str, ...]:
    """The keys of every script over the dead letters of a shard."""
    keys = ShardKeys(shard)
    return (keys.meta, keys.inbox, keys.order, keys.dead, keys.dead_order)


class Inbox:
    """Entries and dead letters of all shards. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client, wait_replicas: int = 0) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)
        self._wait_replicas = wait_replicas

    def accept(
        self,
        shard: int,
        entries: Sequence[NewEntry],
        dead: Sequence[DeadLetter] = (),
        ignored: int = 0,
        unkept: int = 0,
    ) -> Accepted:
        """Stores the part of a delivery that belongs to one shard; when it returns, all of it is in Redis.

        ``unkept`` is how many more alerts are dead letters, which are counted as shed and not kept.
        Entries of another shard raise ``ValueError``. Nothing is kept when Redis is full (``StoreFull``).
        """
        names = letter_keys(shard)
        args: list[str | bytes | int] = [ignored, len(dead) + unkept, len(entries), unkept]
        args += (MAX_DEAD_LETTERS, MAX_DEAD_BYTES)
        for entry in entries:
            if shard_of(entry.storm_id) != shard:
                raise ValueError(f"storm {entry.storm_id} does not belong to shard {shard}")
            args += (entry.entry_id, entry.alerts, entry.payload)
        for letter in dead:
            args += (letter.letter_id, pack_letter(letter))
        if self._wait_replicas:
            reply = self._scripts.run_and_wait("accept", names, args, self._wait_replicas, WAIT_MS)
        else:
            reply = self._scripts.run("accept", names, args)
        return Accepted(received_ms=int(reply[0]), wake=reply[1] == 1)

    def take(self, shard: int, limit: int = TAKE_ENTRIES) -> list[StoredEntry]:
        """The oldest entries, bounded in number and bytes. They stay until ``Storms.ingest`` removes them."""
        keys = ShardKeys(shard)
        reply = self._scripts.run("take", (keys.meta, keys.inbox, keys.order), (limit, TAKE_BYTES))
        return [StoredEntry(reply[i].decode(), int(float(reply[i + 1])), reply[i + 2]) for i in range(0, len(reply), 3)]

    def split(self, shard: int, entry_id: str, parts: Iterable[tuple[str, bytes]]) -> bool:
        """Replaces an entry by smaller ones (id, payload) with the same time of receipt; False when it is gone."""
        keys = ShardKeys(shard)
        flat = [item for part in parts for item in part]
        return bool(self._scripts.run("split", (keys.inbox, keys.order), (entry_id, *flat)))

    def bury(self, shard: int, entry_id: str, alerts: int, letter: DeadLetter) -> bool:
        """Turns an entry into a dead letter; False when it is gone."""
        bounds = (MAX_DEAD_LETTERS, MAX_DEAD_BYTES)
        args = (entry_id, alerts, letter.letter_id, pack_letter(letter), *bounds)
        return bool(self._scripts.run("bury", letter_keys(shard), args))

    def trim(self, shard: int, age_ms: int = DEAD_LETTER_AGE_MS) -> int:
        """Sheds dead letters beyond the bounds of age, count and bytes, about 100 a call; how many went."""
        return int(self._scripts.run("trim", letter_keys(shard), (MAX_DEAD_LETTERS, age_ms, MAX_DEAD_BYTES)))

    def dead_letters(self, cursor: str | None = None, limit: int = 100) -> tuple[list[DeadLetter], str | None]:
        """A page of dead letters, shard by shard, oldest first, and the cursor of the next page.

        ``ValueError`` for a cursor that is not one of ours.
        """
        shard, offset = (int(part) for part in cursor.split(".")) if cursor else (0, 0)
        letters: list[DeadLetter] = []
        with translated():
            while shard < SHARDS and len(letters) < limit:
                keys = ShardKeys(shard)
                wanted = limit - len(letters)
                ids = self._client.zrange(keys.dead_order, offset, offset + wanted - 1, withscores=True)
                raws = self._client.hmget(keys.dead, [name for name, _ in ids]) if ids else []
                letters += [
                    _unpack_letter(name.decode(), raw, int(score))
                    for (name, score), raw in zip(ids, raws, strict=True)
                    if raw is not None
                ]
                if len(ids) < wanted:
                    shard, offset = shard + 1, 0
                else:
                    offset += len(ids)
        return letters, f"{shard}.{offset}" if shard < SHARDS else None

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """One dead letter, wherever it lies."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.hget(ShardKeys(shard).dead, letter_id)
                pipeline.zscore(ShardKeys(shard).dead_order, letter_id)
            replies = pipeline.execute()
        for raw, score in zip(replies[::2], replies[1::2], strict=True):
            if raw is not None:
                return _unpack_letter(letter_id, raw, int(score or 0))
        return None

    def drop(self, letter_id: str) -> bool:
        """Deletes one dead letter, which stays counted; False where there is none of that id."""
        return self._unbury(letter_id, 0)

    def replayed(self, letter_id: str) -> bool:
        """Deletes a dead letter whose alert was accepted again, just now, and takes it off the ledger with that.

        Accepting comes first and in another shard: whoever dies in between leaves the alert accounted for as both, and
        replaying it once more makes a duplicate, never a loss.
        """
        return self._unbury(letter_id, 1)

    def _unbury(self, letter_id: str, replayed: int) -> bool:
        calls = [(letter_keys(shard), (letter_id, replayed)) for shard in range(SHARDS)]
        replies = self._scripts.run_many("unbury", calls)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return any(replies)

    def letter_counts(self) -> LetterCounts:
        """How many dead letters there are, and what became of others."""
        held = shed = replayed = 0
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.zcard(ShardKeys(shard).dead_order)
                pipeline.hmget(ShardKeys(shard).meta, "sh", "rp")
            replies = pipeline.execute()
        for count, (gone, again) in zip(replies[::2], replies[1::2], strict=True):
            held, shed, replayed = held + count, shed + int(gone or 0), replayed + int(again or 0)
        return LetterCounts(held, shed, replayed)

    def waiting(self) -> Waiting:
        """What waits, in one round trip and by Redis's own clock."""
        now = now_ms(self._client)
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.zcard(ShardKeys(shard).order)
                pipeline.zrange(ShardKeys(shard).order, 0, 0, withscores=True)
                pipeline.hget(ShardKeys(shard).meta, "pd")
                pipeline.memory_usage(ShardKeys(shard).inbox)
            replies = pipeline.execute()
        heads = [int(head[0][1]) for head in replies[1::4] if head]
        alerts = sum(max(0, int(pending or 0)) for pending in replies[2::4])
        held = sum(used or 0 for used in replies[3::4])
        return Waiting(sum(replies[::4]), alerts, held, max(0, now - min(heads, default=now)))

    def depth(self) -> Depth:
        """Entries that wait, over all shards."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.zcard(ShardKeys(shard).order)
                pipeline.zrange(ShardKeys(shard).order, 0, 0, withscores=True)
            replies = pipeline.execute()
        heads = [int(head[0][1]) for head in replies[1::2] if head]
        return Depth(sum(replies[::2]), min(heads, default=0))

    def totals(self) -> Ledger:
        """The ledger over everything ever accepted; each shard's part is exact, read one after the other."""
        sums: dict[str, int] = {}
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.hgetall(ShardKeys(shard).meta)
            for meta in pipeline.execute():
                for field, value in meta.items():
                    name = field.decode()
                    sums[name] = sums.get(name, 0) + int(float(value))
        return Ledger(
            received=sums.get("rc", 0), new=sums.get("nw", 0), duplicate=sums.get("du", 0), reopened=sums.get("ro", 0),
            resolved=sums.get("rs", 0), outdated=sums.get("od", 0), ignored=sums.get("ig", 0),
            pending=sums.get("pd", 0), dead_lettered=sums.get("dl", 0), unmatched=sums.get("um", 0),
        )  # fmt: skip
