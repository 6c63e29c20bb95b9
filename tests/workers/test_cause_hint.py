"""A storm's RR says what nearly all firing alerts share, ceases to when that is no longer so, and keeps it at last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at


def pods(scene: Scene, places: Sequence[tuple[str, str]]) -> list[Alert]:
    """A pod in each of the places, a node and a zone, all of one image."""
    return [
        replace(
            alert, labels={**alert.labels, "node": node, "exported_zone": zone, "zone": "scraper", "image": "web:7"}
        )
        for alert, (node, zone) in zip(scene.pods(len(places)), places, strict=True)
    ]


def storm_of(stack: Stack, scene: Scene) -> tuple[str, list[tuple[str, str, float]]]:
    """(phase, hints) of the storm's RR."""
    found: list[dict[str, Any]] = [rr for rr in stack.objects(scene.key()) if rr["spec"]["type"] == "Storm"]
    if not found:
        return "", []
    [rr] = found
    hints = rr["spec"]["stormAggregation"].get("causeHint", [])
    return rr["status"]["phase"], [(each["label"], each["value"], each["share"]) for each in hints]


def wait_for(stack: Stack, scene: Scene, phase: str, *hints: tuple[str, str, float]) -> None:
    wanted = phase, list(hints)
    wait_until(lambda: storm_of(stack, scene) == wanted, str(wanted), describe=lambda: storm_of(stack, scene))


def test_a_hint_follows_what_fires_and_stays_when_it_is_over(tmp_path: Path) -> None:
    with Stack(tmp_path, workers=1) as stack:
        # Given 19 of 20 pods in one zone, 16 of them on one node
        scene = new_scene()
        alerts = pods(scene, [("n1", "b")] * 16 + [("n2", "b")] * 3 + [("n3", "c")])
        stack.post(alerts)
        # Then the zone is a hint, of which the scrape's own label says nothing, and the node is not
        wait_for(stack, scene, "Active", ("image", "web:7", 1.0), ("zone", "b", 0.95))
        # When three quarters of those on that node resolve
        stack.post([alert.resolved(at(60)) for alert in alerts[:12]])
        # Then seven of eight are not enough
        wait_for(stack, scene, "Active", ("image", "web:7", 1.0))
        # And when those on other nodes resolve as well, it is all of them
        stack.post([alert.resolved(at(60)) for alert in alerts[16:]])
        last = ("node", "n1", 1.0), ("zone", "b", 1.0), ("image", "web:7", 1.0)
        wait_for(stack, scene, "Active", *last)
        # When the rest resolves; Then the RR still says what it said last
        stack.post([alert.resolved(at(120)) for alert in alerts[12:16]])
        wait_for(stack, scene, "Resolved", *last)
        # And one that comes again counts for itself
        stack.post([replace(alerts[19], starts_at=at(180))])
        wait_for(stack, scene, "Active", ("node", "n3", 1.0), ("zone", "c", 1.0), ("image", "web:7", 1.0))
