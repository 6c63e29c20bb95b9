"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.benches import Benches


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """One stack of a kind for all cells of a module, made anew after a cell that failed."""
    kept = Benches(tmp_path_factory)
    yield kept
    kept.close()
