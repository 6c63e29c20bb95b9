"""The rules of every sink, on a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.manifests import Manifest
from tasks.sinks.directory import DirectorySink
from tests.support.sink_contract import SinkContract


class Directory:
    """A directory of manifests, and somebody with an editor."""

    namespace = "shop"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sink = DirectorySink(root)

    def read(self, name: str) -> Manifest | None:
        path = self._path(name)
        return yaml.safe_load(path.read_text()) if path.exists() else None

    def generation(self, name: str) -> int:
        manifest = self.read(name)
        assert manifest is not None
        return int(manifest["metadata"]["annotations"]["remediation.stormfold.io/file-generation"])

    def delete(self, name: str) -> None:
        self._path(name).unlink()

    def patch(self, name: str, change: Manifest) -> None:
        self._path(name).write_text(yaml.safe_dump(_merged(self.read(name), change)))

    def _path(self, name: str) -> Path:
        return self.root / self.namespace / f"{name}.yaml"


def _merged(target: Any, change: Any) -> Any:
    if not isinstance(target, dict) or not isinstance(change, dict):
        return change
    return target | {key: _merged(target.get(key), value) for key, value in change.items()}


class TestDirectorySink(SinkContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Directory:
        return Directory(tmp_path / "manifests")
