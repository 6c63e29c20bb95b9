"""The main job, into a cluster: the same alerts make the same objects as in a directory, and kubectl shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.crd import violations
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at

MOMENTS = frozenset({"firstSeen", "lastSeen", "observedAt", "lastTransitionTime", "fence"})
"""What two runs can never have in common."""


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in MOMENTS}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def views(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What objects say, without what differs from run to run; the names' hashes hold the time of the first alert."""
    for one in found:
        assert violations(one) == []
    seen = [
        {
            "namespace": one["metadata"]["namespace"],
            "name": one["metadata"]["name"].rpartition("-")[0],
            "labels": one["metadata"]["labels"],
            "spec": timeless(one["spec"]),
            "status": timeless(one["status"]),
        }
        for one in found
    ]
    return sorted(seen, key=lambda one: json.dumps(one, sort_keys=True))


@pytest.fixture
def stacks(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stack, Stack]]:
    """One that writes to the cluster, with a worker's own rights, and one that writes to a directory."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with (
        Stack(tmp_path / "cluster", {"SINK": "kubernetes", "LEASE": "10s"}) as cluster,
        Stack(tmp_path / "directory") as directory,
    ):
        yield cluster, directory


def resolved(alerts: list[Alert]) -> list[Alert]:
    return [replace(alert, ends_at=at(60)) for alert in alerts]


def test_a_storm_from_its_first_alert_to_its_last(
    stacks: tuple[Stack, Stack], control_plane: ControlPlane, scene: Scene
) -> None:
    # Given a storm of 50 alerts and three that have nothing to do with it
    storm = scene.pods(50)
    others = [scene.pod_alert("db-0", kind) for kind in ("DiskFull", "BackupFailed", "CertificateExpires")]

    def in_cluster() -> list[dict[str, Any]]:
        return list(json.loads(control_plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"])

    def settled() -> bool:
        return all(stack.settled() for stack in stacks)

    phases: list[list[str]] = []
    # When they fire, half of the storm is resolved, then all is
    for alerts in (storm + others, resolved(storm[:25]), resolved(storm[25:]) + resolved(others)):
        for stack in stacks:
            groups: dict[str, list[Alert]] = {}
            for alert in alerts:
                groups.setdefault(alert.labels["alertname"], []).append(alert)
            for group in groups.values():
                stack.post(group)
        wait_until(settled, "everything written", deadline_s=60)
        # Then both say the same at every step
        found = in_cluster()
        assert views(found) == views(stacks[1].all_objects())
        phases.append(sorted(f"{one['spec']['type']} {one['status']['phase']}" for one in found))
    active, over = (["Single " + phase] * 3 + ["Storm " + phase] for phase in ("Active", "Resolved"))
    assert phases == [active, active, over]
    # And an operator sees it
    table = control_plane.kubectl("get", "rr", "-n", scene.namespace, "--no-headers")
    [line] = [line.split() for line in table.splitlines() if line.startswith("storm-")]
    assert line[1:7] == ["Storm", scene.name("PodCrashLooping"), "critical", "0", "25", "Resolved"]
