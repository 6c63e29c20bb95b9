"""One control plane for the whole run, one namespace for each test."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sinks.base import Deadline
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane, shared
from tests.support.absent import absent

pytest.register_assert_rewrite("tests.support.sink_contract")

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A real API server with our CRD and rights, shared between the processes of pytest-xdist."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or "absent")
    missing = [program for program in PROGRAMS if not (assets / program).is_file()]
    if missing:
        absent(f"KUBEBUILDER_ASSETS names no folder with {', '.join(missing)} (setup-envtest fetches them)")
    if shutil.which("openssl") is None:
        absent("openssl is not installed")
    base = tmp_path_factory.getbasetemp()
    # Under xdist each worker has a folder of its own, in one of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "control-plane"
    with shared(folder, assets.resolve()) as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of this test alone; it goes with the control plane."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    control_plane.kubectl("create", "namespace", name)
    return name


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
