"""The names of all keys in Redis, and which shard a storm belongs to; no other module writes a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHARDS: Final = 16
"""How many hash tags the keys spread over. A constant: changing it strands what an older version stored."""

PREFIX: Final = "sf"

BUDGET: Final = f"{PREFIX}:{{0}}:budget"
"""Hash: the token bucket of Kubernetes writes, and how Kubernetes fares."""

BUDGET_QUEUES: Final = (f"{PREFIX}:{{0}}:budgeta", f"{PREFIX}:{{0}}:budgetb")
"""Sorted sets: storm id by the ms at which its turn to write comes; storms, and storm keys with Singles."""

BUDGET_SINCE: Final = f"{PREFIX}:{{0}}:budgets"
"""Sorted set: storm id by the ms since when it waits for its turn."""

JOBS: Final = f"{PREFIX}:{{0}}:jobs"
"""Hash: periodic job -> the ms of its last turn. No shard has it for itself."""

WORKERS: Final = f"{PREFIX}:{{0}}:workers"
"""Hash: worker -> the ms at which it last lived; gone when no worker is left."""

POLLS: Final = f"{PREFIX}:{{0}}:polls"
"""Hash: questions for a poll of Alertmanager, the polls' number, what they did, and when each peer last answered."""


def shard_of(storm_id: str) -> int:
    """The shard of a storm id: its first hex digit."""
    return int(storm_id[0], 16)


def _tag(shard: int) -> str:
    if not 0 <= shard < SHARDS:
        raise ValueError(f"shard {shard} is not one of 0..{SHARDS - 1}")
    return f"{PREFIX}:{{{shard:x}}}"


@dataclass(frozen=True, slots=True)
class ShardKeys:
    """The keys that a shard has once."""

    shard: int

    @property
    def meta(self) -> str:
        """Hash: counters of the whole shard, the wake-up mark, the newest epoch."""
        return f"{_tag(self.shard)}:meta"

    @property
    def inbox(self) -> str:
        """Hash: entry id -> packed entry."""
        return f"{_tag(self.shard)}:inbox"

    @property
    def order(self) -> str:
        """Sorted set: entry id by the ms at which it was received."""
        return f"{_tag(self.shard)}:order"

    @property
    def due(self) -> str:
        """Sorted set: storm id by the ms at which to act; holds every open storm."""
        return f"{_tag(self.shard)}:due"

    @property
    def published(self) -> str:
        """Sorted set: storm id by the ms at which its published task is given up."""
        return f"{_tag(self.shard)}:pub"

    @property
    def dead(self) -> str:
        """Hash: dead letter id -> packed letter."""
        return f"{_tag(self.shard)}:dead"

    @property
    def dead_order(self) -> str:
        """Sorted set: dead letter id by the ms at which it was buried."""
        return f"{_tag(self.shard)}:deado"

    @property
    def orphans(self) -> str:
        """Hash: storm id -> packed open RRs that an emptied Redis forgot, until they are adopted or given up."""
        return f"{_tag(self.shard)}:orph"

    def all(self) -> tuple[str, ...]:
        return (self.meta, self.inbox, self.order, self.due, self.published, self.dead, self.dead_order, self.orphans)


@dataclass(frozen=True, slots=True)
class StormKeys:
    """The keys of one storm key's open history; all carry the tag of its shard."""

    storm_id: str

    def _key(self, kind: str) -> str:
        return f"{_tag(shard_of(self.storm_id))}:{kind}:{self.storm_id}"

    @property
    def header(self) -> str:
        """Hash: phase, epoch, name, counters, due state, lease, fence, what was last written."""
        return self._key("s")

    @property
    def text(self) -> str:
        """String: storm key, common labels, the sample alert, and counts of what members share, packed."""
        return self._key("t")

    @property
    def members(self) -> str:
        """Hash: fingerprint -> packed member."""
        return self._key("m")

    @property
    def resources(self) -> str:
        """Hash: resource id -> packed resource."""
        return self._key("r")

    @property
    def rate(self) -> str:
        """Sorted set: fingerprint by received, while the rate threshold may still be met."""
        return self._key("w")

    @property
    def pattern(self) -> str:
        """Sorted set: resource id by received, while the pattern threshold may still be met."""
        return self._key("p")

    @property
    def tombstones(self) -> str:
        """List: resolved members by the time their record may become a mere count."""
        return self._key("x")

    @property
    def unknown(self) -> str:
        """Hash: fingerprint -> tombstone of a resolve that met no member; expires by itself."""
        return self._key("b")

    @property
    def overflow(self) -> str:
        """Hash: the fingerprints beyond MAX_MEMBERS, in buckets of packed tails."""
        return self._key("o")

    @property
    def singles(self) -> str:
        """Hash: fingerprint -> packed state of its Single."""
        return self._key("g")

    @property
    def singles_due(self) -> str:
        """Sorted set: fingerprint by the ms at which its Single needs something."""
        return self._key("q")

    @property
    def details(self) -> str:
        """Hash: fingerprint -> packed labels and annotations, until its Single is written."""
        return self._key("d")

    @property
    def absent(self) -> str:
        """String: members that polls of Alertmanager have missed, and how often; no script's, and expires by itself."""
        return self._key("a")

    def all(self) -> tuple[str, ...]:
        return (
            self.header, self.text, self.members, self.resources, self.rate, self.pattern, self.tombstones,
            self.unknown, self.overflow, self.singles, self.singles_due, self.details,
        )  # fmt: skip


def storm_key_names(storm_id: str) -> tuple[str, ...]:
    """The keys that every script over one storm is given, in the order that storm.lua names."""
    shard = ShardKeys(shard_of(storm_id))
    return (shard.meta, shard.inbox, shard.order, shard.due, shard.published, *StormKeys(storm_id).all())
