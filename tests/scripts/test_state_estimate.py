"""Admission's estimate against what entries really become: never less, and not many times more."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from app.admission import Load, state_of_all
from app.alerts import Alert
from app.entries import make_entries
from app.settings import load
from lua_scripts.inbox import Inbox
from lua_scripts.loader import load_all
from lua_scripts.memory import read_memory
from lua_scripts.storms import Storms
from tasks.ingest import Drain
from tasks.services import rules_of
from tests.support.redis_server import RedisServer

SETTINGS = load({})
RANDOM = random.Random(1)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"


def noise(length: int) -> str:
    """Text that does not compress."""
    return "".join(RANDOM.choices(LETTERS, k=length))


def alert(name: str, number: int, *, annotation: int = 0, label: int = 0, pod: int = 5, causes: int = 0) -> Alert:
    """``causes``: how long the values of all cause labels are, apart from their names."""
    labels = {
        "alertname": name, "namespace": "shop", "cluster": "c1", "severity": "critical", "container": "app",
        "pod": f"{name.lower()}-{number}-{noise(pod)}", "extra": noise(label),
    }  # fmt: skip
    if causes:
        labels |= {each: f"{each}-{noise(causes)}" for each in SETTINGS.cause_labels}
        labels["namespace"] = "shop"
    annotations = {"summary": "it is bad", "description": f"pod {number} is bad", "extra": noise(annotation)}
    return Alert(f"{RANDOM.getrandbits(64):016x}", True, 1_790_000_000_000, 0, labels, annotations, "http://p/graph")


def spread(names: int, each: int, *, pods: int = 0, **lengths: int) -> list[Alert]:
    return [
        alert(f"A{name}", number % pods if pods else number, **lengths)
        for name in range(names)
        for number in range(each)
    ]


SHAPES: dict[str, tuple[Callable[[], list[Alert]], float]] = {
    "one storm of 10,000": (lambda: spread(1, 10_000), 2),
    "2,000 Singles": (lambda: spread(2_000, 1), 2),
    "500 keys with 4 Singles each": (lambda: spread(500, 4), 2),
    "200 keys with 9 Singles each": (lambda: spread(200, 9, pods=4, pod=0), 5),
    "200 storms of 15": (lambda: spread(200, 15), 7),
    "500 Singles with long annotations": (lambda: spread(500, 1, annotation=2_000), 2),
    "200 keys with 4 long Singles each": (lambda: spread(200, 4, annotation=2_000), 2),
    "100 Singles with long labels": (lambda: spread(100, 1, label=10_000), 2),
    "10 storms of 500, long names": (lambda: spread(10, 500, pod=200), 2),
    "2,000 Singles with cause labels": (lambda: spread(2_000, 1, causes=20), 2),
    "500 keys with 4 Singles each and cause labels": (lambda: spread(500, 4, causes=20), 2),
    "200 storms of 15 with cause labels": (lambda: spread(200, 15, causes=5), 7),
    "200 storms of 15 with long cause labels": (lambda: spread(200, 15, causes=150), 2),
    "10 storms of 500 with cause labels": (lambda: spread(10, 500, causes=10), 2),
}
"""What is delivered, and how many times as much as it becomes the estimate may be."""


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_on_the_safe_side(shape: str, tmp_path: Path) -> None:
    # Given a delivery
    make, most = SHAPES[shape]
    server = RedisServer(tmp_path, maxmemory="512mb").start()
    try:
        server.client.config_set("appendonly", "no")
        load_all(server.client)
        inbox = Inbox(server.client)
        before = read_memory(server.client).used
        entries = make_entries("0" * 32, make(), SETTINGS)
        estimate = state_of_all(entry for made in entries.values() for entry in made)
        # When it is stored, and looked at as it waits, and taken in
        for shard, made in entries.items():
            inbox.accept(shard, made)
        waiting = Load(read_memory(server.client), inbox.waiting()).future - before
        for shard in entries:
            Drain(inbox, Storms(server.client), rules_of(SETTINGS), SETTINGS.cause_labels).run(shard, 60)
        state = read_memory(server.client).used - before
        assert inbox.depth().entries == 0
    finally:
        server.stop()
    # Then both estimates are no less than the state it has become, and not many times more
    assert state <= estimate <= most * state, (state, estimate)
    assert state <= waiting <= (most + 1) * state, (state, waiting)
