"""An API server that is away while alerts keep coming: nothing is lost, nothing piles up, and then all is made good."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lua_scripts.budget import FAILURES
from tests.cluster.control_plane import WORKER
from tests.cluster.servers import Servers
from tests.support.metrics import metric
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at

STORMS = 5
BYTES_AN_ALERT = 4096
"""What state may cost in Redis, broker and page cache of hashes included; it is a fifth of this."""


@dataclass
class Fire:
    """Posts all along: growing storms, of which some resolve in part or whole, and new Singles."""

    stack: Stack
    scene: Scene
    posted: dict[str, list[Alert]] = field(default_factory=dict)
    over: dict[str, set[str]] = field(default_factory=dict)
    """By kind of alert: what fired, and the fingerprints of what was resolved."""
    slowest_s: float = 0.0
    memory: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    paused_s: float = 0.0
    failures: float = 0.0

    def alerts(self) -> int:
        return sum(len(listed) for listed in self.posted.values())

    def post(self, alerts: list[Alert]) -> None:
        began = time.monotonic()
        assert self.stack.post(alerts)["accepted"] == len(alerts)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def fires(self, kind: str, count: int) -> None:
        listed = self.posted.setdefault(kind, [])
        fresh = self.scene.pods(count, kind, first=len(listed))
        listed.extend(fresh)
        self.post(fresh)

    def resolves(self, kind: str, alerts: list[Alert]) -> None:
        self.over.setdefault(kind, set()).update(alert.fingerprint for alert in alerts)
        self.post([alert.resolved(at(60)) for alert in alerts])

    def turn(self, number: int) -> None:
        """Some of everything; each eighth time something resolves."""
        for storm in range(STORMS - 1):
            self.fires(f"Storm{storm}", 5)
        self.fires(f"Alone{number:03d}", 1)
        if number % 8 == 4:
            self.resolves("Storm1", self.posted["Storm1"][:number])
            self.resolves(f"Alone{number:03d}", self.posted[f"Alone{number:03d}"])
        if number == 6:
            last = f"Storm{STORMS - 1}"
            self.resolves(last, self.posted[last])

    def go_on(self, until: Event) -> None:
        """A turn about every second; looks at what it costs meanwhile."""
        number = 0
        while not until.wait(0.9):
            number += 1
            self.turn(number)
            self.memory.append(int(self.stack.redis.client.info("memory")["used_memory"]))
            self.pending.append(self.stack.pending())
            self.paused_s = max(self.paused_s, metric(self.stack, "stormfold_kube_paused_seconds"))
            self.failures = max(self.failures, metric(self.stack, "stormfold_kube_failures"))

    def expected(self) -> list[tuple[str, str, str, int, int]]:
        """Name, type, phase, alerts firing and in all, of every object that must stand in the end."""
        lines = []
        for kind, listed in self.posted.items():
            firing = len(listed) - len(self.over.get(kind, ()))
            form = "Single" if kind.startswith("Alone") else "Storm"
            lines.append((self.scene.name(kind), form, "Active" if firing else "Resolved", firing, len(listed)))
        return sorted(lines)


def shown(items: list[dict[str, Any]]) -> list[tuple[str, str, str, int, int]]:
    lines = []
    for one in items:
        spec, phase = one["spec"], one.get("status", {}).get("phase", "")
        storm = spec.get("stormAggregation")
        counts = (storm["alertCount"], storm["totalAlerts"]) if storm else (int(phase == "Active"), 1)
        lines.append((spec["signal"]["name"], spec["type"], phase, *counts))
    return sorted(lines)


@pytest.fixture
def stack(own_plane: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(own_plane.start().kubeconfig(WORKER)))
    settings = {"SINK": "kubernetes", "LEASE": "30s", "SINGLE_HOLD": "300ms"}
    with Stack(tmp_path, settings, maxmemory="64mb") as stack:
        yield stack


def survive(stack: Stack, servers: Servers, down_s: float, *, silent: bool) -> None:
    scene = new_scene("down")
    plane = servers.plane
    plane.kubectl("create", "namespace", scene.namespace)
    fire = Fire(stack, scene)

    def objects() -> list[tuple[str, str, str, int, int]]:
        return shown(json.loads(plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"])

    # Given storms and a Single that are written
    for storm in range(STORMS):
        fire.fires(f"Storm{storm}", 12)
    fire.fires("Alone000", 1)
    wait_until(
        lambda: objects() == fire.expected(), "the objects of before", deadline_s=60, poll_s=0.5, describe=objects
    )
    before = int(stack.redis.client.info("memory")["used_memory"])
    count = fire.alerts()
    # When the server is away for some time under fire, and for as long as it takes to start
    end = Event()
    with ThreadPoolExecutor(1) as pool:
        if silent:
            servers.signal_api(signal.SIGSTOP)
        else:
            servers.kill_api()
        gone = time.monotonic()
        firing = pool.submit(fire.go_on, end)
        try:
            wait_until(
                lambda: firing.done() or time.monotonic() - gone >= down_s, "the outage's end", deadline_s=down_s + 5
            )
            # Then alerts are taken in all the while
            wait_until(lambda: stack.pending() == 0, "an empty inbox", deadline_s=10)
            if silent:
                servers.signal_api(signal.SIGCONT)
            else:
                servers.start_api()
        finally:
            end.set()
        firing.result()
    back = time.monotonic()
    # And what it should be stands there soon after
    wait_until(
        lambda: stack.settled() and objects() == fire.expected(), "all to be made good", deadline_s=45, poll_s=0.2,
        describe=lambda: (stack.pending(), set(fire.expected()) ^ set(objects())),
    )  # fmt: skip
    made_good_s = time.monotonic() - back
    # And every alert is a member of its storm
    storms = {one["stormKey"]["alertname"]: one for one in stack.pages("storms")}
    for kind, listed in fire.posted.items():
        members = stack.pages(f"storms/{storms[scene.name(kind)]['id']}/members")
        over = fire.over.get(kind, set())
        assert sorted((one["fingerprint"], one["status"]) for one in members) == sorted(
            (alert.fingerprint, "resolved" if alert.fingerprint in over else "firing") for alert in listed
        )
    # And Redis grew with its state alone, and everybody knew that the server was away, and knows that it is back
    grown = max(fire.memory) - before
    print(
        f"away for {down_s:g} s: {fire.alerts() - count} alerts and {len(fire.posted)} objects, made good "
        f"{made_good_s:.1f} s after; {grown / 1024:.0f} KiB more in Redis, {max(fire.pending)} entries at most in the "
        f"inbox, slowest answer {fire.slowest_s:.2f} s, pause of up to {fire.paused_s:g} s, {fire.failures:g} failures"
    )
    assert grown < 2 * 1024 * 1024 + BYTES_AN_ALERT * (fire.alerts() - count)
    assert stack.redis.refused_for_memory() == 0
    assert fire.failures >= FAILURES
    assert fire.paused_s > 0
    assert fire.slowest_s < 5
    for name in ("kube_paused_seconds", "kube_failures", "due_lag_seconds", "kube_waiting"):
        assert metric(stack, f"stormfold_{name}") == 0, name


@pytest.mark.slow
def test_a_minute_without_an_api_server(stack: Stack, own_plane: Servers) -> None:
    survive(stack, own_plane, 60, silent=False)


@pytest.mark.slow
def test_an_api_server_that_falls_silent(stack: Stack, own_plane: Servers) -> None:
    survive(stack, own_plane, 25, silent=True)
