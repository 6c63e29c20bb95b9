"""Other people's hands on our objects: their fields stay, ours are taken back, and the object says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.manifests import Manifest, single_manifest, storm_manifest
from tasks.sinks import Deadline, ObjectGone, ObjectRef
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import SINGLE_NAME, STORM_NAME, T0, single, storm
from tests.support.crd import violations


class Somebody:
    """With kubectl and all rights."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace

    def patch(self, change: Manifest, name: str = STORM_NAME, *, manager: str = "a-person") -> None:
        where = ["--subresource=status"] if "status" in change else []
        self._plane.kubectl(
            "patch", "rr", name, "--type=merge", f"--patch={json.dumps(change)}", f"--field-manager={manager}",
            f"--namespace={self._namespace}", *where,
        )  # fmt: skip

    def read(self, name: str = STORM_NAME) -> Manifest:
        text = self._plane.kubectl("get", "rr", name, f"--namespace={self._namespace}", "-o", "json")
        manifest: Manifest = json.loads(text)
        assert violations(manifest) == []
        return manifest

    def said(self, name: str = STORM_NAME) -> list[tuple[str, str, str]]:
        """What the object says of edits."""
        conditions = self.read(name)["status"]["conditions"]
        return [(one["status"], one["reason"], one["message"]) for one in conditions if one["type"] == "Edited"]


@pytest.fixture
def somebody(control_plane: ControlPlane, namespace: str) -> Somebody:
    return Somebody(control_plane, namespace)


@pytest.fixture
def ref(sink: KubernetesSink, namespace: str, deadline: Deadline) -> ObjectRef:
    """A storm that was written."""
    return sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"spec": {"signal": {"severity": "none"}}}, "a-person changed spec"),
        ({"status": {"phase": "Resolved", "fence": 1}}, "a-person changed status.fence, status.phase"),
        ({"metadata": {"annotations": {"remediation.stormfold.io/fence": "9" * 24}}},
         "a-person changed metadata.annotations.remediation.stormfold.io/fence"),
        ({"metadata": {"labels": {"remediation.stormfold.io/type": "Single"}}},
         "a-person changed metadata.labels.remediation.stormfold.io/type"),
        ({"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
         "somebody changed metadata.labels.app.kubernetes.io/managed-by"),
        ({"metadata": {"annotations": {"remediation.stormfold.io/fence": None}}},
         "somebody changed metadata.annotations"),
    ],
    ids=["spec", "status", "fence", "label", "label-removed", "fence-removed"],
)  # fmt: skip
def test_an_edit_is_taken_back_with_the_next_change_and_said(
    sink: KubernetesSink, namespace: str, deadline: Deadline, somebody: Somebody, ref: ObjectRef,
    change: dict[str, Any], what: str,
) -> None:  # fmt: skip
    # Given a storm with a field of ours that somebody edited
    somebody.patch(change)
    wanted = storm_manifest(storm(namespace=namespace, fence=4, alert_count=11, observed_at_ms=T0 + 60_000))
    # When the storm changes
    second = sink.put(wanted, ref, deadline)
    # Then the object says what we say, and that somebody said something else
    found = somebody.read()
    assert found["spec"] == wanted["spec"]
    assert found["metadata"]["labels"] == wanted["metadata"]["labels"] | {"app.kubernetes.io/instance": "stormfold"}
    assert found["metadata"]["annotations"] == wanted["metadata"]["annotations"]
    conditions = found["status"].pop("conditions")
    assert found["status"] == {key: value for key, value in wanted["status"].items() if key != "conditions"}
    assert [one["type"] for one in conditions] == ["Active", "Resolved", "Edited"]
    assert somebody.said() == [("True", "TakenBack", f"{what}: taken back")]
    # And a change after that leaves the notice for whoever has not seen it
    sink.put(storm_manifest(storm(namespace=namespace, fence=5, alert_count=10)), second, deadline)
    assert somebody.said() == [("True", "TakenBack", f"{what}: taken back")]
    assert somebody.read()["status"]["conditions"][2] == conditions[2]


