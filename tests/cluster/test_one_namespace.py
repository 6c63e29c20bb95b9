"""A worker with rights in one namespace only: storms from anywhere go there, and nothing else is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import load
from tasks.doctor.sinks import check_sink
from tasks.services import Services
from tasks.work import reconcile
from tests.cluster.control_plane import ROOT, ControlPlane
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at

SHIPPED = ROOT / "docker" / "kubernetes"


def rules(path: Path, kind: str) -> list[dict[str, Any]]:
    documents = list(yaml.safe_load_all(path.read_text()))
    [found] = [one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, "stormfold-worker")]
    return list(found["rules"])


def test_the_rights_are_those_of_the_whole_cluster() -> None:
    # Given both ways to give rights; When they are compared, Then they differ in where, not in what
    assert rules(SHIPPED / "one-namespace.yaml", "Role") == rules(SHIPPED / "rbac.yaml", "ClusterRole")


def test_all_that_a_worker_does_stays_in_there(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody with the rights that are shipped for one namespace
    role, binding = yaml.safe_load_all((SHIPPED / "one-namespace.yaml").read_text())
    binding["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "confined"}]
    both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=both)
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig("confined")))
    settings = {
        "SINK": "kubernetes", "LEASE": "10s", "NAMESPACE": namespace, "FALLBACK_NAMESPACE": namespace,
        "RETENTION": "1ms", "REOPEN_WINDOW": "1ms", "FIELD_MANAGER": "stormfold-confined",
    }  # fmt: skip
    with Stack(tmp_path, settings) as stack:
        one, other = new_scene("here"), new_scene("there")
        # When storms of two namespaces begin and end
        stack.post([*one.pods(12), *other.pods(12)])
        stack.wait_settled()
        found = control_plane.items("rr", namespace)
        assert [rr["status"]["phase"] for rr in found] == ["Active", "Active"]
        assert sorted(rr["spec"]["stormKey"]["namespace"] for rr in found) == sorted([one.namespace, other.namespace])
        assert len(control_plane.items("events.v1.events.k8s.io", namespace)) == 2
        # Then doctor misses nothing
        said = list(check_sink(load(stack.environ), {}))
        assert {line.level for line in said} == {"ok"}, said
        # And what has expired is deleted
        stack.post([alert.resolved(at(60)) for alert in [*one.pods(12), *other.pods(12)]])
        services = Services(load(stack.environ))

        def all_gone() -> bool:
            reconcile(services)
            return not control_plane.items("rr", namespace)

        wait_until(all_gone, "closed objects to be deleted", deadline_s=30)
