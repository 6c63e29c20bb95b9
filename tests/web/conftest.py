"""The web process as it is served, with a Redis of its own and no worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """One for a test that breaks something."""
    with Stack(tmp_path, workers=0) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests of a module that only post and look."""
    with Stack(tmp_path_factory.mktemp("web"), {"MAX_BODY": "32MiB"}, workers=0) as running:
        yield running
