"""The way out of the fault matrix, into a real cluster: a fault at a step of a worker that writes there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.cluster_stack import ClusterStack, ClusterSteps
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.faults import process_faults as process
from tests.faults import redis_faults as store
from tests.faults.benches import Benches
from tests.faults.matrix import CLAIM, LOST, SETTLE, WRITE, Cell
from tests.faults.running import run

OF_A_WRITER = {
    process.kill_worker, process.kill_worker_for_good, process.kill_child, process.kill_worker_as_it_becomes_a_storm,
    process.freeze_worker, process.pass_the_lease, process.settle_over_a_change, process.another_claims,
    process.nothing, store.restart_redis, store.freeze_redis, store.no_connections,
}  # fmt: skip
"""What can happen to a worker that writes, and to its connection to Redis; the others are about Redis or files."""

UNDER_A_WRITER = {store.emptied_under_it, store.emptied_under_a_change}
"""Redis loses its memory while a worker is about to write: what the cluster has is all that can hold it back."""

BEFORE_STATUS = [
    Cell("before-status", process.kill_worker_for_good, "new storm", "its status is written by others", ("Storm",)),
    Cell("before-status", process.kill_worker_for_good, "growing storm", "its status is written by others", ("Storm",)),
    # Stopped at the last of three Singles: all are open, and none is known to be.
    Cell("before-status", process.kill_worker_as_it_becomes_a_storm, "lone alerts", "none is left beside the storm",
         ("Single",), skip=2),
    Cell("before-status", process.kill_child, "superseding storm", "the rest is superseded", ("Superseded",), skip=1),
    Cell("before-status", process.freeze_worker, "growing storm", "the newer status stands", ("Storm",)),
    Cell("before-status", process.freeze_worker, "lone alerts", "each in one RR", ("Single",)),
    Cell("before-status", process.nothing, "new storm", "met again and completed", ("Storm",), action=LOST),
    Cell("before-status", process.nothing, "resolving storm", "both say so in the end", ("Storm",), action=LOST),
]  # fmt: skip
"""Between the two requests that a write takes: the object says one thing, and its status nothing, or another."""

CELLS = [
    *(cell for cell in (*CLAIM, *WRITE, *SETTLE) if cell.bench == "plain" and cell.fault in OF_A_WRITER),
    *BEFORE_STATUS,
    *(cell for cell in (*CLAIM, *WRITE, *SETTLE) if cell.fault in UNDER_A_WRITER),
]
QUICK = {
    "after-claim, Claim, kill worker for good, new storm",
    "before-write, Storm, freeze worker, growing storm",
    "after-write, Storm, kill worker for good, new storm",
}


@pytest.fixture(scope="module")
def benches(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """One stack for all cells, made anew after one that failed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
        kept = Benches(tmp_path_factory, partial(ClusterStack, control_plane), ClusterSteps)
        yield kept
        kept.close()


def _parameters() -> list[object]:
    marks = {cell.name: () if cell.name in QUICK else pytest.mark.slow for cell in CELLS}
    return [pytest.param(cell, id=cell.name, marks=marks[cell.name]) for cell in CELLS]


@pytest.mark.parametrize("cell", _parameters())
def test_cell(cell: Cell, benches: Benches) -> None:
    with benches(cell.bench) as steps:
        run(cell, steps)
