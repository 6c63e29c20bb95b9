"""Faults of Redis: gone, frozen, full, emptied, out of connections, without scripts or queues."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import redis

from app.broker import make_celery, publish_ingest
from app.settings import load
from tests.faults.struck import RECOVERY_S, Struck
from tests.faults.whole_state import QUEUES
from tests.support.waiting import wait_until

CONSUMED: Final = "Task stormfold.ingest"
FULL: Final = 100_000
"""A limit on memory that an empty Redis is beyond."""


def restart_redis(at: Struck) -> None:
    """SIGKILL; what it confirmed is on disk (``appendfsync always``)."""
    at.situation.stack.redis.restart()
    at.stop.release()


def hold_redis(at: Struck, seconds: float) -> None:
    server = at.situation.stack.redis
    server.freeze()
    frozen = time.monotonic()
    at.stop.release()
    # The time is the fault itself: callers give up, and try again, in that time.
    wait_until(lambda: time.monotonic() - frozen >= seconds, "the freeze to be over", deadline_s=seconds + 5)
    server.thaw()


def freeze_redis(at: Struck) -> None:
    """It accepts connections and answers nothing for 3 s: past every caller's patience, made short for it."""
    hold_redis(at, 3.0)


def freeze_redis_long(at: Struck) -> None:
    """The same for 10 s."""
    hold_redis(at, 10.0)


def no_connections(at: Struck) -> None:
    """``maxclients``: all connections are cut, and none is taken, for three seconds."""
    with _pinned(at) as admin:
        admin.config_set("maxclients", 1)
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        at.stop.release()
        before = int(admin.info("stats")["rejected_connections"])
        wait_until(
            lambda: int(admin.info("stats")["rejected_connections"]) - before >= 20, "connections to be refused",
            deadline_s=20,
        )  # fmt: skip
        admin.config_set("maxclients", 10_000)


def exhausted_pool(at: Struck) -> None:
    """All connections that the process may have are taken by something else, until it has felt it."""
    if at.process is at.situation.stack.web:
        assert at.sender.wait_answered() == 503
    else:
        at.stop.wait_over()
    at.stop.release()


def full(at: Struck) -> None:
    """Out of memory. What was accepted is drained and written all the same; then there is room again."""
    stack = at.situation.stack
    limit = stack.redis.client.config_get("maxmemory")["maxmemory"]
    stack.redis.client.config_set("maxmemory", FULL)
    try:
        in_web = at.process is stack.web
        at.stop.release()
        if in_web:
            # Refused, and said again when there is room.
            assert at.sender.wait_answered() == 503
        else:
            at.situation.sent(at.sender)
            at.situation.wait_settled()
    finally:
        stack.redis.client.config_set("maxmemory", limit)
    _all_consume(at)


def broker_full(at: Struck) -> None:
    """Out of memory when the wake-up is published: the 202 stands, and the alerts are drained without the broker."""
    stack = at.situation.stack
    limit = stack.redis.client.config_get("maxmemory")["maxmemory"]
    stack.redis.client.config_set("maxmemory", FULL)
    try:
        at.stop.release()
        at.situation.sent(at.sender)
        assert at.sender.statuses == [202]
        at.situation.wait_settled()
    finally:
        stack.redis.client.config_set("maxmemory", limit)
    _all_consume(at)


def _all_consume(at: Struck) -> None:
    """No worker has ended or stalled over it: each takes messages again."""
    stack = at.situation.stack
    publisher = make_celery(load(stack.environ), publisher=True)
    heard = {worker.name: worker.log().count(CONSUMED) for worker in stack.workers}

    def all_heard() -> bool:
        publish_ingest(publisher, 0)
        return all(worker.log().count(CONSUMED) > heard[worker.name] for worker in stack.workers)

    wait_until(all_heard, "every worker to consume", deadline_s=RECOVERY_S, poll_s=0.2, describe=stack.logs)


def emptied(at: Struck) -> None:
    """FLUSHALL; the sender repeats all that fires, and the process goes on with what it had in hand."""
    at.situation.stack.redis.flush()
    at.stop.release()
    at.situation.sent(at.sender)
    at.situation.repeat()
    for group in at.situation.groups:
        group.least = 0


def emptied_under_it(at: Struck) -> None:
    """FLUSHALL; what the sender repeats is written by others first, and only then the process goes on."""
    at.situation.stack.redis.flush()
    at.situation.sent(at.sender)
    at.situation.more()
    at.situation.repeat()
    for group in at.situation.groups:
        group.least = 0
    at.situation.wait_settled()
    at.stop.release()
    at.stop.wait_over()


def emptied_under_a_change(at: Struck) -> None:
    """The same, and when the process goes on, a change of what the others wrote is due and waits for its turn."""
    stack = at.situation.stack
    stack.redis.flush()
    at.situation.sent(at.sender)
    at.situation.repeat()
    for group in at.situation.groups:
        group.least = 0
    at.situation.wait_settled()
    other = at.steps.arm("before-claim", at.situation.storm_id)
    at.situation.more()
    other.wait_reached()
    at.stop.release()
    at.stop.wait_over()
    other.release()


def forget_scripts(at: Struck) -> None:
    """SCRIPT FLUSH."""
    at.situation.stack.redis.client.script_flush()
    at.stop.release()


def delete_queues(at: Struck) -> None:
    """Every queue of the broker, what is unacknowledged, and the bindings."""
    client = (at.situation.stack.broker or at.situation.stack.redis).client
    names = [*QUEUES, "unacked", "unacked_index", *client.scan_iter("_kombu.*")]
    client.delete(*names)
    at.stop.release()


@contextlib.contextmanager
def _pinned(at: Struck) -> Iterator[redis.Redis]:
    """A client with one connection that is open already and stays so."""
    client = redis.Redis(
        host="127.0.0.1", port=at.situation.stack.redis.port, socket_timeout=10, single_connection_client=True
    )
    client.ping()
    try:
        yield client
    finally:
        client.close()
