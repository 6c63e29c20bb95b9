"""What doctor says of a real API server, with a worker's rights and with none."""

from __future__ import annotations

import copy

import pytest

import tasks.sinks.probe
from app.settings import load
from tasks.doctor.sinks import check_sink
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.ports import free_port
from tests.support.waiting import wait_until


def found(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, user: str = WORKER, **settings: str) -> list[str]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(user)))
    environ = {f"STORMFOLD_{name}": value for name, value in ({"SINK": "kubernetes"} | settings).items()}
    return [f"{one.level} {one.about}: {one.text}" for one in check_sink(load(environ), {})]


def test_all_is_well_with_the_rights_that_are_shipped(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the shipped definition, roles and namespace; When a worker's doctor looks, Then nothing is amiss
    # (a server publishes a schema some moments after it has taken a definition)
    well = ["ok kubernetes", "ok custom resource", "ok kubernetes rights", "ok kubernetes writes"]
    lines: list[str] = []

    def look() -> bool:
        # Other tests have installations of their own in this cluster.
        lines[:] = [line for line in found(control_plane, monkeypatch) if "kubernetes objects" not in line]
        return [line.split(":")[0] for line in lines] == well

    wait_until(look, "all to be well", describe=lambda: lines)
    # And the object that was tried is not there
    assert "rr-doctor" not in control_plane.kubectl("get", "rr", "-n", "stormfold-system", "-o", "name")


def test_its_clock_is_read(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a server on this machine; When doctor looks, Then its clock is ours
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    clocks: dict[str, int] = {}
    list(check_sink(load({"STORMFOLD_SINK": "kubernetes"}), clocks))
    assert abs(clocks["the API server"]) < 5_000


def test_every_right_that_is_missing_is_named(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given somebody without rights; When his doctor looks, Then each is named, and that of deleting is not vital
    rights = [line for line in found(control_plane, monkeypatch, "nobody") if "rights" in line]
    assert rights == [
        *(f"fail kubernetes rights: may not {verb} remediationrequests in all namespaces"
          for verb in ("list", "get", "create", "patch")),
        "fail kubernetes rights: may not patch remediationrequests/status in all namespaces",
        "warn kubernetes rights: may not delete remediationrequests in all namespaces: closed objects pile up",
        "warn kubernetes rights: may not create events in all namespaces: kubectl describe shows none",
    ]  # fmt: skip
    # And none is needed for deleting where nothing is to be deleted
    kept = [line for line in found(control_plane, monkeypatch, "nobody", RETENTION="0") if "delete" in line]
    assert kept == []


def test_rights_in_one_namespace_are_enough_for_one(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the worker's rights in one namespace alone
    control_plane.kubectl(
        "create", "rolebinding", "one", "-n", namespace, "--clusterrole=stormfold-worker", "--user=nobody"
    )
    # When everything is to be written there, Then doctor is content
    assert all(line.startswith("ok ") for line in found(control_plane, monkeypatch, "nobody", NAMESPACE=namespace))


def test_an_absent_fallback_namespace_is_told(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a fallback namespace that is not there; When doctor looks, Then it says so
    last = found(control_plane, monkeypatch, FALLBACK_NAMESPACE="nowhere")[-2]
    assert last.startswith("fail kubernetes writes: ")
    assert 'namespaces "nowhere" not found' in last


def test_a_definition_that_is_absent_or_older_is_told(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a version of ours that has two more fields than what is installed, and then one of another kind
    newer = copy.deepcopy(tasks.sinks.probe.packaged_schema())
    newer["properties"]["spec"]["properties"]["novelty"] = {"type": "string"}
    newer["properties"]["status"]["properties"]["novelty"] = {"type": "string"}
    monkeypatch.setattr(tasks.sinks.probe, "packaged_schema", lambda: newer)
    older = [line for line in found(control_plane, monkeypatch) if "custom resource" in line]
    monkeypatch.setattr(tasks.sinks.probe, "API_VERSION", "remediation.stormfold.io/v9")
    absent = found(control_plane, monkeypatch)
    # Then either is told, and no write is tried
    assert older == ["fail custom resource: the installed one is older: it lacks spec.novelty, status.novelty"]
    assert "fail custom resource: RemediationRequest is not installed; alerts are kept until it is" in absent
    assert not any("writes" in line for line in absent)


def test_a_server_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane) -> None:
    # Given a kubeconfig that leads nowhere; When doctor looks, Then that is the one thing it says
    text = control_plane.kubeconfig(WORKER).read_text().replace(control_plane.url, f"https://127.0.0.1:{free_port()}")
    away = control_plane.kubeconfig(WORKER).with_name("kubeconfig-away")
    away.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(away))
    [line] = check_sink(load({"STORMFOLD_SINK": "kubernetes"}), {})
    assert (line.level, line.about) == ("fail", "kubernetes")
