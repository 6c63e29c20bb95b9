"""Whether the ledger balances: a bounded look at one shard and some of its storms at a time, noted for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lua_scripts.keys import SHARDS, ShardKeys, StormKeys
from lua_scripts.loader import Client, Scripts, translated

STORMS_A_LOOK: Final = 200
_COUNTERS: Final = ("rc", "nw", "du", "ro", "rs", "od")


@dataclass(frozen=True, slots=True)
class Audited:
    """What the last looks found, over all shards. ``oldest_ms`` is when the shard seen to longest ago was, 0: never."""

    shards: int
    storms: int
    oldest_ms: int

    @property
    def unbalanced(self) -> int:
        return self.shards + self.storms


class Audit:
    """Looks, and what they noted. Raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def look(self) -> list[str]:
        """Looks at the shard that was seen to longest ago; what does not balance, in words for a log.

        A storm is read in one command and a shard in one script call, so what changes meanwhile is no finding.
        """
        notes = self._notes()
        shard = min(range(SHARDS), key=lambda at: notes[at][0])
        keys = ShardKeys(shard)
        offset = notes[shard][1]
        with translated():
            ids = [raw.decode() for raw in self._client.zrange(keys.due, offset, offset + STORMS_A_LOOK - 1)]
            wrong = [storm_id for storm_id, counters in self._counters(ids).items() if counters[0] != sum(counters[1:])]
        following = offset + STORMS_A_LOOK if len(ids) == STORMS_A_LOOK else 0
        names = (keys.meta, keys.inbox, keys.order)
        findings = [f"storm {storm_id}" for storm_id in wrong]
        if self._scripts.run("audit", names, (len(wrong), following)):
            findings.append(f"shard {shard}")
        return findings

    def _counters(self, storm_ids: list[str]) -> dict[str, list[int]]:
        if not storm_ids:
            return {}
        pipeline = self._client.pipeline(transaction=False)
        for storm_id in storm_ids:
            pipeline.hmget(StormKeys(storm_id).header, *_COUNTERS)
        return {
            storm_id: [int(raw or 0) for raw in counters]
            for storm_id, counters in zip(storm_ids, pipeline.execute(), strict=True)
        }

    def seen(self) -> Audited:
        """What the last looks noted."""
        notes = self._notes()
        return Audited(sum(note[2] for note in notes), sum(note[3] for note in notes), min(note[0] for note in notes))

    def _notes(self) -> list[tuple[int, int, int, int]]:
        """Of each shard: when it was looked at, storms to pass over, whether it was wrong, storms that were."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            for shard in range(SHARDS):
                pipeline.hmget(ShardKeys(shard).meta, "at", "ao", "as", "ac", "au")
            replies = [[int(raw or 0) for raw in reply] for reply in pipeline.execute()]
        # A round that is under way counts only where it found more than the last whole one.
        return [(at, offset, shard, max(so_far, last)) for at, offset, shard, so_far, last in replies]
