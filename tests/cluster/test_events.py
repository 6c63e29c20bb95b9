"""Events: what kubectl describe tells of a storm, once each, with a worker's own rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at


@pytest.fixture
def stack(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s"}) as stack:
        yield stack


def told(plane: ControlPlane, namespace: str) -> list[tuple[str, str, str]]:
    """(type, reason, text) of every Event of the namespace about our kind, in the order of their times."""
    items = json.loads(plane.kubectl("get", "events.v1.events.k8s.io", "-n", namespace, "-o", "json"))["items"]
    ours = [one for one in items if one["regarding"]["kind"] == "RemediationRequest"]
    ours.sort(key=lambda one: one["eventTime"])
    return [(one["type"], one["reason"], one["note"]) for one in ours]


def test_a_storm_is_told_of_from_beginning_to_end(stack: Stack, control_plane: ControlPlane, scene: Scene) -> None:
    # Given a storm and a Single
    alerts = scene.pods(12)
    stack.post([*alerts, scene.pod_alert("db-0", "DiskFull")])
    stack.wait_settled()
    name = scene.name("PodCrashLooping")
    detected = ("Warning", "StormDetected", f"rate storm of {name}: 12 alerts fire on 12 resources")
    assert told(control_plane, scene.namespace) == [detected]
    # When it grows, is resolved, fires again and is resolved again
    stack.post(scene.pods(15))
    stack.wait_settled()
    assert told(control_plane, scene.namespace) == [detected]
    for moment in (60, 120):
        stack.post([alert.resolved(at(moment)) for alert in scene.pods(15)])
        stack.wait_settled()
        if moment == 60:
            stack.post(scene.pods(3, starts=90))
            stack.wait_settled()
    # Then each turn is told once, the Single's are not, and describe shows them
    assert told(control_plane, scene.namespace) == [
        detected,
        ("Normal", "StormResolved", f"all 15 alerts of {name} are resolved"),
        ("Warning", "StormReopened", f"{name} fires again: 3 alerts fire on 3 resources"),
        ("Normal", "StormResolved", f"all 18 alerts of {name} are resolved"),
    ]
    [rr] = [one for one in control_plane.items("rr", scene.namespace) if one["spec"]["type"] == "Storm"]
    described = control_plane.kubectl("describe", "rr", rr["metadata"]["name"], "-n", scene.namespace)
    table = described[described.index("Events:") :]
    # (which sorts them by whole seconds)
    assert sorted(line.split()[1] for line in table.splitlines()[3:]) == [
        "StormDetected", "StormReopened", "StormResolved", "StormResolved",
    ]  # fmt: skip
    assert "remediation.stormfold.io/stormfold" in table


def test_without_the_right_to_tell_the_object_is_written_all_the_same(
    control_plane: ControlPlane, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody who may do all that a worker may, but for Events
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "no-events"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "no-events"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "untold"}],
    }  # fmt: skip
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "no-events"},
        "rules": [{"apiGroups": ["remediation.stormfold.io"], "resources": ["*"], "verbs": ["*"]}],
    }  # fmt: skip
    both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
    control_plane.kubectl("apply", "-f", "-", stdin=both)
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig("untold")))
    try:
        with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s"}) as stack:
            # When a storm is written
            stack.post(scene.pods(12))
            stack.wait_settled()
            # Then its object stands, nothing waits, and the log says what is left out
            [rr] = control_plane.items("rr", scene.namespace)
            assert rr["status"]["phase"] == "Active"
            assert told(control_plane, scene.namespace) == []
            wait_until(lambda: any("an Event is left out" in one.log() for one in stack.workers), "a line in the log")
    finally:
        control_plane.kubectl("delete", "-f", "-", stdin=both)
