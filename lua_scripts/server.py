"""What a Redis says about itself: version, role, what it may evict, what it keeps on disk, its memory and its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from lua_scripts.loader import Client, translated
from lua_scripts.memory import Memory

_SECTIONS = ("server", "replication", "persistence", "memory")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server. ``fsync`` and ``policy`` are empty where it does not say, as managed ones do."""

    node: str
    version: str
    role: str
    replicas: int
    policy: str
    appends: bool
    append_fails: bool
    fsync: str
    memory: Memory


def read_servers(client: Client) -> list[ServerFacts]:
    """The servers behind a client: one, or the primaries of a cluster. Raises ``StoreError``."""
    asked: Any = client
    with translated():
        infos = {section: asked.info(section) for section in _SECTIONS}
        fsync = _fsync(asked)
    if "redis_version" in infos["server"]:
        return [_facts("Redis", infos, fsync)]
    nodes = infos["server"]
    return [_facts(node, {name: info[node] for name, info in infos.items()}, fsync) for node in sorted(nodes)]


def server_ms(client: Client) -> int:
    """The time of Redis in ms. Raises ``StoreError``."""
    asked: Any = client
    with translated():
        seconds, micros = asked.time()
    return int(seconds) * 1000 + int(micros) // 1000


def _fsync(client: Any) -> str:
    try:
        found = client.config_get("appendfsync")
    except redis.ResponseError:
        return ""
    return str(found.get("appendfsync", ""))


def _facts(node: str, infos: Mapping[str, Mapping[str, Any]], fsync: str) -> ServerFacts:
    server, replication, persistence, memory = (infos[section] for section in _SECTIONS)
    used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    return ServerFacts(
        node=node,
        version=str(server["redis_version"]),
        role=str(replication.get("role", "")),
        replicas=int(replication.get("connected_slaves", 0)),
        policy=str(memory.get("maxmemory_policy", "")),
        appends=bool(persistence.get("aof_enabled")),
        append_fails=str(persistence.get("aof_last_write_status", "ok")) != "ok",
        fsync=fsync,
        memory=Memory(used, int(memory.get("maxmemory", 0))),
    )
