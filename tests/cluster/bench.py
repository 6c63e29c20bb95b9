"""Every request that the sink makes, one by one, through the proxy; and what stands in the cluster meanwhile."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lua_scripts.budget import Budget
from lua_scripts.keys import BUDGET, BUDGET_QUEUES, BUDGET_SINCE
from tasks.events import Event
from tasks.manifests import API_VERSION, Manifest, storm_manifest
from tasks.sinks import Deadline, ObjectRef
from tasks.sinks.gate import BudgetGate
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.cluster.proxy import Proxy
from tests.cluster.servers import token_of, write_kubeconfig
from tests.support.contents import storm
from tests.support.redis_server import RedisServer


class Known(NamedTuple):
    """What all workers know of the server's health, without times."""

    failures: int = 0
    refused: int = 0
    throttled: int = 0
    paused: bool = False
    undefined: bool = False


class Bench:
    """A namespace, a sink with a worker's rights behind the proxy, and what all workers know of the server."""

    def __init__(self, plane: ControlPlane, proxy: Proxy, redis: RedisServer, folder: Path) -> None:
        self.plane, self.proxy = plane, proxy
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self._call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self._redis: Any = redis.client
        self.forgive()
        self.budget = Budget(redis.client, 100)
        self.kubeconfig = folder / f"kubeconfig-{self.namespace}"
        write_kubeconfig(self.kubeconfig, proxy.url, plane.authority, {"token": token_of(WORKER)})
        self.sink = self.open()
        self.first = storm_manifest(storm(namespace=self.namespace))
        self.grown = storm_manifest(storm(namespace=self.namespace, fence=4, alert_count=11, flaps=1))

    def open(self, timeout_s: float = 5.0) -> KubernetesSink:
        """A sink that knows of this namespace alone."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(self.kubeconfig))
            made = connect()
        gate = BudgetGate(self.budget)
        return KubernetesSink(made, "stormfold-system", timeout_s, self.namespace, gate)

    def forgive(self) -> None:
        """As though every pause were over."""
        self._redis.delete(BUDGET, *BUDGET_QUEUES, BUDGET_SINCE)

    def health(self) -> Known:
        seen = self.budget.health()
        paused, undefined = seen.paused_ms > 0, seen.undefined_since_ms > 0
        return Known(seen.failures, seen.refused, seen.throttled, paused, undefined)

    def objects(self) -> list[Manifest]:
        """What an operator sees in the namespace."""
        path = f"/apis/{API_VERSION}/namespaces/{self.namespace}/remediationrequests"
        return list(self._call("GET", path)["items"])

    def events(self) -> list[str]:
        """The reasons of what was told there."""
        found = self._call("GET", f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events")["items"]
        return [one["reason"] for one in found]

    def said(self) -> list[Manifest]:
        """What the objects say, without what the server adds."""
        return [{"spec": one["spec"], "status": one.get("status")} for one in self.objects()]

    def _call(self, method: str, path: str, body: Manifest | None = None) -> Manifest:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": "Bearer admin", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.plane.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10, context=self.proxy.trust) as answer:
            return dict(json.load(answer))


@dataclass(frozen=True)
class Step:
    """One request of one method of the sink: what comes before it, and what a second try sends."""

    act: Callable[[Bench, ObjectRef], Any]
    on: tuple[str, str]
    """Method and piece of the path of the request that is meant."""
    sent: tuple[str, ...]
    """What is sent up to that request."""
    again: tuple[str, ...]
    """What a second try sends after one that did nothing."""
    again_landed: tuple[str, ...]
    """The same after one that did it, and nobody heard of it."""
    known: bool = True
    says: Callable[[Bench], list[Manifest]] = lambda bench: [_said(bench.grown)]
    """What the cluster says in the end."""

    @property
    def writes(self) -> bool:
        """Whether it changes an object of ours."""
        return self.on[0] != "GET" and self.on[1] != "/events"


def _said(spec: Manifest, status: Manifest | None = None) -> Manifest:
    return {"spec": spec["spec"], "status": (status or spec)["status"]}


def _create(bench: Bench, _: ObjectRef) -> Any:
    return bench.sink.put(bench.first, None, Deadline(30))


def _update(bench: Bench, known: ObjectRef) -> Any:
    return bench.sink.put(bench.grown, known, Deadline(30))


def _status(bench: Bench, known: ObjectRef) -> Any:
    return bench.sink.put_status(bench.grown, known, Deadline(30))


TOLD = Event("detected", "StormDetected", "Warning", "rate storm of KubePodCrashLooping")
PATCHES = ("PATCH", "PATCH status")
FOUND = ("POST", "GET", "PATCH status")
"""The name is taken: by us."""
MOVED = ("PATCH", "GET", *PATCHES)
"""The version has moved: by us."""

STEPS = {
    "create": Step(
        _create, ("POST", "remediationrequests"), ("POST",), ("POST", "PATCH status"), FOUND,
        known=False, says=lambda bench: [_said(bench.first)],
    ),
    "create, its status": Step(
        _create, ("PATCH", "/status"), ("POST", "PATCH status"), FOUND, FOUND,
        known=False, says=lambda bench: [_said(bench.first)],
    ),
    "update": Step(_update, ("PATCH", "remediationrequests"), ("PATCH",), PATCHES, MOVED),
    "update, its status": Step(_update, ("PATCH", "/status"), PATCHES, MOVED, MOVED),
    "status, its read": Step(
        _status, ("GET", "remediationrequests"), ("GET",), ("GET", "PATCH status"), ("GET", "PATCH status"),
        says=lambda bench: [_said(bench.first, bench.grown)],
    ),
    "status": Step(
        _status, ("PATCH", "/status"), ("GET", "PATCH status"), ("GET", "PATCH status"), ("GET", "PATCH status"),
        says=lambda bench: [_said(bench.first, bench.grown)],
    ),
    "delete": Step(
        lambda bench, known: bench.sink.delete(known, Deadline(30)),
        ("DELETE", "remediationrequests"), ("DELETE",), ("DELETE",), ("DELETE",), says=lambda _: [],
    ),
    "event": Step(
        lambda bench, known: bench.sink.announce(known, TOLD, Deadline(30)),
        ("POST", "/events"), ("POST",), ("POST",), ("POST",), says=lambda bench: [_said(bench.first)],
    ),
    "list": Step(
        lambda bench, _: list(bench.sink.owned(Deadline(30))),
        ("GET", "remediationrequests"), ("GET",), ("GET",), ("GET",), says=lambda bench: [_said(bench.first)],
    ),
}  # fmt: skip


def ref_of(manifest: Manifest) -> ObjectRef:
    metadata = manifest["metadata"]
    return ObjectRef(metadata["namespace"], metadata["name"], metadata["uid"], metadata["resourceVersion"])


def begin(bench: Bench, step: Step) -> ObjectRef:
    """The object that the step is about, where it is to be there; and a proxy that has forgotten how it came."""
    known = bench.sink.put(bench.first, None, Deadline(30)) if step.known else ObjectRef("", "", "", "")
    bench.proxy.forget()
    return known


def tried_again(bench: Bench, step: Step, known: ObjectRef, *, landed: bool) -> None:
    """The same again succeeds: the cluster says what it should, in one object that nobody made anew."""
    before = [one["metadata"]["uid"] for one in bench.objects()]
    bench.proxy.forget()
    result = step.act(bench, known)
    assert bench.proxy.briefs() == list(step.again_landed if landed else step.again)
    assert bench.said() == step.says(bench)
    after = bench.objects()
    assert bench.events() == ([TOLD.reason] if step.on[1] == "/events" else [])
    if step.on[0] == "DELETE":
        assert result is not landed
        return
    assert before in ([], [one["metadata"]["uid"] for one in after])
    refs = [ref_of(one) for one in after]
    if step.on[1] != "/events":
        assert result == (list(zip(refs, after, strict=True)) if isinstance(result, list) else refs[0])
