"""Workers before the definition: alerts are kept, everybody is told, and the objects appear when it is installed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import ROOT, WORKER, ControlPlane
from tests.cluster.servers import Servers
from tests.support.crd import violations
from tests.support.scene import new_scene
from tests.support.stack import STORMFOLD, Stack
from tests.support.waiting import wait_until

MANIFESTS = ROOT / "docker" / "kubernetes"


@pytest.fixture
def plane(own_plane: Servers) -> ControlPlane:
    """A server with our namespace and rights, and without our definition."""
    plane = own_plane.start(install=False)
    plane.kubectl("apply", "-f", str(MANIFESTS / "namespace.yaml"), "-f", str(MANIFESTS / "rbac.yaml"))
    return plane


@pytest.fixture
def stack(plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(WORKER)))
    with Stack(tmp_path / "stack", {"SINK": "kubernetes", "LEASE": "10s"}) as stack:
        yield stack


def doctor(stack: Stack) -> tuple[int, set[tuple[str, str]]]:
    """Its exit status, and what it says of Kubernetes: (level, about)."""
    done = subprocess.run(
        [STORMFOLD, "doctor", "--json"],
        env=stack.environ, cwd=stack.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = {(line["level"], line["about"]) for line in map(json.loads, done.stdout.splitlines())}
    return done.returncode, {one for one in found if one[1] in ("kubernetes", "kubernetes writes", "custom resource")}


def missing(stack: Stack) -> list[str]:
    """What the metric says."""
    lines = stack.get("/metrics").body.decode().splitlines()
    return [line.split()[1] for line in lines if line.startswith("stormfold_kube_definition_missing ")]


def test_nothing_is_lost_before_the_definition_is_installed(plane: ControlPlane, stack: Stack) -> None:
    # Given a cluster that does not know our kind
    scene = new_scene("later")
    plane.kubectl("create", "namespace", scene.namespace)
    storm, others = scene.pods(30), scene.pods(2, "Lone")
    # When a storm and two alerts beside it come in
    stack.post(storm)
    stack.post(others)
    # Then they are accepted, the web side is ready for more, and operators are told in all places
    wait_until(lambda: missing(stack) == ["1.0"], "the metric to say so", describe=lambda: missing(stack))
    assert stack.get("/readyz").status == 200
    assert doctor(stack) == (1, {("ok", "kubernetes"), ("fail", "custom resource")})
    said = "is the definition in docker/kubernetes/crd.yaml installed?"
    wait_until(lambda: any(said in worker.log() for worker in stack.workers), "a worker's log to say so")
    # And when the definition is installed, the objects appear by themselves, whole
    plane.kubectl("apply", "-f", str(MANIFESTS / "crd.yaml"))

    def objects() -> list[dict[str, Any]]:
        return plane.items("remediationrequests.remediation.stormfold.io", scene.namespace)

    def phases() -> list[str]:
        return sorted(f"{one['spec']['type']} {one.get('status', {}).get('phase')}" for one in objects())

    expected = ["Single Active", "Single Active", "Storm Active"]
    wait_until(lambda: phases() == expected, "the objects", deadline_s=90, poll_s=0.3, describe=phases)
    found = objects()
    assert [violations(one) for one in found] == [[]] * 3
    [whole] = [one["spec"]["stormAggregation"] for one in found if one["spec"]["type"] == "Storm"]
    assert (whole["alertCount"], whole["totalAlerts"], len(whole["affectedResources"])) == (30, 30, 30)
    assert {one["spec"]["targetResource"]["name"] for one in found if one["spec"]["type"] == "Single"} == {
        alert.labels["pod"] for alert in others
    }
    # And nothing is lost: the members are the alerts that were posted
    item = stack.storm(scene.key())
    assert item is not None
    members = stack.pages(f"storms/{item['id']}/members")
    assert sorted(one["resource"]["name"] for one in members) == sorted(alert.labels["pod"] for alert in storm)
    # And everybody is content
    wait_until(lambda: missing(stack) == ["0.0"], "the metric to say so", describe=lambda: missing(stack))
    well = {("ok", "kubernetes"), ("ok", "kubernetes writes"), ("ok", "custom resource")}
    wait_until(lambda: doctor(stack)[1] == well, "doctor to see it", describe=lambda: doctor(stack))
    wait_until(lambda: doctor(stack)[0] == 0, "doctor to be content", describe=lambda: doctor(stack))
