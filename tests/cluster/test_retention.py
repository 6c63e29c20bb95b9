"""Closed objects go from a cluster after the retention, with exactly a worker's rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lua_scripts.budget import Budget
from lua_scripts.orphans import Orphans
from tasks.manifests import GROUP, single_manifest, storm_manifest
from tasks.reconcile import Reconciler
from tasks.sinks.base import Deadline
from tasks.sinks.gate import BudgetGate
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import STORM_NAME, single, storm
from tests.support.redis_server import RedisServer

HOUR = 3_600_000


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.stop()


def test_what_expired_goes_but_for_what_others_hold(
    control_plane: ControlPlane,
    namespace: str,
    deadline: Deadline,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given objects of long ago in every phase, one with a consumer's finalizer, one of now, and somebody else's
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    gate = BudgetGate(Budget(redis_server.client, 20))
    sink = KubernetesSink(connect(), "stormfold-system", 5.0, namespace, gate)
    orphans = Orphans(redis_server.client)
    for number, phase in enumerate(("Active", "Resolved", "Stale")):
        sink.put(storm_manifest(storm(namespace=namespace, name=f"storm-{number}", phase=phase)), None, deadline)
    over = {"namespace": namespace, "phase": "Superseded", "superseded_by": STORM_NAME}
    sink.put(single_manifest(single(name="rr-0", **over)), None, deadline)
    sink.put(single_manifest(single(name="rr-held", **over)), None, deadline)
    control_plane.kubectl(
        "patch",
        "rr",
        "rr-held",
        "-n",
        namespace,
        "--type=merge",
        '-p={"metadata":{"finalizers":["example.org/report"]}}',
    )
    sink.put(single_manifest(single(name="rr-now", **(over | {"observed_at_ms": orphans.now_ms()}))), None, deadline)
    sink.put(single_manifest(single(name="rr-theirs", **over)), None, deadline)
    control_plane.kubectl(
        "label", "rr", "rr-theirs", "-n", namespace, "--overwrite", "app.kubernetes.io/managed-by=them"
    )
    # When a look takes place, and another one
    expired = [Reconciler(orphans, sink, grace_ms=HOUR, retention_ms=HOUR).run().expired for _ in range(2)]
    sink.close()
    # Then what expired is gone at the first of them, and the rest stands
    left = json.loads(control_plane.kubectl("get", "rr", "-n", namespace, "-o", "json"))["items"]
    assert expired == [3, 0]
    assert {one["metadata"]["name"] for one in left} == {"storm-0", "rr-held", "rr-now", "rr-theirs"}
    control_plane.kubectl(
        "patch", "rr", "rr-held", "-n", namespace, "--type=merge", '-p={"metadata":{"finalizers":null}}'
    )


def test_without_the_right_to_delete_reconciling_goes_on(
    control_plane: ControlPlane,
    namespace: str,
    deadline: Deadline,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a worker of a cluster whose roles are of an older version
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "older"},
        "rules": [
            {"apiGroups": [GROUP], "resources": ["remediationrequests"], "verbs": ["get", "list", "create", "patch"]},
            {"apiGroups": [GROUP], "resources": ["remediationrequests/status"], "verbs": ["patch"]},
        ],
    }  # fmt: skip
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(role))
    control_plane.kubectl("create", "rolebinding", "older", "-n", namespace, "--role=older", "--user=nobody")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig("nobody")))
    sink = KubernetesSink(connect(), "stormfold-system", 5.0, namespace)
    sink.put(storm_manifest(storm(namespace=namespace, phase="Resolved")), None, deadline)
    # When a look takes place
    done = Reconciler(Orphans(redis_server.client), sink, grace_ms=HOUR, retention_ms=HOUR).run()
    sink.close()
    # Then it comes to its end, and the object stays
    assert (done.seen, done.expired) == (1, 0)
    assert control_plane.kubectl("get", "rr", STORM_NAME, "-n", namespace, "-o", "name")
