"""What an API server says when it will not, and what the sink makes of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

import tasks.sinks.resource
from tasks.manifests import ORIGIN_NAMESPACE_LABEL, storm_manifest
from tasks.sinks import Deadline, SinkError, SinkRefused, SinkThrottled
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import STORM_NAME, storm
from tests.support.waiting import wait_until

HELD = '{"metadata": {"finalizers": ["example.com/hold"]}}'


def open_sink(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, user: str, fallback: str) -> KubernetesSink:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(user)))
    return KubernetesSink(connect(), fallback, 5.0)


def found(plane: ControlPlane, namespace: str) -> list[dict[str, object]]:
    listed = json.loads(plane.kubectl("get", "rr", f"--namespace={namespace}", "-o", "json"))
    return list(listed["items"])


def test_an_absent_namespace_has_a_substitute(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given alerts about a namespace that this cluster lacks, and a fallback
    sink = open_sink(control_plane, monkeypatch, WORKER, namespace)
    # When the storm is created, again after a lost answer, updated, and updated once its new place is pinned
    first = sink.put(storm_manifest(storm(namespace="elsewhere")), None, deadline)
    again = sink.put(storm_manifest(storm(namespace="elsewhere")), None, deadline)
    second = sink.put(storm_manifest(storm(namespace="elsewhere", fence=4, alert_count=11)), first, deadline)
    third = sink.put(storm_manifest(storm(namespace=namespace, fence=5, alert_count=10)), second, deadline)
    sink.put_status(storm_manifest(storm(namespace=namespace, fence=6, flaps=2)), third, deadline)
    sink.close()
    # Then one object stands in the fallback, labelled with where it belongs, and the references say so
    assert {ref.namespace for ref in (first, again, second, third)} == {namespace}
    assert again == first
    [stored] = json.loads(control_plane.kubectl("get", "rr", "-n", namespace, "-o", "json"))["items"]
    assert stored["metadata"]["labels"][ORIGIN_NAMESPACE_LABEL] == "elsewhere"
    assert stored["spec"]["stormAggregation"]["alertCount"] == 10
    assert (stored["status"]["fence"], stored["status"]["flaps"]) == (6, 2)


def test_a_namespace_that_is_going_has_a_substitute(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a namespace that is being deleted, which somebody's finalizer holds up
    going = f"{namespace}-going"
    control_plane.kubectl("create", "namespace", going)
    control_plane.kubectl("create", "configmap", "last", "-n", going)
    control_plane.kubectl("patch", "configmap", "last", "-n", going, "-p", HELD)
    control_plane.kubectl("delete", "namespace", going, "--wait=false")
    sink = open_sink(control_plane, monkeypatch, WORKER, namespace)
    # When a storm of it is created
    ref = sink.put(storm_manifest(storm(namespace=going)), None, deadline)
    sink.close()
    control_plane.kubectl("patch", "configmap", "last", "-n", going, "-p", HELD.replace('["example.com/hold"]', "null"))
    # Then it stands in the fallback
    assert ref.namespace == namespace
    assert len(found(control_plane, namespace)) == 1


def test_without_a_fallback_the_operator_is_told(
    control_plane: ControlPlane, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given neither the namespace nor the fallback; When a storm is created, Then that is said
    sink = open_sink(control_plane, monkeypatch, WORKER, "nowhere")
    with pytest.raises(SinkRefused, match='namespaces "nowhere" not found'):
        sink.put(storm_manifest(storm(namespace="elsewhere")), None, deadline)
    sink.close()


def test_missing_rights_are_refused(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody without rights; When they create, Then the refusal says who may not do what
    sink = open_sink(control_plane, monkeypatch, "nobody", namespace)
    with pytest.raises(SinkRefused, match=r'User "nobody" cannot create resource "remediationrequests"'):
        sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    sink.close()


def test_a_missing_definition_is_refused_and_nothing_is_gone(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a storm, and a server that does not know our kind (any more)
    sink = open_sink(control_plane, monkeypatch, "admin", namespace)
    ref = sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    monkeypatch.setattr(tasks.sinks.resource, "PLURAL", "unheardofs")
    # When it is written
    # Then it is refused, and by no means taken for a deleted object that one could forget
    for write in (
        lambda: sink.put(storm_manifest(storm(namespace=namespace)), None, deadline),
        lambda: sink.put(storm_manifest(storm(namespace=namespace, fence=4)), ref, deadline),
        lambda: sink.put_status(storm_manifest(storm(namespace=namespace, fence=4)), ref, deadline),
    ):
        with pytest.raises(SinkRefused, match=r"404 .*crd\.yaml installed\?"):
            write()
    sink.close()


def test_a_field_that_the_schema_lacks_is_permanent(sink: KubernetesSink, namespace: str, deadline: Deadline) -> None:
    # Given a storm, and a version of ours that writes a field which the installed schema lacks
    ref = sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    manifest = storm_manifest(storm(namespace=namespace, fence=4))
    manifest["spec"]["novelty"] = "x"
    # When it updates, Then the server's 500 is no reason to try again soon
    with pytest.raises(SinkRefused, match="field not declared in schema"):
        sink.put(manifest, ref, deadline)


@pytest.mark.parametrize("megabytes", [1.7, 2.5, 4], ids="{}MB".format)
def test_too_large_an_object_is_permanent(
    sink: KubernetesSink, namespace: str, deadline: Deadline, megabytes: float
) -> None:
    # Given an object beyond what etcd takes (it says so in three ways)
    manifest = storm_manifest(storm(namespace=namespace))
    manifest["spec"]["signal"]["annotations"] = {f"a{n}": "x" * 8000 for n in range(int(megabytes * 125))}
    # When it is created, Then trying again soon is pointless
    with pytest.raises(SinkRefused):
        sink.put(manifest, None, deadline)


@pytest.fixture
def throttling(control_plane: ControlPlane) -> Iterator[None]:
    """Priority and fairness with hardly a seat for the worker."""
    level = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "narrow"},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }},
    }  # fmt: skip
    schema = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "narrow"},
        "spec": {
            "matchingPrecedence": 10, "priorityLevelConfiguration": {"name": "narrow"},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "throttled"}}],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"],
                }],
            }],
        },
    }  # fmt: skip
    rights = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "narrow"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "stormfold-worker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "throttled"}],
    }  # fmt: skip
    all_three = "\n---\n".join(json.dumps(one) for one in (level, schema, rights))
    control_plane.kubectl("apply", "-f", "-", stdin=all_three)
    yield
    control_plane.kubectl("delete", "-f", "-", stdin=all_three)


@pytest.mark.usefixtures("throttling")
def test_throttling_says_how_long(control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a server that gives the worker hardly a seat
    sink = open_sink(control_plane, monkeypatch, "throttled", namespace)
    raised: list[SinkError] = []

    def write(number: int) -> None:
        name = f"{STORM_NAME}-{number}"
        try:
            sink.put(storm_manifest(storm(namespace=namespace, name=name)), None, Deadline(30))
        except SinkError as error:
            raised.append(error)

    # When 32 at a time create, until one is turned away
    def some_turned_away() -> bool:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return any(isinstance(one, SinkThrottled) for one in raised)

    wait_until(some_turned_away, "a 429", deadline_s=30)
    sink.close()
    # Then it is told to wait for as long as the server said: a second, or more of them the more it turns away
    waits = {one.retry_after_s for one in raised if isinstance(one, SinkThrottled)}
    assert waits <= {float(seconds) for seconds in range(1, 33)}
