"""The contract with consumers, held by the example that is shipped and by kubectl."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.manifests import storm_manifest
from tasks.sinks import Deadline
from tasks.sinks.kubernetes import KubernetesSink
from tests.cluster.control_plane import ControlPlane
from tests.support.contents import RESOURCES, STORM_NAME, T0, storm
from tests.support.processes import Process
from tests.support.waiting import wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / "docker" / "kubernetes" / "consumer.py"


@pytest.fixture
def consumers(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[list[Process]]:
    """Two of them, with the rights that are shipped for consumers, in one namespace."""
    control_plane.kubectl(
        "create", "rolebinding", "consumer", "-n", namespace, "--clusterrole=stormfold-consumer", "--user=nobody"
    )
    environ = {"KUBECONFIG": str(control_plane.kubeconfig("nobody"))}
    started = [
        Process(name, [sys.executable, str(EXAMPLE), name, namespace], environ=environ, folder=tmp_path).start()
        for name in ("restarter", "scaler")
    ]
    yield started
    for process in started:
        process.kill()


def read(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", "rr", STORM_NAME, "-n", namespace, "-o", "json"))
    return found


def remediated(rr: dict[str, Any]) -> int:
    """The generation that a consumer says it acted on."""
    return sum(one["observedGeneration"] for one in rr["status"]["conditions"] if one["type"] == "Remediated")


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_one_consumer_acts_whenever_the_scope_changes(
    control_plane: ControlPlane, namespace: str, sink: KubernetesSink, deadline: Deadline, consumers: list[Process]
) -> None:
    def log() -> list[str]:
        assert all(process.running for process in consumers), [process.log() for process in consumers]
        return [line for process in consumers for line in process.log().splitlines()]

    # Given a storm of one resource
    first = storm(namespace=namespace, resources=RESOURCES[:1])
    ref = sink.put(storm_manifest(first), None, deadline)
    wait_until(lambda: remediated(read(control_plane, namespace)) == 1, "the first remediation", describe=log)
    # When it is observed anew without a change, and then grows
    again = storm(namespace=namespace, resources=RESOURCES[:1], fence=4, observed_at_ms=T0 + 9000)
    ref = sink.put(storm_manifest(again), ref, deadline)
    ref = sink.put(storm_manifest(storm(namespace=namespace, fence=5)), ref, deadline)
    wait_until(lambda: remediated(read(control_plane, namespace)) == 2, "the second remediation", describe=log)
    # Then one of the two acted, once for each scope, and its claim and ours stand beside one another
    rr = read(control_plane, namespace)
    pods = [f"{one.kind}/{one.name}" for one in RESOURCES]
    assert log() == [f"KubePodCrashLooping {pods[0]}", f"KubePodCrashLooping {' '.join(pods)}"]
    assert rr["status"]["claim"]["by"] in ("restarter", "scaler")
    assert [one["type"] for one in rr["status"]["conditions"]] == ["Active", "Resolved", "Remediated"]
    # And what is over is left alone, though its scope changes once more
    ref = sink.put_status(storm_manifest(storm(namespace=namespace, fence=6, phase="Resolved")), ref, deadline)
    over = storm(namespace=namespace, fence=7, phase="Resolved", alert_count=0, resources=RESOURCES[:1])
    sink.put(storm_manifest(over), ref, deadline)
    after = read(control_plane, namespace)
    assert (after["metadata"]["generation"], remediated(after), after["status"]["claim"]) == (
        3, 2, rr["status"]["claim"],
    )  # fmt: skip


def test_kubectl_waits_for_the_end_and_describes(
    control_plane: ControlPlane, namespace: str, sink: KubernetesSink, deadline: Deadline
) -> None:
    # Given a storm
    ref = sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    control_plane.kubectl("wait", "rr", STORM_NAME, "-n", namespace, "--for=condition=Active", "--timeout=20s")
    # When it resolves; Then whoever waits for that is told
    sink.put(storm_manifest(storm(namespace=namespace, fence=4, phase="Resolved", alert_count=0)), ref, deadline)
    told = control_plane.kubectl("wait", "rr", STORM_NAME, "-n", namespace, "--for=condition=Resolved", "--timeout=20s")
    assert told.strip().endswith("condition met")
    # And kubectl describe reads like a report
    report = control_plane.kubectl("describe", "rr", STORM_NAME, "-n", namespace)
    lines = {" ".join(line.split()) for line in report.splitlines()}
    assert {
        "Kind: RemediationRequest", "Alert Count: 0", "Total Alerts: 12", "Reason: AllResolved", "Phase: Resolved",
        "Message: all alerts are resolved", "Name: cart-0",
    } <= lines  # fmt: skip
