"""From a setting to a sink, and to the definition that goes with it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

from tasks.sinks import SinkRefused, open_sink
from tasks.sinks.directory import DirectorySink
from tests.support.crd import CRD


@dataclass(frozen=True)
class Settings:
    sink: str
    fallback_namespace: str = "stormfold-system"
    kube_timeout: int = 5000
    namespace: str = ""
    field_manager: str = "stormfold-blue"


def test_a_directory() -> None:
    sink = open_sink(Settings("directory:./manifests"))
    assert isinstance(sink, DirectorySink)
    assert sink.installation == "stormfold-blue"


@pytest.mark.parametrize("sink", ["", "directory", "directory:", "kubernetes:x", "s3:bucket"])
def test_no_such_sink(sink: str) -> None:
    with pytest.raises(SinkRefused, match="directory:PATH or kubernetes"):
        open_sink(Settings(sink))


def test_kubernetes_needs_to_know_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/config")
    with pytest.raises(SinkRefused, match="no way to a Kubernetes API server"):
        open_sink(Settings("kubernetes"))


def test_a_directory_does_not_pay_for_the_kubernetes_client(tmp_path: Path) -> None:
    # Given a process of its own; When it opens a directory, Then the client is not imported
    code = (
        "import sys, types; from tasks.sinks import open_sink;"
        f"open_sink(types.SimpleNamespace(sink='directory:{tmp_path}', field_manager='x'));"
        "print('kubernetes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CRD.parents[2], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_definition_is_in_the_package() -> None:
    assert files("tasks").joinpath("crd.yaml").read_bytes() == CRD.read_bytes()
