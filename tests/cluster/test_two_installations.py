"""Two stormfolds in one cluster, with alerts that reach both: each keeps to its own objects, and both say so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import load
from tasks.doctor.sinks import check_sink
from tasks.reconcile import Reconciled
from tasks.services import Services
from tasks.work import reconcile
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at

NAMES = ("stormfold-blue", "stormfold-green")


@pytest.fixture
def stacks(
    control_plane: ControlPlane, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Stack]]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    more = {"SINK": "kubernetes", "LEASE": "10s", "RETENTION": "1ms", "NAMESPACE": scene.namespace}
    blue, green = (Stack(tmp_path / name, more | {"FIELD_MANAGER": name}, workers=1) for name in NAMES)
    with blue, green:
        yield [blue, green]


def look(stack: Stack) -> Reconciled:
    return reconcile(Services(load(stack.environ)))


def test_they_do_not_fight(stacks: list[Stack], control_plane: ControlPlane, scene: Scene) -> None:
    def objects() -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
        for one in control_plane.items("rr", scene.namespace):
            found[one["metadata"]["labels"]["app.kubernetes.io/instance"]].append(one)
        return found

    # Given a storm and a Single that both installations hear of
    for stack in stacks:
        stack.post([*scene.pods(12), scene.pod_alert("db-0", "DiskFull")])
        stack.wait_settled()
    before = objects()
    assert {name: len(found) for name, found in before.items()} == dict.fromkeys(NAMES, 2)
    # When each looks through the cluster
    done = [look(stack) for stack in stacks]
    for stack in stacks:
        stack.wait_settled()
    # Then it leaves the other's objects as they are, to the version
    assert objects() == before
    assert {(one.known, one.orphans, one.doubles, one.foreign, one.rivals) for one in done} == {(2, 0, 0, 2, 2)}
    # And says that both write of the same: in a metric, and through doctor
    for stack, other in zip(stacks, reversed(NAMES), strict=True):
        assert "stormfold_rival_objects 2.0" in stack.get("/metrics").body.decode()
        [said] = [one for one in check_sink(load(stack.environ), {}) if one.about == "kubernetes objects"]
        assert (said.level, said.text) == ("warn", f"other installations have open ones here: {other} keeps 2")
    # When both are over, and one deletes what has expired, Then the other's stay
    for stack in stacks:
        stack.post([alert.resolved(at(60)) for alert in [*scene.pods(12), scene.pod_alert("db-0", "DiskFull")]])
        stack.wait_settled()
    closed = objects()
    stacks[0].redis.flush()  # its histories are closed: nothing is held any more

    def deleted() -> bool:
        look(stacks[0])  # or its worker, who was emptied as well
        return not objects()[NAMES[0]]

    wait_until(deleted, "what has expired to be deleted", deadline_s=30)
    assert objects() == {NAMES[0]: [], NAMES[1]: closed[NAMES[1]]}


def test_an_installation_that_is_renamed_keeps_its_open_objects(
    control_plane: ControlPlane, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an installation with an open storm
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s"}, workers=1) as stack:
        stack.post(scene.pods(12))
        stack.wait_settled()
        [before] = control_plane.items("rr", scene.namespace)
        # When its workers go on under another name, look through the cluster, and the storm grows
        stack.workers[0].kill()
        stack.workers.clear()
        stack.environ["STORMFOLD_FIELD_MANAGER"] = "stormfold-blue"
        stack.start_worker()
        assert (look(stack).known, look(stack).rivals) == (1, 0)
        stack.post(scene.pods(15))
        stack.wait_settled()
        # Then the same object goes on under the new name
        [after] = control_plane.items("rr", scene.namespace)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["metadata"]["labels"]["app.kubernetes.io/instance"] == "stormfold-blue"
        assert after["spec"]["stormAggregation"]["alertCount"] == 15
