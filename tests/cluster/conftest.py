"""One control plane for the whole run, one namespace for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.sinks.base import Deadline
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane, shared
from tests.cluster.proxy import Proxy
from tests.cluster.servers import Servers, lacking, own_servers
from tests.support.absent import absent
from tests.support.redis_server import RedisServer
from tests.support.scene import Scene, new_scene

if TYPE_CHECKING:
    from tests.cluster.bench import Bench

pytest.register_assert_rewrite("tests.support.sink_contract", "tests.cluster.bench")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with the control plane's programs."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "absent")
    if reason := lacking(assets):
        absent(reason)
    return assets.resolve()


@pytest.fixture(scope="session")
def control_plane(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with our CRD and rights, shared between the processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own, in one of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "control-plane"
    with shared(folder, assets) as plane:
        yield plane


@pytest.fixture
def controllers(control_plane: ControlPlane) -> None:
    """For tests that need the controllers: quotas that count, namespaces that end."""
    if not control_plane.controllers:
        absent("KUBEBUILDER_ASSETS names no folder with kube-controller-manager (setup-envtest does not fetch it)")


@pytest.fixture
def own_plane(assets: Path, tmp_path: Path) -> Iterator[Servers]:
    """Servers of this test alone, for what would disturb others; not started yet, and without controllers."""
    with own_servers(tmp_path / "plane", assets) as servers:
        yield servers


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of this test alone; it goes with the control plane."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    control_plane.kubectl("create", "namespace", name)
    return name


@pytest.fixture
def scene(control_plane: ControlPlane) -> Scene:
    """Names of this test alone for alerts, and the namespace that they are about."""
    scene = new_scene("cluster")
    control_plane.kubectl("create", "namespace", scene.namespace)
    return scene


@pytest.fixture
def sink(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesSink]:
    """The sink with exactly the rights that docker/kubernetes/ gives a worker."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    opened = KubernetesSink(connect(), "stormfold-system", 5.0)
    yield opened
    opened.close()


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(30)


@pytest.fixture(scope="module")
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    with Proxy(control_plane) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("budget")).start()
    yield server
    server.stop()


@pytest.fixture
def bench(control_plane: ControlPlane, proxy: Proxy, redis: RedisServer, tmp_path: Path) -> Iterator[Bench]:
    from tests.cluster.bench import Bench  # only now, for its assertions are rewritten

    proxy.forget()
    bench = Bench(control_plane, proxy, redis, tmp_path)
    yield bench
    bench.sink.close()
