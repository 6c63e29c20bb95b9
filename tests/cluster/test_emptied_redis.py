"""A Redis that lost its memory, beside a cluster that did not: the same objects go on, with a worker's own rights."""

from __future__ import annotations

import json
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
from tests.support.waiting import wait_until
from tests.support.webhook import at


@pytest.fixture
def stack(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s", "SINGLE_HOLD": "300ms"}) as stack:
        yield stack


def test_the_same_objects_go_on(stack: Stack, control_plane: ControlPlane, scene: Scene) -> None:
    storm, singles = scene.pods(12), scene.pods(2, "Lone")

    def objects() -> dict[str, dict[str, Any]]:
        found = json.loads(control_plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"]
        return {one["metadata"]["name"]: one for one in found}

    def phases() -> list[str]:
        return sorted(one.get("status", {}).get("phase", "") for one in objects().values())

    # Given a storm and two Singles in the cluster
    stack.post([*storm, *singles])
    wait_until(lambda: phases() == ["Active"] * 3, "three open objects", deadline_s=60, describe=phases)
    before = objects()
    # When Redis is emptied and the alerts come again
    stack.redis.flush()
    stack.post([*storm, *singles])
    wait_until(lambda: stack.storm(scene.key()) is not None, "the storm to be known again", deadline_s=60)
    # Then the same objects stand for them, by uid, and no other was made
    stack.post([alert.resolved(at(60)) for alert in [*storm, *singles]])
    wait_until(lambda: phases() == ["Resolved"] * 3, "all of them to be resolved", deadline_s=60, describe=phases)
    assert {name: one["metadata"]["uid"] for name, one in objects().items()} == {
        name: one["metadata"]["uid"] for name, one in before.items()
    }


def test_an_object_deleted_by_hand_comes_back(stack: Stack, control_plane: ControlPlane, scene: Scene) -> None:
    def objects() -> list[dict[str, Any]]:
        return list(json.loads(control_plane.kubectl("get", "rr", "-n", scene.namespace, "-o", "json"))["items"])

    # Given a storm whose object somebody deleted
    stack.post(scene.pods(12))
    wait_until(lambda: [one.get("status", {}).get("phase") for one in objects()] == ["Active"], "the storm's object")
    wait_until(lambda: stack.quiet(scene.key()), "its lease to end")
    [before] = objects()
    control_plane.kubectl("delete", "rr", "-n", scene.namespace, before["metadata"]["name"])
    # When the sink is looked through
    assert reconcile(Services(load(stack.environ))).restored == 1
    # Then there is a new object of that name, which says the same
    wait_until(lambda: [one.get("status", {}).get("phase") for one in objects()] == ["Active"], "the object again")
    [after] = objects()
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
