"""The faults of a soak: what is done to a running system that must lose nothing by it, drawn from a seed."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Final

import redis

from tests.soak.stage import FEWEST_WORKERS, LEASE_S, MAXMEMORY, MOST_WORKERS, Stage
from tests.support.children import children, send
from tests.support.processes import Process

Fault = Callable[[Stage, random.Random], bool]
"""Does harm, waits, mends. False where there was nothing to do it to."""
Kinds = Mapping[str, tuple[int, Fault]]
"""The number is how often a kind comes up."""

QUEUES: Final = ("ingest", "aggregate", "maintenance", "unacked", "unacked_index")
SOME: Final = 6
"""Every sixth lock of a folder: of some twenty storms about three hang, fewer than there are pool processes."""


def _a_worker(stage: Stage, chance: random.Random) -> Process | None:
    running = [worker for worker in stage.workers if worker.running]
    return chance.choice(running) if running else None


def _pool(stage: Stage) -> list[int]:
    return [pid for worker in stage.workers if worker.running for pid in children(worker.pid)]


def kill_web(stage: Stage, chance: random.Random) -> bool:
    stage.kill(chance.choice(stage.webs), chance.uniform(0, 1.5))
    return True


def kill_worker(stage: Stage, chance: random.Random) -> bool:
    worker = _a_worker(stage, chance)
    if worker is None:
        return False
    stage.kill(worker, chance.uniform(0, 2))
    return True


def kill_worker_alone(stage: Stage, chance: random.Random) -> bool:
    """Its pool goes on for a moment without it."""
    worker = _a_worker(stage, chance)
    if worker is None:
        return False
    stage.kill(worker, chance.uniform(0.5, 2), alone=True)
    return True


def kill_pool_child(stage: Stage, chance: random.Random) -> bool:
    pool = _pool(stage)
    if not pool:
        return False
    send([chance.choice(pool)], signal.SIGKILL)
    return True


def freeze_worker(stage: Stage, chance: random.Random) -> bool:
    """Past its lease, so that others do its work before it goes on where it was."""
    worker = _a_worker(stage, chance)
    if worker is None:
        return False
    worker.freeze()
    stage.pause(LEASE_S + chance.uniform(0.2, 2))
    worker.thaw()
    return True


def freeze_pool_child(stage: Stage, chance: random.Random) -> bool:
    """The worker thinks that all is well; its task sleeps past its lease."""
    pool = _pool(stage)
    if not pool:
        return False
    child = [chance.choice(pool)]
    send(child, signal.SIGSTOP)
    stage.pause(LEASE_S + chance.uniform(0.2, 2))
    send(child, signal.SIGCONT)
    return True


def add_worker(stage: Stage, chance: random.Random) -> bool:
    with stage.lock:
        if len(stage.workers) >= MOST_WORKERS:
            return False
        stage.stack.start_worker(wait=False)
    return True


def remove_worker(stage: Stage, chance: random.Random) -> bool:
    with stage.lock:
        running = [worker for worker in stage.workers if worker.running]
        if len(stage.workers) <= FEWEST_WORKERS or not running:
            return False
        worker = chance.choice(running)
    stage.remove(worker)
    return True


def kill_redis(stage: Stage, chance: random.Random) -> bool:
    stage.redis.kill()
    stage.pause(chance.choice((0.0, 0.5, 3.0)))
    stage.redis.start()
    return True


def kill_redis_as_it_rewrites(stage: Stage, chance: random.Random) -> bool:
    """The append-only file is being rewritten when it dies."""
    stage.redis.client.bgrewriteaof()
    time.sleep(chance.uniform(0, 0.1))
    return kill_redis(stage, chance)


def freeze_redis(stage: Stage, chance: random.Random) -> bool:
    stage.redis.freeze()
    stage.pause(chance.choice((0.3, 1, 2, 5)) * chance.uniform(0.8, 1.2))
    stage.redis.thaw()
    return True


def fill_redis(stage: Stage, chance: random.Random) -> bool:
    """At once below what it holds, or just above, so that it fills up while it works."""
    client = stage.redis.client
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", max(1, used + chance.choice((-used // 10, 100_000, 1_200_000))))
    stage.pause(chance.uniform(1, 5))
    client.config_set("maxmemory", MAXMEMORY)
    return True


def flush_scripts(stage: Stage, chance: random.Random) -> bool:
    stage.redis.client.script_flush()
    return True


def delete_queues(stage: Stage, chance: random.Random) -> bool:
    stage.redis.client.delete(*QUEUES)
    return True


def empty_broker(stage: Stage, chance: random.Random) -> bool:
    """All that is not stormfold's own: queues, unacknowledged messages, bindings."""
    keys = [key for key in stage.redis.client.scan_iter(count=1000) if not key.startswith(b"sf:")]
    if keys:
        stage.redis.client.delete(*keys)
    return True


def cut_connections(stage: Stage, chance: random.Random) -> bool:
    stage.redis.client.client_kill_filter(_type="normal", skipme=True)
    return True


def squeeze_connections(stage: Stage, chance: random.Random) -> bool:
    """Everybody is cut off, and too few may come back."""
    client = stage.pinned()
    before = str(client.config_get("maxclients")["maxclients"])
    try:
        client.config_set("maxclients", chance.choice((1, 3, 8)))
        client.client_kill_filter(_type="normal", skipme=True)
        stage.pause(chance.uniform(1, 4))
    finally:
        client.config_set("maxclients", before)
        client.close()
    return True


def freeze_as_it_writes(stage: Stage, chance: random.Random) -> bool:
    """A worker sleeps past its lease in the middle of a write, and wakes up when others have written."""
    worker = _a_worker(stage, chance)
    if worker is None:
        return False
    with stage.sink.held(every=chance.choice((1, SOME))):
        stage.pause(chance.uniform(0.7, 1.5))
        worker.freeze()
    stage.pause(LEASE_S + chance.uniform(0.5, 2))
    worker.thaw()
    return True


LANES: Final[dict[str, Kinds]] = {
    "processes": {
        "web killed": (3, kill_web),
        "worker killed": (2, kill_worker),
        "worker killed before its pool": (1, kill_worker_alone),
        "pool child killed": (3, kill_pool_child),
        "worker frozen past its lease": (2, freeze_worker),
        "pool child frozen past its lease": (2, freeze_pool_child),
        "worker added": (1, add_worker),
        "worker removed": (1, remove_worker),
    },
    "redis": {
        "Redis killed": (2, kill_redis),
        "Redis killed while it rewrites its file": (1, kill_redis_as_it_rewrites),
        "Redis frozen": (2, freeze_redis),
        "Redis full": (2, fill_redis),
        "scripts flushed": (2, flush_scripts),
        "queues deleted": (2, delete_queues),
        "broker emptied": (1, empty_broker),
        "connections cut": (2, cut_connections),
        "connections squeezed": (2, squeeze_connections),
    },
}
"""Faults of different lanes overlap; within a lane one follows the other. The sink brings more."""

GAPS_S: Final = {"processes": (0.2, 2.5), "redis": (1.0, 3.5), "sink": (3.0, 8.0), "hands": (1.0, 4.0)}

FAILURES: Final = (AssertionError, OSError, redis.RedisError)
"""How a fault itself can fail: that is the soak's own failure and no verdict on the system."""
