"""The orders in which Alertmanagers were seen to send what they should not: each ends right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.webhook import at


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("order"), {"SINGLE_HOLD": "300ms"}) as stack:
        yield stack


def test_same_start_after_a_partition(stack: Stack) -> None:
    # Given an alert that fired and resolved
    scene = new_scene()
    alert = scene.pod_alert("web-0", starts=0)
    stack.post([alert])
    stack.wait_received(scene.key(), 1)
    stack.post([alert.resolved(at(30))])
    stack.wait_received(scene.key(), 2)
    # When the same firing comes again after it, with the same startsAt
    stack.post([alert])
    stack.wait_received(scene.key(), 3)
    # Then it fires again
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=1, reopened=1), singles=[single_rr(alert, flaps=1)]
    )
    # And when the same end comes again after that, it applies again
    stack.post([alert.resolved(at(30))])
    stack.wait_received(scene.key(), 4)
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=2, reopened=1), singles=[single_rr(alert, phase="Resolved", flaps=1)]
    )


def test_same_start_after_a_partition_in_a_storm(stack: Stack) -> None:
    # Given a storm that fired and resolved
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    stack.wait_received(scene.key(), 12)
    stack.post([alert.resolved(at(30)) for alert in alerts])
    stack.wait_received(scene.key(), 24)
    # When all of it fires again with the same startsAt
    stack.post(alerts)
    stack.wait_received(scene.key(), 36)
    # Then the same RR is active again
    assert outcome(stack, scene.key()) == expected(
        ledger(new=12, resolved=12, reopened=12), storms=[storm_rr(alerts, total=24, flaps=1)]
    )


def test_two_replicas_that_disagree_on_the_start(stack: Stack) -> None:
    # Given an alert that fires since :35, as one Prometheus says
    scene = new_scene()
    alert = scene.pod_alert("web-0", starts=35)
    stack.post([alert])
    stack.wait_received(scene.key(), 1)
    # When it resolves as the other says, which saw it start at :28
    stack.post([scene.pod_alert("web-0", starts=28, ends=50)])
    stack.wait_received(scene.key(), 2)
    # Then it is resolved
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=1), singles=[single_rr(alert, phase="Resolved")]
    )


def test_resolved_before_its_firing(stack: Stack) -> None:
    # Given a storm of five, one pod of which is told resolved by one peer
    scene = new_scene()
    *others, late = scene.pods(6)
    stack.post(others)
    stack.wait_received(scene.key(), 5)
    stack.post([late.resolved(at(30))])
    # When the other peer's firing of it comes only then
    stack.post([late])
    stack.wait_received(scene.key(), 7)
    # Then it does not fire, and the storm is what it was
    assert outcome(stack, scene.key()) == expected(ledger(new=5, outdated=2), storms=[storm_rr(others, kind="pattern")])
    storm = stack.storm(scene.key())
    assert storm is not None
    members = {one["fingerprint"] for one in stack.pages(f"storms/{storm['id']}/members")}
    assert members == {alert.fingerprint for alert in others}
