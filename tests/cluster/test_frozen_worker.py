"""A create of a worker that slept past its lease, which no lock can fence: a look through the sink makes it good."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import load
from tasks.services import Services
from tasks.work import reconcile
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.steps import Steps
from tests.support.waiting import wait_until
from tests.support.webhook import at

LEASE_S = 3


@pytest.fixture
def stack(tmp_path: Path, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    return Stack(tmp_path, {"SINK": "kubernetes", "LEASE": f"{LEASE_S}s", "KUBE_TIMEOUT": "2s"}, workers=2)


@pytest.fixture
def steps(stack: Stack) -> Iterator[Steps]:
    steps = Steps(stack)
    with stack:
        yield steps


def said(storm: dict[str, Any]) -> dict[str, Any]:
    """All that an object says, but for what tells one writing of it from the next."""
    aggregation, status = storm["spec"]["stormAggregation"], storm.get("status", {})
    return {
        "spec": storm["spec"],
        "phase": status.get("phase"),
        "conditions": {one["type"]: one["status"] for one in status.get("conditions", [])},
        "ledger": status.get("ledger"),
        "alertCount": aggregation["alertCount"],
        "totalAlerts": aggregation["totalAlerts"],
    }


@pytest.mark.parametrize("phase", ["Active", "Resolved"])
def test_a_create_that_comes_three_leases_late(
    steps: Steps, control_plane: ControlPlane, scene: Scene, phase: str
) -> None:
    stack, alerts = steps.stack, scene.pods(24)

    def objects() -> list[dict[str, Any]]:
        return list(json.loads(control_plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"])

    def stands(phase: str, firing: int, total: int) -> bool:
        return [
            (one.get("status", {}).get("phase"), one["spec"]["stormAggregation"]["alertCount"],
             one["spec"]["stormAggregation"]["totalAlerts"])
            for one in objects()
        ] == [(phase, firing, total)]  # fmt: skip

    # Given a worker that froze right before it sent the first create of a storm
    stop = steps.arm("before-request", "POST", "Storm")
    stack.post(alerts[:12])
    stop.wait_reached()
    frozen = steps.process_of(stop)
    frozen.freeze()
    since = time.monotonic()
    # And that another worker wrote meanwhile, which went on
    wait_until(lambda: stands("Active", 12, 12), "the storm written by another", deadline_s=30, describe=objects)
    stack.post(alerts[12:])
    if phase == "Resolved":
        stack.post([alert.resolved(at(60)) for alert in alerts])
    firing = 24 if phase == "Active" else 0
    wait_until(lambda: stands(phase, firing, 24), "its last content", deadline_s=30, describe=objects)
    wait_until(lambda: stack.quiet(scene.key()), "nothing due")
    [before] = objects()
    # And whose object somebody deleted
    control_plane.kubectl("delete", "rr", "-n", scene.namespace, before["metadata"]["name"])
    wait_until(lambda: time.monotonic() - since >= 3 * LEASE_S, "three leases")
    assert objects() == []
    # When the worker wakes up
    stop.release()
    frozen.thaw()
    wait_until(lambda: objects() != [], "what it had to say", deadline_s=30)
    stop.wait_over()
    [late] = objects()
    assert late["spec"]["stormAggregation"]["alertCount"] == 12
    # And the sink is looked through
    wait_until(lambda: reconcile(Services(load(stack.environ))).strays == 1, "a look that meets it", deadline_s=30)
    # Then there is one object, and it says what the state says
    wait_until(
        lambda: [said(one) for one in objects()] == [said(before)], "the last content again", deadline_s=30,
        describe=lambda: ([said(one) for one in objects()], said(before)),
    )  # fmt: skip
    [after] = objects()
    assert after["metadata"]["uid"] == late["metadata"]["uid"] != before["metadata"]["uid"]
    assert stack.storm(scene.key()) is not None
    # And later writes are made to that very object
    if phase == "Active":
        stack.post(scene.pods(6, first=24))
        wait_until(lambda: stands("Active", 30, 30), "the storm to go on", deadline_s=30, describe=objects)
    else:
        stack.post([alert.fired_again(at(120)) for alert in alerts[:4]])
        wait_until(lambda: stands("Active", 4, 28), "the storm to fire again", deadline_s=30, describe=objects)
    assert [one["metadata"]["uid"] for one in objects()] == [late["metadata"]["uid"]]
    wait_until(lambda: stack.quiet(scene.key()), "nothing due")
    assert reconcile(Services(load(stack.environ))).strays == 0
