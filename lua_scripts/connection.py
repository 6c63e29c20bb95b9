"""Opens a client for any of the URLs that stormfold takes, and refuses a Redis that may lose what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from lua_scripts.errors import StoreUnsafe
from lua_scripts.loader import Client, translated


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take and how often it is tried. ``retries`` 0 is for callers with a deadline of their own."""

    timeout_s: float = 5.0
    connect_timeout_s: float = 2.0
    retries: int = 3
    max_connections: int = 64


WEB = Limits(timeout_s=0.4, connect_timeout_s=0.3, retries=0)
"""For the web process: a webhook's answer takes less than a second whatever Redis does."""

WORKER = Limits()
"""For workers: they have time, and every script they call may be repeated."""


def _addresses(netloc: str, default_port: int) -> list[tuple[str, int]]:
    result = []
    for part in netloc.rpartition("@")[2].split(","):
        host, _, port = part.rpartition(":")
        result.append((host or part, int(port) if host else default_port))
    return result


def connect(url: str, limits: Limits = WORKER) -> Client:
    """A client for ``url``: redis://, rediss://, redis+sentinel://h:p,h:p/primary/db or redis+cluster://h:p,h:p.

    Opens no connection yet, except for a cluster. Raises ``ValueError`` for a URL of another form, ``StoreError``
    where a cluster cannot be reached.
    """
    backoff = ExponentialBackoff(cap=1.0, base=0.05) if limits.retries else NoBackoff()
    retry = Retry(backoff, limits.retries)
    common: dict[str, Any] = {
        "socket_timeout": limits.timeout_s,
        "socket_connect_timeout": limits.connect_timeout_s,
        "max_connections": limits.max_connections,
    }
    parts = urlsplit(url)
    auth: dict[str, Any] = {"username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None}  # fmt: skip
    if parts.scheme in ("redis", "rediss", "unix"):
        return redis.Redis.from_url(url, retry=retry, health_check_interval=3, **common)
    if parts.scheme == "redis+sentinel":
        primary, _, db = parts.path.strip("/").partition("/")
        if not primary:
            raise ValueError("a redis+sentinel URL names the primary: redis+sentinel://host:port/primary/db")
        sentinel_kwargs = {k: v for k, v in common.items() if k != "max_connections"}
        sentinel: Any = Sentinel(_addresses(parts.netloc, 26379), sentinel_kwargs=sentinel_kwargs)  # type: ignore[no-untyped-call]
        client: redis.Redis = sentinel.master_for(
            primary, db=int(db or 0), retry=retry, health_check_interval=3, **common, **auth
        )
        return client
    if parts.scheme == "redis+cluster":
        nodes = [ClusterNode(host, port) for host, port in _addresses(parts.netloc, 6379)]  # type: ignore[no-untyped-call]
        with translated():
            return RedisCluster(startup_nodes=nodes, retry=retry, **common, **auth)
    raise ValueError(f"{parts.scheme}:// is not redis://, rediss://, redis+sentinel:// or redis+cluster://")


def check_safe(client: Client) -> None:
    """Raises ``StoreUnsafe`` where Redis may evict accepted alerts, ``StoreError`` where it does not answer.

    A server that hides its configuration (CONFIG renamed, as managed ones do) is asked through INFO.
    """
    with translated():
        memory = client.info("memory")
    if "maxmemory_policy" not in memory:  # a cluster: one answer per node
        policies = {node: info.get("maxmemory_policy") for node, info in memory.items()}
    else:
        policies = {"Redis": memory["maxmemory_policy"]}
    for node, policy in policies.items():
        if policy not in (None, "noeviction"):
            raise StoreUnsafe(
                f"{node} has maxmemory-policy {policy}: it may evict accepted alerts; set maxmemory-policy noeviction"
            )