def test_what_others_own_stays_and_is_no_edit(
    sink: KubernetesSink, namespace: str, deadline: Deadline, somebody: Somebody, ref: ObjectRef
) -> None:
    # Given a consumer's finalizer, label, annotation, status field and condition
    approved = {
        "type": "Approved", "status": "True", "reason": "ByHand", "message": "go",
        "lastTransitionTime": "2025-01-02T03:04:05Z",
    }  # fmt: skip
    somebody.patch({
        "metadata": {
            "finalizers": ["example.com/runs"], "labels": {"team": "shop"}, "annotations": {"example.com/run": "7"},
        }
    })  # fmt: skip
    conditions = somebody.read()["status"]["conditions"]
    somebody.patch({"status": {"remediation": {"run": 7}, "conditions": [*conditions, approved]}})
    # When the storm changes
    sink.put(storm_manifest(storm(namespace=namespace, fence=4, alert_count=11)), ref, deadline)
    # Then all of that stands, and nothing is said of it
    found = somebody.read()
    metadata = found["metadata"]
    assert (metadata["finalizers"], metadata["labels"]["team"]) == (["example.com/runs"], "shop")
    assert metadata["annotations"]["example.com/run"] == "7"
    assert found["status"]["remediation"] == {"run": 7}
    assert approved in found["status"]["conditions"]
    assert somebody.said() == []
    somebody.patch({"metadata": {"finalizers": None}})


def test_a_single_cannot_be_edited(
    sink: KubernetesSink, namespace: str, deadline: Deadline, somebody: Somebody
) -> None:
    # Given a Single; When somebody edits what it is about, Then the server refuses
    ref = sink.put(single_manifest(single(namespace=namespace)), None, deadline)
    before = somebody.read(SINGLE_NAME)
    with pytest.raises(AssertionError, match="what a Single is about never changes"):
        somebody.patch({"spec": {"signal": {"severity": "none"}}}, SINGLE_NAME)
    assert somebody.read(SINGLE_NAME)["spec"] == before["spec"]
    # And when he edits its labels, Then the next status takes them back and says so, and the spec is as it was
    gone = {"remediation.stormfold.io/type": "Storm", "app.kubernetes.io/managed-by": None}
    somebody.patch({"metadata": {"labels": gone}}, SINGLE_NAME)
    ref = sink.put_status(single_manifest(single(namespace=namespace, fence=9, phase="Resolved")), ref, deadline)
    after = somebody.read(SINGLE_NAME)
    assert (after["metadata"]["labels"], after["spec"]) == (before["metadata"]["labels"], before["spec"])
    assert after["status"]["phase"] == "Resolved"
    [(_, reason, said)] = somebody.said(SINGLE_NAME)
    assert (reason, said[-10:]) == ("TakenBack", "taken back")
    assert "a-person changed metadata.labels.remediation.stormfold.io/type" in said
    # And a status after that finds nothing to take back, and leaves the spec alone as well
    sink.put_status(single_manifest(single(namespace=namespace, fence=10)), ref, deadline)
    assert somebody.read(SINGLE_NAME)["spec"] == before["spec"]
    assert somebody.said(SINGLE_NAME) == [("True", "TakenBack", said)]


def test_an_object_that_waits_for_a_finalizer_goes_on_until_it_is_gone(
    control_plane: ControlPlane, sink: KubernetesSink, namespace: str, deadline: Deadline, somebody: Somebody,
    ref: ObjectRef,
) -> None:  # fmt: skip
    # Given an object that was deleted, and that a consumer's finalizer holds
    somebody.patch({"metadata": {"finalizers": ["example.com/runs"]}})
    control_plane.kubectl("delete", "rr", STORM_NAME, f"--namespace={namespace}", "--wait=false")
    # When the storm changes, Then it is still told
    second = sink.put(storm_manifest(storm(namespace=namespace, fence=4, alert_count=11)), ref, deadline)
    assert somebody.read()["spec"]["stormAggregation"]["alertCount"] == 11
    # And once the consumer lets go of it, it is gone for us as well
    somebody.patch({"metadata": {"finalizers": None}})
    with pytest.raises(ObjectGone):
        sink.put(storm_manifest(storm(namespace=namespace, fence=5, alert_count=10)), second, deadline)


def test_another_installation_that_writes_the_same_object_is_named(
    control_plane: ControlPlane, sink: KubernetesSink, namespace: str, deadline: Deadline, somebody: Somebody,
    ref: ObjectRef, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # Given an object that two installations believe to be theirs; When the one writes it after the other did
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    other = KubernetesSink(connect(), namespace, 5.0, field_manager="stormfold-blue")
    other.put(storm_manifest(storm(namespace=namespace, fence=4, alert_count=11)), ref, deadline)
    other.close()
    sink.put(storm_manifest(storm(namespace=namespace, fence=5, alert_count=10)), ref, deadline)
    # Then the object names the other one
    [(_, reason, message)] = somebody.said()
    assert reason == "TakenBack"
    assert message.startswith("stormfold-blue changed spec, metadata.labels.app.kubernetes.io/instance")
