"""The named cases of one sender: what the alerts of a webhook, or of a few in turn, become."""

from __future__ import annotations

from collections.abc import Callable

from tests.support import objects
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.webhook import Alert

Case = Callable[[Stack, Scene], None]
"""A whole test: it posts alerts of its own scene and asserts all that came out of them."""


def create_an_rr(stack: Stack, scene: Scene) -> None:
    # Given one alert about one pod
    alert = scene.pod_alert("web-0")
    # When Alertmanager posts it
    answer = stack.post([alert])
    stack.wait_received(scene.key(), 1)
    # Then all of it is accepted, and there is one object, its Single
    assert {name: answer[name] for name in ("accepted", "ignored", "deadLettered")} == {
        "accepted": 1, "ignored": 0, "deadLettered": 0,
    }  # fmt: skip
    assert outcome(stack, scene.key()) == expected(ledger(new=1), singles=[single_rr(alert)])


def storm_of_one_resource(stack: Stack, scene: Scene) -> None:
    # Given ten distinct alerts about one and the same pod
    alerts = [scene.pod_alert("web-0", container=f"container-{number}") for number in range(10)]
    # When they come in one webhook
    stack.post(alerts)
    stack.wait_received(scene.key(), 10)
    # Then there is one object: a storm of ten alerts on one resource
    storm = storm_rr(alerts)
    assert (storm["alertCount"], storm["resources"]) == (10, {("Pod", scene.namespace, "web-0"): 10})
    assert outcome(stack, scene.key()) == expected(ledger(new=10), storms=[storm])


def update_a_storm(stack: Stack, scene: Scene) -> None:
    # Given a storm RR over ten pods
    first, more = scene.pods(10), scene.pods(5, first=10)
    stack.post(first)
    stack.wait_received(scene.key(), 10)
    assert outcome(stack, scene.key()) == expected(ledger(new=10), storms=[storm_rr(first)])
    [before] = stack.objects(scene.key())
    # When five more fire, re-sent with their whole group
    stack.post([*first, *more])
    stack.wait_received(scene.key(), 25)
    # Then the same object shows all fifteen
    [after] = stack.objects(scene.key())
    assert outcome(stack, scene.key()) == expected(ledger(new=15, duplicate=10), storms=[storm_rr([*first, *more])])
    assert after["metadata"]["name"] == before["metadata"]["name"]
    assert objects.fence(after) > objects.fence(before)


def fifteen_resources(stack: Stack, scene: Scene) -> None:
    # Given fifteen pods that fail together
    alerts = scene.pods(15)
    # When they come in one webhook
    stack.post(alerts)
    stack.wait_received(scene.key(), 15)
    # Then one object lists all fifteen, equally bad and equally old, hence by name
    assert outcome(stack, scene.key()) == expected(ledger(new=15), storms=[storm_rr(alerts)])
    [rr] = stack.objects(scene.key())
    listed = rr["spec"]["stormAggregation"]["affectedResources"]
    assert [one["name"] for one in listed] == [f"web-{number:05d}" for number in range(15)]


def deduplicate_resources(stack: Stack, scene: Scene) -> None:
    # Given fifteen alerts on five pods, the first pod with five, the last with one
    counts = {"web-0": 5, "web-1": 4, "web-2": 3, "web-3": 2, "web-4": 1}
    alerts = [
        scene.pod_alert(pod, container=f"container-{number}")
        for pod, count in counts.items()
        for number in range(count)
    ]
    # When they are posted, and posted once more
    stack.post(alerts)
    stack.post(alerts)
    stack.wait_received(scene.key(), 30)
    # Then each pod stands in the list once with its number of alerts, the worst first
    assert outcome(stack, scene.key()) == expected(ledger(new=15, duplicate=15), storms=[storm_rr(alerts)])
    [rr] = stack.objects(scene.key())
    listed = rr["spec"]["stormAggregation"]["affectedResources"]
    assert [(one["name"], one["alertCount"]) for one in listed] == list(counts.items())


def mixed_storm_and_others(stack: Stack, scene: Scene) -> None:
    # Given a storm of twelve and three alerts that have nothing to do with it or each other
    storm = scene.pods(12)
    others = {
        kind: scene.pod_alert("db-0", kind, severity="warning") for kind in ("DiskFilling", "CertExpiring", "ClockSkew")
    }
    # When they come in one webhook
    answer = stack.post([*storm, *others.values()])
    stack.wait_received(scene.key(), 12)
    for kind in others:
        stack.wait_received(scene.key(kind), 1)
    # Then there are four objects: a storm and three Singles
    assert answer["accepted"] == 15
    assert outcome(stack, scene.key()) == expected(ledger(new=12), storms=[storm_rr(storm)])
    for kind, alert in others.items():
        assert outcome(stack, scene.key(kind)) == expected(ledger(new=1), singles=[single_rr(alert)])


def ten_in_a_minute(stack: Stack, scene: Scene) -> None:
    # Given nine alerts on four pods, and ten on four pods
    def spread(count: int, kind: str) -> list[Alert]:
        return [scene.pod_alert(f"web-{number % 4}", kind, container=f"container-{number}") for number in range(count)]

    nine, ten = spread(9, "NineAlerts"), spread(10, "TenAlerts")
    # When each comes in one webhook
    stack.post(nine)
    stack.post(ten)
    stack.wait_received(scene.key("NineAlerts"), 9)
    stack.wait_received(scene.key("TenAlerts"), 10)
    # Then the nine are nine Singles and no storm, the ten are one storm and no Single
    assert outcome(stack, scene.key("NineAlerts")) == expected(
        ledger(new=9), singles=[single_rr(alert) for alert in nine]
    )
    assert outcome(stack, scene.key("TenAlerts")) == expected(ledger(new=10), storms=[storm_rr(ten)])


def burst_then_idle(stack: Stack, scene: Scene) -> None:
    # Given a burst of thirty alerts in three webhooks, and its storm RR
    alerts = scene.pods(30)
    for first in (0, 10, 20):
        stack.post(alerts[first : first + 10])
    stack.wait_received(scene.key(), 30)
    assert outcome(stack, scene.key()) == expected(ledger(new=30), storms=[storm_rr(alerts)])
    [written] = stack.objects(scene.key())
    # When nothing but repeats comes any more
    stack.post(alerts)
    stack.wait_received(scene.key(), 60)
    # Then nothing is due, nothing was written again, and the repeats are counted
    [rr] = stack.objects(scene.key())
    assert rr == written
    assert outcome(stack, scene.key()) == expected(ledger(new=30, duplicate=30), storms=[storm_rr(alerts)])


CASES: dict[str, Case] = {
    "create an RR from an Alertmanager webhook": create_an_rr,
    "new storm RR with a single affected resource": storm_of_one_resource,
    "update an existing storm RR with additional resources": update_a_storm,
    "single RR with 15 affected resources": fifteen_resources,
    "deduplicate the affected resources": deduplicate_resources,
    "mixed storm and non-storm": mixed_storm_and_others,
    "storm at 10 alerts in a minute": ten_in_a_minute,
    "burst followed by idle": burst_then_idle,
}
