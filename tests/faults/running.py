"""Runs one cell of the fault matrix on a running stack, whatever the stack writes to."""

from __future__ import annotations

from app.settings import load
from lua_scripts.keys import shard_of
from tasks.services import Services
from tasks.work import reconcile
from tests.faults.matrix import Cell
from tests.faults.situations import SITUATIONS
from tests.faults.struck import Struck
from tests.faults.whole_state import assert_one_open_rr_each, assert_whole_state
from tests.support.steps import Steps


def run(cell: Cell, steps: Steps) -> None:
    # Given a system at work, in which the first process that comes to the step stands still there
    situation = SITUATIONS[cell.situation](steps.stack)
    stop = steps.arm(cell.step, *words(cell, situation.storm_id), skip=cell.skip, action=cell.action)
    # When a delivery brings it there, and the fault strikes
    sender = situation.send()
    stop.wait_reached()
    cell.fault(Struck(steps, stop, situation, sender))
    # Then, when its sender has had its answer and all is written,
    situation.sent(sender)
    situation.wait_settled()
    # the whole state is what it would have been
    if cell.repaired:
        reconcile(Services(load(steps.stack.environ)))
    if cell.state == "whole":
        assert_whole_state(steps, situation)
    else:
        assert_one_open_rr_each(steps, situation)
    assert all(worker.running for worker in steps.stack.workers)


def words(cell: Cell, storm_id: str) -> tuple[str, ...]:
    """What the stopped call is about: this situation's storm, as far as the step knows of storms."""
    if cell.step == "before-sweep" or (cell.skip and cell.step == "before-accept"):
        return ()
    if cell.step.endswith("-publish"):
        return (f"shard {shard_of(storm_id)}",)
    return (storm_id, *cell.about)
