"""How many requests one storm costs an API server, by its own audit log: bounded by time, not by alerts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.audit import writes
from tests.support.metrics import metric
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Pace:
    """How long a storm lasts, and how often it may be written meanwhile."""

    lasts_s: float
    debounce_s: float
    max_wait_s: float
    posts: int
    alerts: int

    def most_writes(self, lasted_s: float) -> int:
        """Spec and status: once in each span of MAX_WAIT that the storm meets, and once when it has calmed down.

        A storm that lasted longer than it should, for the machine stood still, may have a span more.
        """
        return 2 + 2 * math.ceil(max(self.lasts_s, lasted_s - 1) / self.max_wait_s)


@contextmanager
def running(plane: ControlPlane, folder: Path, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(WORKER)))
    settings = {
        "SINK": "kubernetes", "LEASE": "30s", "DEBOUNCE": f"{pace.debounce_s * 1000:.0f}ms",
        "MAX_WAIT": f"{pace.max_wait_s * 1000:.0f}ms", "SINGLE_HOLD": "5s",
    }  # fmt: skip
    with Stack(folder, settings) as stack:
        yield stack


def post_steadily(stack: Stack, groups: Sequence[Sequence[Any]], lasts_s: float) -> None:
    """The groups at even distances, the last one when the time is over."""
    started = time.monotonic()
    for number, group in enumerate(groups):
        due = started + lasts_s * number / max(1, len(groups) - 1)
        wait_until(lambda due=due: time.monotonic() >= due, "the time of the next webhook", deadline_s=lasts_s + 5)  # type: ignore[misc]
        stack.post(group)


def hold(stack: Stack, plane: ControlPlane, scene: Scene, pace: Pace) -> None:
    """One storm at this pace; what it cost, and what stands in the end."""
    alerts = scene.pods(pace.posts * pace.alerts)
    groups = [alerts[first : first + pace.alerts] for first in range(0, len(alerts), pace.alerts)]
    # When it lasts
    started = time.monotonic()
    post_steadily(stack, groups, pace.lasts_s)
    lasted_s = time.monotonic() - started
    stack.wait_received(scene.key(), len(alerts), deadline_s=pace.max_wait_s + 30)
    # Then its object shows all of it
    [storm] = json.loads(plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"]
    aggregation = storm["spec"]["stormAggregation"]
    assert (aggregation["alertCount"], aggregation["totalAlerts"]) == (len(alerts), len(alerts))
    assert len(aggregation["affectedResources"]) + aggregation["omittedResources"] == len(alerts)
    assert storm["status"]["phase"] == "Active"
    # And the server had no more requests than the time allows, refused ones included, superseded Singles apart
    found = writes(plane.audit(scene.namespace))
    superseded = len(aggregation.get("supersedes", []))
    most = pace.most_writes(lasted_s)
    print(f"{len(alerts)} alerts in {lasted_s:.1f} s: {len(found)} writes of {most}, {superseded} superseded")
    assert 2 <= len(found) <= most + 2 * superseded
    told = [one for one in plane.audit(scene.namespace) if one["objectRef"]["resource"] == "events"]
    assert metric(stack, "stormfold_kube_writes_total") == len(found) + len(told)


def test_a_storm_of_some_seconds(
    control_plane: ControlPlane, tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a storm of 1,200 alerts over 6 s, to be written at least every 3 s
    pace = Pace(lasts_s=6, debounce_s=2, max_wait_s=3, posts=60, alerts=20)
    with running(control_plane, tmp_path, pace, monkeypatch) as stack:
        hold(stack, control_plane, scene, pace)


@pytest.mark.slow
def test_a_storm_of_a_minute(
    control_plane: ControlPlane, tmp_path: Path, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a storm of 10,000 alerts over 60 s, at the default pace
    pace = Pace(lasts_s=60, debounce_s=5, max_wait_s=30, posts=100, alerts=100)
    with running(control_plane, tmp_path, pace, monkeypatch) as stack:
        hold(stack, control_plane, scene, pace)
