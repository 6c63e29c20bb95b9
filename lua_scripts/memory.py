"""How much room Redis has left, so that intake can stop while there is still room to drain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lua_scripts.loader import Client, translated


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in use as Redis counts them against its limit; a limit of 0 is none."""

    used: int
    limit: int

    @property
    def room(self) -> int:
        return self.limit - self.used


def read_memory(client: Client) -> Memory:
    """The memory of Redis, of a cluster that of its fullest node. Raises ``StoreError``."""
    with translated():
        info: Mapping[str, Any] = client.info("memory")
    nodes = [info] if "maxmemory" in info else list(info.values())
    limited = [memory for memory in map(_memory, nodes) if memory.limit]
    return min(limited, key=lambda memory: memory.room, default=Memory(0, 0))


def _memory(info: Mapping[str, Any]) -> Memory:
    # Buffers of replicas and of the append-only file do not count against the limit.
    return Memory(int(info["used_memory"]) - int(info.get("mem_not_counted_for_evict", 0)), int(info["maxmemory"]))
