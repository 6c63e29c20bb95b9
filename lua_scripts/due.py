"""What is due: the sweep over a shard's storms and inbox, and the figures that metrics show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from lua_scripts.errors import StoreError
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, shard_of
from lua_scripts.loader import Client, Scripts, now_ms, translated

MAX_PUBLISHED: Final = 8
"""Most aggregate tasks of one shard that are published and unclaimed."""
OVERDUE_MS: Final = 5000
"""A storm due for this long is seen to by whoever finds it, without the broker."""
WAKE_LAPSE_MS: Final = 3000
"""After this long without a sign of a drain a wake-up counts as lost."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one look at a shard found; the storms named are marked as published until the mark lapses."""

    shard: int
    now_ms: int
    entries: int
    oldest_ms: int
    wake: bool
    due: int
    most_overdue_ms: int
    storms: tuple[str, ...]
    overdue: tuple[str, ...]


FlushDue = Literal["no", "storm", "events"]


@dataclass(frozen=True, slots=True)
class DueCounts:
    """Over all shards: open storms, those that are due, and by how many ms the most overdue one is late."""

    open: int
    due: int
    overdue_ms: int


class Due:
    """The due sets of all shards. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def sweep(self, shards: Sequence[int], lapse_ms: int) -> list[Sweep]:
        """Looks at several shards in one round trip; a shard that fails is left out, unless all do."""
        calls = []
        for shard in shards:
            keys = ShardKeys(shard)
            names = (keys.meta, keys.order, keys.due, keys.published)
            calls.append((names, (MAX_PUBLISHED, lapse_ms, WAKE_LAPSE_MS, OVERDUE_MS)))
        replies = self._scripts.run_many("sweep", calls)
        errors = [reply for reply in replies if isinstance(reply, StoreError)]
        if errors and len(errors) == len(replies):
            raise errors[0]
        return [
            Sweep(
                shard=shard, now_ms=int(reply[0]), entries=int(reply[1]), oldest_ms=int(reply[2]), wake=reply[3] == 1,
                due=int(reply[4]), most_overdue_ms=int(reply[5]), storms=tuple(raw.decode() for raw in reply[6]),
                overdue=tuple(raw.decode() for raw in reply[7]),
            )
            for shard, reply in zip(shards, replies, strict=True)
            if not isinstance(reply, StoreError)
        ]  # fmt: skip

    def flush_due(self, storm_id: str) -> FlushDue:
        """Whether a storm that is due has its own RR to be written: not Singles, or what needs no writing."""
        fields = ("ph", "fd", "fu", "lk", "uid")
        with translated():
            found = self._client.hmget(StormKeys(storm_id).header, *fields)
        header = dict(zip(fields, (raw or b"" for raw in found), strict=True))
        if header["ph"] in (b"", b"G") or not header["fd"]:
            return "no"
        # What was written, nobody holds, and has changed in nothing since, has but an Event to tell.
        return "events" if header["uid"] and not header["fu"] and not header["lk"] else "storm"

    def postpone(self, storm_id: str, wait_ms: int) -> None:
        """A due storm waits so long for its turn."""
        keys = ShardKeys(shard_of(storm_id))
        self._scripts.run("postpone", (keys.due, keys.published), (storm_id, wait_ms))

    def names(self, storm_ids: Sequence[str]) -> list[str]:
        """The RR names of storms, '' for one that is gone: what an operator reads in a task's arguments."""
        if not storm_ids:
            return []
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for storm_id in storm_ids:
                pipeline.hget(StormKeys(storm_id).header, "n")
            return [raw.decode() if raw else "" for raw in pipeline.execute()]

    def counts(self) -> DueCounts:
        """The figures for metrics."""
        now = now_ms(self._client)
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                key = ShardKeys(shard).due
                pipeline.zcard(key)
                pipeline.zcount(key, "-inf", now)
                pipeline.zrange(key, 0, 0, withscores=True)
            replies = pipeline.execute()
        late = [now - int(head[0][1]) for head in replies[2::3] if head]
        return DueCounts(sum(replies[::3]), sum(replies[1::3]), max(0, *late) if late else 0)
