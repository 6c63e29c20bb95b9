"""The rules of every sink, on a real API server."""

from __future__ import annotations

import json

import pytest

from tasks.manifests import Manifest
from tasks.sinks.kubernetes import KubernetesSink
from tests.cluster.control_plane import ControlPlane
from tests.support.sink_contract import SinkContract


class Cluster:
    """A namespace, and somebody with kubectl."""

    def __init__(self, plane: ControlPlane, namespace: str, sink: KubernetesSink) -> None:
        self.plane, self.namespace, self.sink = plane, namespace, sink

    def read(self, name: str) -> Manifest | None:
        text = self._kubectl("get", "rr", name, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def generation(self, name: str) -> int:
        manifest = self.read(name)
        assert manifest is not None
        return int(manifest["metadata"]["generation"])

    def delete(self, name: str) -> None:
        self._kubectl("delete", "rr", name)

    def patch(self, name: str, change: Manifest) -> None:
        where = ["--subresource=status"] if "status" in change else []
        self._kubectl("patch", "rr", name, "--type=merge", f"--patch={json.dumps(change)}", *where)

    def _kubectl(self, *arguments: str) -> str:
        return self.plane.kubectl(f"--namespace={self.namespace}", *arguments)


class TestKubernetesSink(SinkContract):
    @pytest.fixture
    def world(self, control_plane: ControlPlane, namespace: str, sink: KubernetesSink) -> Cluster:
        return Cluster(control_plane, namespace, sink)
