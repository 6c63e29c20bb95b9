"""The rules of a storm's life while its windows are open, through HTTP and two real workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from functools import partial

import pytest

from tests.support import objects
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import at_once, wait_until
from tests.support.webhook import at

HOLD_MS = 500


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("rules"), {"SINGLE_HOLD": f"{HOLD_MS}ms"}) as stack:
        yield stack


def milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_single_comes_after_the_hold(stack: Stack) -> None:
    # Given a scene of its own
    scene = new_scene()
    alert = scene.pod_alert("web-0", severity="warning")
    # When one alert fires
    stack.post([alert])
    stack.wait_received(scene.key(), 1)
    # Then its Single was written, and not before the hold was over
    assert outcome(stack, scene.key()) == expected(ledger(new=1), singles=[single_rr(alert)])
    [rr] = stack.objects(scene.key())
    storm = stack.storm(scene.key())
    assert storm is not None
    assert milliseconds(rr["status"]["observedAt"]) >= milliseconds(storm["firstSeen"]) + HOLD_MS
    assert rr["metadata"]["name"].startswith("rr-")


def test_resolved_single_and_its_reopening(stack: Stack) -> None:
    # Given the Single of an alert
    scene = new_scene()
    alert = scene.pod_alert("web-0")
    stack.post([alert])
    stack.wait_received(scene.key(), 1)
    [written] = stack.objects(scene.key())
    # When it resolves
    stack.post([alert.resolved(at(10))])
    stack.wait_received(scene.key(), 2)
    # Then the object says so
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=1), singles=[single_rr(alert, phase="Resolved")]
    )
    # And when it fires again within the window
    stack.post([alert.fired_again(at(20))])
    stack.wait_received(scene.key(), 3)
    # Then the same object is active again and counts the flap
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=1, reopened=1), singles=[single_rr(alert, flaps=1)]
    )
    [reopened] = stack.objects(scene.key())
    assert reopened["metadata"]["name"] == written["metadata"]["name"]
    assert objects.fence(reopened) > objects.fence(written)


def test_alert_that_resolves_within_the_hold(stack: Stack) -> None:
    # Given an alert that fires and resolves in the same webhook, as a truncated history can
    scene = new_scene()
    alert = scene.pod_alert("web-0")
    # When both are posted at once
    stack.post([alert, alert.resolved(at(5))])
    stack.wait_received(scene.key(), 2)
    # Then it is not lost: its object is there, resolved
    assert outcome(stack, scene.key()) == expected(
        ledger(new=1, resolved=1), singles=[single_rr(alert, phase="Resolved")]
    )


def test_four_resources_are_no_pattern_and_five_are(stack: Stack) -> None:
    # Given alerts on four pods
    scene = new_scene()
    four = scene.pods(4, "FourPods")
    five = scene.pods(5, "FivePods")
    # When four and five are posted
    stack.post(four)
    stack.post(five)
    stack.wait_received(scene.key("FourPods"), 4)
    stack.wait_received(scene.key("FivePods"), 5)
    # Then four are Singles, five are a storm by pattern
    assert outcome(stack, scene.key("FourPods")) == expected(ledger(new=4), singles=[single_rr(one) for one in four])
    assert outcome(stack, scene.key("FivePods")) == expected(ledger(new=5), storms=[storm_rr(five, kind="pattern")])
    # And when the rate threshold falls too, the storm says so
    more = scene.pods(5, "FivePods", first=5)
    stack.post(more)
    stack.wait_received(scene.key("FivePods"), 10)
    assert outcome(stack, scene.key("FivePods")) == expected(ledger(new=10), storms=[storm_rr([*five, *more])])


def test_singles_are_superseded_by_their_storm(stack: Stack) -> None:
    # Given three Singles
    scene = new_scene()
    early, late = scene.pods(3), scene.pods(9, first=3)
    stack.post(early)
    stack.wait_received(scene.key(), 3)
    assert outcome(stack, scene.key()) == expected(ledger(new=3), singles=[single_rr(one) for one in early])
    # When nine more make a storm of it, watched while it happens
    over = threading.Event()
    seen: list[tuple[bool, bool]] = []

    def watch() -> None:
        while not over.is_set():
            superseded = any(
                rr["status"]["phase"] == "Superseded" for rr in objects.singles(stack.objects(scene.key()))
            )
            seen.append((superseded, bool(objects.storms(stack.objects(scene.key())))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        stack.post(late)
        stack.wait_received(scene.key(), 12)
    finally:
        over.set()
        watcher.join()
    # Then the storm RR names all three, and each says that it is superseded and by what
    singles = objects.singles(stack.objects(scene.key()))
    assert outcome(stack, scene.key()) == expected(
        ledger(new=12),
        storms=[storm_rr([*early, *late], supersedes=[rr["metadata"]["name"] for rr in singles])],
        singles=[single_rr(one, phase="Superseded") for one in early],
    )
    [storm] = objects.storms(stack.objects(scene.key()))
    assert {rr["status"]["supersededBy"] for rr in singles} == {storm["metadata"]["name"]}
    # And no Single was ever superseded before its storm was there
    assert (True, False) not in seen


def test_storm_shrinks_resolves_and_reopens(stack: Stack) -> None:
    # Given a storm of twelve
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    stack.wait_received(scene.key(), 12)
    [first] = stack.objects(scene.key())
    # When five resolve, in a webhook that says resolved as a whole
    stack.post([alert.resolved(at(30)) for alert in alerts[:5]])
    stack.wait_received(scene.key(), 17)
    # Then the RR covers the seven that fire
    assert outcome(stack, scene.key()) == expected(
        ledger(new=12, resolved=5), storms=[storm_rr(alerts[5:], all_alerts=alerts)]
    )
    # And when the others resolve too
    stack.post([alert.resolved(at(40)) for alert in alerts[5:]])
    stack.wait_received(scene.key(), 24)
    # Then nothing fires, and the lists keep what they last said
    assert outcome(stack, scene.key()) == expected(
        ledger(new=12, resolved=12), phase="RESOLVED",
        storms=[storm_rr(alerts[5:], all_alerts=alerts, phase="Resolved", alert_count=0)],
    )  # fmt: skip
    # And when one of them and an unknown one fire within the window
    again, unknown = alerts[0].fired_again(at(50)), scene.pod_alert("web-99999", starts=50)
    stack.post([again, unknown])
    stack.wait_received(scene.key(), 26)
    # Then the same object is active again, with these two, and counts the flap
    assert outcome(stack, scene.key()) == expected(
        ledger(new=13, resolved=12, reopened=1),
        storms=[storm_rr([again, unknown], all_alerts=[*alerts, unknown], total=14, flaps=1)],
    )
    [last] = stack.objects(scene.key())
    assert last["metadata"]["name"] == first["metadata"]["name"]
    assert objects.fence(last) > objects.fence(first)


def test_steady_fire_is_written_all_the_while(stack: Stack) -> None:
    # Given a storm whose changes come faster than the debounce
    scene = new_scene()
    over = threading.Event()
    posted = 0

    def fire() -> None:
        nonlocal posted
        while not over.is_set():
            stack.post(scene.pods(2, first=posted))
            posted += 2

    thread = threading.Thread(target=fire)
    thread.start()
    # When it goes on and on
    try:
        counts: list[int] = []

        def grown() -> bool:
            shown = [rr["spec"]["stormAggregation"]["alertCount"] for rr in stack.objects(scene.key())]
            counts.extend(count for count in shown if count not in counts)
            return len(counts) == 3

        # Then its RR is written again and again, before the fire ends
        wait_until(grown, "three states of the RR under steady fire", describe=lambda: counts)
    finally:
        over.set()
        thread.join()
    stack.wait_received(scene.key(), posted)
    assert counts == sorted(counts)
    storm = stack.storm(scene.key())
    assert storm is not None
    assert storm["ledger"] == ledger(new=posted)
    [rr] = stack.objects(scene.key())
    assert rr["spec"]["stormAggregation"]["alertCount"] == posted


def test_high_availability_pair(stack: Stack) -> None:
    # Given a webhook about six pods
    scene = new_scene()
    alerts = scene.pods(6)
    # When both peers of a pair send it, and then its end, each at the same time and the end of one a second later
    at_once(partial(stack.post, alerts), partial(stack.post, alerts))
    at_once(*[partial(stack.post, [alert.resolved(at(60)) for alert in alerts])] * 2)
    stack.post([alert.resolved(at(61)) for alert in alerts[:1]])
    stack.wait_received(scene.key(), 25)
    # Then everything counts once, in one object (a later end of what had ended is news of the same resolve)
    found = outcome(stack, scene.key())
    assert found["storms"] == [storm_rr(alerts, kind="pattern", phase="Resolved", alert_count=0)]
    assert found["singles"] == []
    assert (found["api"]["phase"], found["api"]["alertCount"], found["api"]["totalAlerts"]) == ("RESOLVED", 0, 6)
    counts = found["api"]["ledger"]
    assert (counts["new"], counts["reopened"], counts["outdated"]) == (6, 0, 0)
    assert counts["duplicate"] + counts["resolved"] == 19
