"""Closed objects go after the retention, and none goes whose history may still go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.settings import load
from tasks.reconcile import Reconciled
from tasks.services import Services
from tasks.work import reconcile
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"SINGLE_HOLD": "300ms", "DEBOUNCE": "200ms"}
    with Stack(tmp_path_factory.mktemp("retention"), settings, workers=1) as stack:
        yield stack


def look_through(stack: Stack, retention: int) -> Reconciled:
    """What the periodic job does, at once."""
    return reconcile(Services(replace(load(stack.environ), retention=retention)))


def phases(stack: Stack, scene: Scene) -> list[str]:
    return sorted(f"{rr['spec']['type']} {rr['status']['phase']}" for rr in stack.objects(scene.key()))


def resolved_storm(stack: Stack) -> Scene:
    """Three Singles that became a storm, which then resolved."""
    scene = new_scene()
    stack.post(scene.pods(3))
    wait_until(
        lambda: phases(stack, scene) == ["Single Active"] * 3, "three Singles", describe=lambda: phases(stack, scene)
    )
    stack.post(scene.pods(12))
    wait_until(lambda: "Storm Active" in phases(stack, scene), "the storm", describe=lambda: phases(stack, scene))
    stack.post([alert.resolved(at(60)) for alert in scene.pods(12)])
    over = ["Single Superseded"] * 3 + ["Storm Resolved"]
    wait_until(lambda: phases(stack, scene) == over, "its end", describe=lambda: phases(stack, scene))
    return scene


def test_what_may_still_reopen_stays_and_goes_when_it_cannot(stack: Stack) -> None:
    # Given a storm that resolved and may reopen for another hour, and a Single like it
    resolved_storm(stack)
    alone = new_scene("alone")
    stack.post(alone.pods(1))
    wait_until(lambda: phases(stack, alone) == ["Single Active"], "the Single")
    stack.post([alert.resolved(at(60)) for alert in alone.pods(1)])
    wait_until(lambda: phases(stack, alone) == ["Single Resolved"], "its end")
    before = stack.all_objects()
    # When a look takes place long after the retention
    done = look_through(stack, retention=1)
    # Then all of them stand
    assert (done.expired, stack.all_objects()) == (0, before)
    # And when nothing stands for them any more, they go; without a retention they would stay for ever
    stack.redis.flush()
    assert look_through(stack, retention=0).expired == 0
    assert look_through(stack, retention=3_600_000).expired == 0
    assert look_through(stack, retention=1).expired == len(before)
    assert stack.all_objects() == []


def test_an_earlier_history_goes_while_a_later_one_is_open(tmp_path: Path) -> None:
    # Given a storm that resolved and closed, and its successor under the same key
    settings = {"SINGLE_HOLD": "300ms", "DEBOUNCE": "200ms", "REOPEN_WINDOW": "500ms"}
    with Stack(tmp_path, settings, workers=1) as stack:
        scene = resolved_storm(stack)
        wait_until(lambda: stack.storm(scene.key()) is None, "the storm to be closed")
        stack.post(scene.pods(12, starts=120))
        wait_until(lambda: "Storm Active" in phases(stack, scene), "the next storm")
        # When a look takes place after the retention
        done = look_through(stack, retention=1)
        # Then what belongs to the first one is gone, and the second stands
        assert done.expired == 4
        assert phases(stack, scene) == ["Storm Active"]
