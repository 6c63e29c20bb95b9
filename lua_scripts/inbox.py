"""The durable inbox: what the webhook stores and the workers drain, and the dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from lua_scripts.keys import SHARDS, ShardKeys, shard_of
from lua_scripts.loader import Client, Scripts, translated
from lua_scripts.records import Accepted, DeadLetter, Ledger, NewEntry, StoredEntry

TAKE_ENTRIES: Final = 64
TAKE_BYTES: Final = 2 * 1024 * 1024
MAX_DEAD_LETTERS: Final = 1000
"""Dead letters kept per shard."""
DEAD_LETTER_AGE_MS: Final = 7 * 24 * 3600 * 1000
WAIT_MS: Final = 300


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in the inbox. ``oldest_ms`` is the time of receipt of the oldest entry, 0 when there is none."""

    entries: int
    oldest_ms: int


def _pack_letter(letter: DeadLetter) -> bytes:
    packed: bytes = msgpack.packb([letter.reason, letter.path, letter.alert, letter.delivery_id])
    return packed


def _unpack_letter(letter_id: str, raw: bytes, buried_ms: int) -> DeadLetter:
    reason, path, alert, delivery_id = msgpack.unpackb(raw)
    return DeadLetter(letter_id, reason, path, alert, delivery_id, buried_ms)


class Inbox:
    """Entries and dead letters of all shards. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client, wait_replicas: int = 0) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)
        self._wait_replicas = wait_replicas

    def accept(
        self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter] = (), ignored: int = 0
    ) -> Accepted:
        """Stores the part of a delivery that belongs to one shard; when it returns, all of it is in Redis.

        Entries of another shard raise ``ValueError``. Nothing is kept when Redis is full (``StoreFull``).
        """
        keys = ShardKeys(shard)
        args: list[str | bytes | int] = [ignored, len(dead), len(entries)]
        for entry in entries:
            if shard_of(entry.storm_id) != shard:
                raise ValueError(f"storm {entry.storm_id} does not belong to shard {shard}")
            args += (entry.entry_id, entry.alerts, entry.payload)
        for letter in dead:
            args += (letter.letter_id, _pack_letter(letter))
        names = (keys.meta, keys.inbox, keys.order, keys.dead, keys.dead_order)
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
        keys = ShardKeys(shard)
        names = (keys.meta, keys.inbox, keys.order, keys.dead, keys.dead_order)
        return bool(self._scripts.run("bury", names, (entry_id, alerts, letter.letter_id, _pack_letter(letter))))

    def trim(self, shard: int) -> int:
        """Sheds dead letters beyond the bounds of count and age; how many went."""
        keys = ShardKeys(shard)
        names = (keys.meta, keys.dead, keys.dead_order)
        return int(self._scripts.run("trim", names, (MAX_DEAD_LETTERS, DEAD_LETTER_AGE_MS)))

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

    def drop(self, letter_id: str) -> bool:
        """Deletes one dead letter; False where there is none of that id."""
        found = False
        with translated():
            for shard in range(SHARDS):
                keys = ShardKeys(shard)
                if self._client.hdel(keys.dead, letter_id):
                    self._client.zrem(keys.dead_order, letter_id)
                    found = True
        return found

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
