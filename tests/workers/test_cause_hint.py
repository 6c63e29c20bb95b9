"""A storm's RR says what nearly all of its firing alerts share, and ceases to when that is no longer so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at


def pods(scene: Scene, nodes: list[str]) -> list[Alert]:
    """A pod on each of the nodes, all of one zone."""
    alerts = scene.pods(len(nodes))
    return [
        replace(alert, labels={**alert.labels, "node": node, "zone": "b"})
        for alert, node in zip(alerts, nodes, strict=True)
    ]


def hint(stack: Stack, scene: Scene) -> list[dict[str, Any]]:
    [rr] = [rr for rr in stack.objects(scene.key()) if rr["spec"]["type"] == "Storm"] or [None]
    return [] if rr is None else list(rr["spec"]["stormAggregation"].get("causeHint", []))


def test_a_hint_follows_what_fires(tmp_path: Path) -> None:
    with Stack(tmp_path, workers=1) as stack:
        # Given 19 of 20 pods on one node
        scene = new_scene()
        alerts = pods(scene, ["n1"] * 19 + ["n2"])
        stack.post(alerts)
        wanted = [{"label": "zone", "value": "b", "share": 1.0}, {"label": "node", "value": "n1", "share": 0.95}]
        wait_until(lambda: hint(stack, scene) == wanted, "the hint", describe=lambda: hint(stack, scene))
        # When most of those on that node resolve
        stack.post([alert.resolved(at(60)) for alert in alerts[:15]])
        # Then the node is no hint any more: four of the five that fire are not enough
        wait_until(lambda: hint(stack, scene) == wanted[:1], "no node", describe=lambda: hint(stack, scene))
        # And when the other one resolves as well, it is all of them
        stack.post([alerts[19].resolved(at(60))])
        all_of_them = [wanted[1] | {"share": 1.0}, wanted[0]]
        wait_until(lambda: hint(stack, scene) == all_of_them, "the node again", describe=lambda: hint(stack, scene))
