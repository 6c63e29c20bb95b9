"""A cluster that lacks our definition: all workers wait together, one tries now and then, and all goes on after it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ROOT, WORKER
from tests.cluster.servers import Servers
from tests.support.metrics import metric
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until

CRD = "remediationrequests.remediation.stormfold.io"
ABSENT_S = 15


@pytest.fixture
def stack(own_plane: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(own_plane.start().kubeconfig(WORKER)))
    with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s"}) as stack:
        yield stack


@pytest.mark.slow
def test_all_goes_on_soon_after_it_is_installed(stack: Stack, own_plane: Servers) -> None:
    # Given a cluster that our definition was taken from, and storms that open
    plane, scene = own_plane.plane, new_scene("absent")
    plane.kubectl("create", "namespace", scene.namespace)
    plane.kubectl("delete", "crd", CRD)
    since = time.monotonic()
    kinds = [f"Kind{number:02d}" for number in range(20)]
    stack.post([alert for kind in kinds for alert in scene.pods(12, kind)])
    wait_until(lambda: metric(stack, "stormfold_kube_definition_missing") == 1, "that to be known")
    # When it stays away for a while
    wait_until(lambda: time.monotonic() - since > ABSENT_S, "the time to install it")
    # Then somebody asked for it every two seconds, and not each storm for itself
    asked = metric(stack, "stormfold_kube_refused_total")
    assert 3 <= asked <= ABSENT_S / 2 + 6
    assert metric(stack, "stormfold_kube_waiting") > 0
    # When it is installed
    plane.kubectl("apply", "-f", str(ROOT / "docker" / "kubernetes" / "crd.yaml"))
    installed = time.monotonic()

    def phases() -> list[str]:
        found = json.loads(plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"]
        return [one.get("status", {}).get("phase", "") for one in found]

    # Then all are written some seconds later
    wait_until(lambda: phases() == ["Active"] * len(kinds), "all storms", deadline_s=14, poll_s=0.2, describe=phases)
    print(f"{asked:g} requests in {ABSENT_S} s; {len(kinds)} storms {time.monotonic() - installed:.1f} s after it came")
    wait_until(stack.settled, "nothing due")
    assert metric(stack, "stormfold_kube_definition_missing") == 0
