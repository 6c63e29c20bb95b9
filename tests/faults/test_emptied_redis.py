"""A Redis that lost its memory, objects deleted or made behind our back: every alert ends in exactly one open RR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import load
from lua_scripts.connection import connect
from lua_scripts.keys import PREFIX
from tasks.reconcile import Reconciled
from tasks.services import Services
from tasks.work import reconcile
from tests.support import objects
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("emptied"), {"SINGLE_HOLD": "300ms", "DEBOUNCE": "200ms"}) as stack:
        yield stack


def look_through(stack: Stack, **changes: int) -> Reconciled:
    """What the periodic job does, at once."""
    return reconcile(Services(replace(load(stack.environ), **changes)))


def open_objects(stack: Stack, key: Mapping[str, str]) -> list[dict[str, Any]]:
    return [rr for rr in stack.objects(key) if rr["status"]["phase"] == "Active"]


def wait_active(stack: Stack, key: Mapping[str, str], count: int) -> list[dict[str, Any]]:
    wait_until(
        lambda: len(open_objects(stack, key)) == count and stack.quiet(key),
        f"{count} open objects",
        describe=lambda: [(rr["metadata"]["name"], rr["status"]["phase"]) for rr in stack.objects(key)],
    )
    return open_objects(stack, key)


def path_of(stack: Stack, rr: Mapping[str, Any]) -> Path:
    return stack.manifests / rr["metadata"]["namespace"] / f"{rr['metadata']['name']}.yaml"


def fired(stack: Stack, scene: Scene, count: int) -> list[dict[str, Any]]:
    stack.post(scene.pods(count))
    return wait_active(stack, scene.key(), 1 if count >= 5 else count)


def test_storm_is_adopted_when_its_alerts_come_again(stack: Stack) -> None:
    # Given a storm whose RR is written
    scene = new_scene()
    [before] = fired(stack, scene, 12)
    # When Redis is emptied and Alertmanager repeats the group
    stack.redis.flush()
    stack.post(scene.pods(12))
    wait_until(lambda: stack.storm(scene.key()) is not None, "the storm to be open again")
    [after] = wait_active(stack, scene.key(), 1)
    # Then the same object stands for all of them, above its old fence, and it is the only one
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["spec"]["stormAggregation"]["alertCount"] == 12
    assert after["spec"]["stormAggregation"]["supersedes"] == []
    assert objects.fence(after) > objects.fence(before)
    assert len(stack.objects(scene.key())) == 1
    # And when all of it resolves, that very object says so
    stack.post([alert.resolved(at(60)) for alert in scene.pods(12)])
    wait_until(lambda: stack.objects(scene.key())[0]["status"]["phase"] == "Resolved", "the object to be Resolved")


def test_storm_is_adopted_by_fewer_alerts_than_make_one(stack: Stack) -> None:
    # Given a storm of which only a few alerts still fire when Redis is emptied
    scene = new_scene()
    [before] = fired(stack, scene, 12)
    stack.redis.flush()
    # When those come again
    stack.post(scene.pods(3))
    wait_until(
        lambda: [rr["spec"]["stormAggregation"]["alertCount"] for rr in stack.objects(scene.key())] == [3],
        "the old RR to show three alerts",
        describe=lambda: stack.objects(scene.key()),
    )
    # Then its RR shows them, and there is no Single beside it
    [after] = wait_active(stack, scene.key(), 1)
    assert after["metadata"]["name"] == before["metadata"]["name"]


def test_singles_are_adopted_when_their_alerts_come_again(stack: Stack) -> None:
    # Given three Singles
    scene = new_scene()
    before = {rr["metadata"]["name"]: rr for rr in fired(stack, scene, 3)}
    # When Redis is emptied and their alerts come again
    stack.redis.flush()
    stack.post(scene.pods(3))
    wait_until(lambda: stack.storm(scene.key()) is not None, "the alerts to be known again")
    # Then the same three objects stand for them, and follow them to the end
    assert {rr["metadata"]["name"] for rr in wait_active(stack, scene.key(), 3)} == set(before)
    stack.post([alert.resolved(at(60)) for alert in scene.pods(3)])
    wait_until(
        lambda: [rr["status"]["phase"] for rr in stack.objects(scene.key())] == ["Resolved"] * 3,
        "all three to be Resolved",
        describe=lambda: stack.objects(scene.key()),
    )
    assert {rr["metadata"]["name"] for rr in stack.objects(scene.key())} == set(before)


def test_singles_from_before_are_superseded_by_a_storm_of_now(stack: Stack) -> None:
    # Given three Singles, and a Redis that forgot them
    scene = new_scene()
    before = {rr["metadata"]["name"] for rr in fired(stack, scene, 3)}
    stack.redis.flush()
    # When their group has become a storm
    stack.post(scene.pods(12))
    # Then the storm's RR names them, and each is Superseded
    wait_until(
        lambda: sorted(rr["status"]["phase"] for rr in stack.objects(scene.key())) == ["Active"] + ["Superseded"] * 3,
        "the Singles to be Superseded",
        describe=lambda: [(rr["metadata"]["name"], rr["status"]["phase"]) for rr in stack.objects(scene.key())],
    )
    [storm] = objects.storms(stack.objects(scene.key()))
    assert set(storm["spec"]["stormAggregation"]["supersedes"]) == before


def test_alerts_that_do_not_come_again_leave_a_stale_object(stack: Stack) -> None:
    # Given a storm's RR that nobody knows any more
    scene = new_scene()
    [before] = fired(stack, scene, 12)
    stack.redis.flush()
    # When the sink is looked through, once within the grace and once after it
    first = look_through(stack)
    [within] = stack.objects(scene.key())
    second = look_through(stack, stale_after=1)
    # Then it is left alone at first, and then closed as Stale with the reason
    assert first.orphans >= 1
    assert within == before
    assert second.lost >= 1
    [after] = stack.objects(scene.key())
    assert after["status"]["phase"] == "Stale"
    assert {condition["reason"] for condition in after["status"]["conditions"]} == {"StateLost"}
    # And no orphan is left in Redis
    client = connect(stack.redis.url)
    assert list(client.scan_iter(f"{PREFIX}:*:orph")) == []


def test_deleted_object_comes_back_once(stack: Stack) -> None:
    # Given a storm whose RR somebody deleted
    scene = new_scene()
    [before] = fired(stack, scene, 12)
    path_of(stack, before).unlink()
    # When the sink is looked through
    assert look_through(stack).restored == 1
    # Then the RR is written again under its name, as a new object
    [after] = wait_active(stack, scene.key(), 1)
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert after["spec"] == before["spec"]
    # And the next look finds nothing to do
    assert look_through(stack).restored == 0


def test_double_is_superseded(stack: Stack) -> None:
    # Given a second open RR of the same storm, as a process frozen past its lease may leave it
    scene = new_scene()
    [ours] = fired(stack, scene, 12)
    other = yaml.safe_load(path_of(stack, ours).read_text())
    other["metadata"]["name"] = "storm-late-0000000000"
    path_of(stack, other).write_text(yaml.safe_dump(other))
    # When the sink is looked through
    assert look_through(stack).doubles == 1
    # Then the double is Superseded in favour of ours, and ours is untouched
    found = {rr["metadata"]["name"]: rr for rr in stack.objects(scene.key())}
    assert found[ours["metadata"]["name"]] == ours
    assert found["storm-late-0000000000"]["status"]["phase"] == "Superseded"
    assert found["storm-late-0000000000"]["status"]["supersededBy"] == ours["metadata"]["name"]
