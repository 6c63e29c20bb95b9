"""A fault strikes exactly at a step of a real process's work; afterwards the whole state is as if it had not."""

from __future__ import annotations

import pytest

from tests.faults.benches import Benches
from tests.faults.matrix import CELLS, Cell
from tests.faults.running import run
from tests.support.steps import STEPS


def _parameters() -> list[object]:
    return [pytest.param(cell, id=cell.name, marks=() if cell.quick else pytest.mark.slow) for cell in CELLS]


@pytest.mark.parametrize("cell", _parameters())
def test_cell(cell: Cell, benches: Benches) -> None:
    with benches(cell.bench) as steps:
        run(cell, steps)


def test_every_step_has_a_cell_that_is_always_run() -> None:
    # Given / When / Then
    assert {cell.step for cell in CELLS} == set(STEPS)
    stages = {cell.step.partition("-")[2] for cell in CELLS if cell.quick}
    assert stages == {step.partition("-")[2] for step in STEPS}
