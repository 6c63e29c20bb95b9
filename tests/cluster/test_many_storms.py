"""More storms at once than the budget of writes allows: each written in its turn, and never more than the budget."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lua_scripts.keys import SHARDS, ShardKeys, StormKeys
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.audit import most_within, writes
from tests.support.metrics import metric
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import at_once, wait_until

RATE = 20
THRESHOLD = 3
SETTINGS = {
    "SINK": "kubernetes", "LEASE": "10s", "SINGLE_HOLD": "2s", "RATE_THRESHOLD": str(THRESHOLD),
    "PATTERN_THRESHOLD": "0", "KUBE_WRITES_PER_SECOND": str(RATE),
}  # fmt: skip


@pytest.fixture
def stack(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with Stack(tmp_path, SETTINGS, workers=4) as stack:
        yield stack


def claims(stack: Stack) -> int:
    """How often the open storms were claimed to be written: their flush generations."""
    ids = [raw.decode() for shard in range(SHARDS) for raw in stack.redis.client.zrange(ShardKeys(shard).due, 0, -1)]
    return sum(int(stack.redis.client.hget(StormKeys(one).header, "gn") or 0) for one in ids)


@dataclass(frozen=True)
class Figures:
    """What a run came to."""

    took_s: float
    with_events_s: float
    most_a_second: int
    claims_a_storm: float
    lag_s: float


def written(stack: Stack, plane: ControlPlane, scene: Scene, count: int, *, singles: int, deadline_s: float) -> Figures:
    """Opens ``count`` storms at once, and Singles beside them; holds what was written against what must be."""
    keys = [f"Kind{number:04d}" for number in range(count)]
    storms = [alert for key in keys for alert in scene.pods(THRESHOLD, key)]
    alone = [scene.pod_alert("web", f"Alone{number:02d}") for number in range(singles)]
    each = math.ceil(count / 10) * THRESHOLD
    groups = [storms[first : first + each] for first in range(0, len(storms), each)]
    started = time.monotonic()
    # When all of them open
    at_once(*(lambda group=group: stack.post(group) for group in groups))  # type: ignore[misc]
    stack.post(alone)
    posted_s = time.monotonic() - started
    lags: list[float] = []

    def done() -> bool:
        lags.append(metric(stack, "stormfold_due_lag_seconds"))
        return stack.pending() == 0 and stack.quiet()

    wait_until(done, "all to be written", deadline_s=deadline_s, poll_s=0.5)
    # Then each has its object, and that is right
    items: list[dict[str, Any]] = json.loads(plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"]
    assert sorted(
        (one["spec"]["signal"]["name"], one["spec"]["type"], one["status"]["phase"],
         one["spec"].get("stormAggregation", {}).get("alertCount", 1))
        for one in items
    ) == sorted(
        [(scene.name(key), "Storm", "Active", THRESHOLD) for key in keys]
        + [(alert.labels["alertname"], "Single", "Active", 1) for alert in alone]
    )  # fmt: skip
    audit = plane.audit(scene.namespace)
    found, told = writes(audit), writes(audit, resource="events")
    # And no request was refused, nor was one too many
    assert {one.status for one in found + told} <= {200, 201}
    assert len(found) == 2 * (count + singles)
    # And storms came before Singles
    order = [one for one in found if one.subresource == "status"]
    assert (sum(not one.single for one in order), sum(one.single for one in order)) == (count, singles)
    assert [one.single for one in order].index(True) >= 0.98 * count
    # And Events did not hold them up, though they are of the same budget
    took_s = max(one.at for one in order if not one.single) - found[0].at
    everything = sorted(found + told, key=lambda one: one.at)
    figures = Figures(
        round(took_s, 1), round(everything[-1].at - found[0].at, 1), most_within(everything, 1.0),
        round(claims(stack) / count, 2), round(max(lags), 1),
    )  # fmt: skip
    share = took_s / (2 * count / RATE)
    print(f"{count} storms, posted in {posted_s:.2f} s: {figures}, {share:.2f} of the time that the budget takes")
    # And the lag showed while it lasted
    assert figures.lag_s > took_s / 2
    assert metric(stack, "stormfold_due_lag_seconds") == 0
    # And each was claimed to be written and, where its Event had to wait, to tell that
    assert figures.claims_a_storm <= 2.5
    return figures


def test_some_storms_at_once(stack: Stack, control_plane: ControlPlane, scene: Scene) -> None:
    figures = written(stack, control_plane, scene, 60, singles=3, deadline_s=60)
    assert figures.most_a_second <= 2 * RATE


@pytest.mark.slow
def test_a_thousand_storms_at_once(stack: Stack, control_plane: ControlPlane, scene: Scene) -> None:
    figures = written(stack, control_plane, scene, 1000, singles=20, deadline_s=300)
    assert figures.most_a_second <= 2 * RATE
    assert figures.took_s <= 1.5 * 2 * 1000 / RATE
