"""Redis, its scripts, the broker and the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kombu.exceptions import OperationalError

from app.broker import Queues, queue_depth
from app.settings import Settings
from lua_scripts.errors import StoreError
from lua_scripts.loader import Client, load_all, loaded
from lua_scripts.server import ServerFacts, read_servers, server_ms
from lua_scripts.workers import Workers
from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.services import Services

OLDEST: Final = (6, 2)
START: Final = "start it, or set STORMFOLD_REDIS_URL to where it is"
SILENT_MS: Final = 60_000
"""A worker that left no sign for this long is hung or gone."""
CROWDED: Final = 10_000
"""Messages in a queue that nobody can be consuming."""


def check_redis(client: Client, settings: Settings) -> Iterator[Finding]:
    """The server itself, then the scripts. One line where it does not answer."""
    try:
        servers = read_servers(client)
    except StoreError as error:
        yield fail("redis", str(error), START)
        return
    for server in servers:
        yield from judge_server(server, settings)
    try:
        known = loaded(client)
        if not known:
            load_all(client)
    except StoreError as error:
        yield fail("scripts", str(error), "allow EVAL, EVALSHA and SCRIPT LOAD to the user in STORMFOLD_REDIS_URL")
    else:
        yield ok("scripts", "loaded" if known else "were not loaded, and are now")


def judge_server(server: ServerFacts, settings: Settings) -> Iterator[Finding]:
    """What one server says about itself, against what accepted alerts need; pure."""
    version = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
    if version < OLDEST:
        yield fail("redis version", f"{server.node} is {server.version}", "upgrade to 6.2 or later")
    elif server.role == "slave":
        yield fail("redis role", f"{server.node} is a replica", "point STORMFOLD_REDIS_URL at the primary")
    else:
        yield ok("redis version", f"{server.node} is {server.version}")
    yield _policy(server)
    yield _persistence(server, settings)
    yield _memory(server, settings)
    if server.replicas < settings.redis_wait_replicas:
        yield fail(
            "redis replicas",
            f"{server.replicas} connected, every alert waits for {settings.redis_wait_replicas}",
            "connect more, or lower STORMFOLD_REDIS_WAIT_REPLICAS",
        )


def _policy(server: ServerFacts) -> Finding:
    if not server.policy:
        return warn("redis eviction", f"{server.node} does not say its policy", "see that it is noeviction")
    if server.policy != "noeviction":
        return fail(
            "redis eviction", f"{server.policy}: accepted alerts may be evicted, so none are accepted",
            "set maxmemory-policy noeviction",
        )  # fmt: skip
    return ok("redis eviction", "noeviction")


def _persistence(server: ServerFacts, settings: Settings) -> Finding:
    about = "redis persistence"
    if server.append_fails:
        return fail(about, "the last write to the append-only file failed", "see to Redis's disk")
    if not server.appends:
        text = "appendonly is off: what was answered 202 is gone when Redis is"
        mend = "set appendonly yes and appendfsync always"
        return warn(about, text, mend) if settings.redis_wait_replicas else fail(about, text, mend)
    if server.fsync not in ("always", ""):
        return warn(
            about, f"appendfsync {server.fsync}: the last moments may be lost with the machine",
            "set appendfsync always",
        )  # fmt: skip
    return ok(about, f"appendonly yes, appendfsync {server.fsync or '(not told)'}")


def _memory(server: ServerFacts, settings: Settings) -> Finding:
    about, memory = "redis memory", server.memory
    if not memory.limit:
        return warn(about, "no maxmemory: intake cannot tell when to stop", "set maxmemory below what the machine has")
    share = 100 * memory.used // memory.limit
    text = f"{share}% of {memory.limit >> 20} MiB in use, intake stops at {settings.admit_memory}%"
    if share >= settings.admit_memory:
        return fail(about, text, "raise maxmemory, or start more workers if the inbox is long")
    if share >= settings.admit_memory * 3 // 4:
        return warn(about, text, "raise maxmemory")
    return ok(about, text)


def check_broker(services: Services) -> Iterator[Finding]:
    """Whether it answers, and how much waits in its queues."""
    try:
        depths = {queue: queue_depth(services.publisher, queue) for queue in Queues.ALL}
    except OperationalError as error:
        yield fail(
            "broker", str(error), "start it, or set STORMFOLD_BROKER_URL; until then workers find work by their sweep"
        )
        return
    text = ", ".join(f"{queue} {depth}" for queue, depth in depths.items())
    if max(depths.values()) > CROWDED:
        yield warn("broker", f"messages that wait: {text}", "start workers, or more of them")
    else:
        yield ok("broker", f"messages that wait: {text}")


def check_workers(client: Client) -> Finding:
    """Whether any worker has consumed lately. Raises ``StoreError``."""
    beats, now = Workers(client).last_beats(), server_ms(client)
    live = sum(now - at < SILENT_MS for at in beats.values())
    if live:
        return ok("workers", f"{live} live")
    return warn("workers", "none has shown life in the last minute", "start one: stormfold worker")
