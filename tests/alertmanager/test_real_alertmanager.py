"""A real Alertmanager, configured for real, posts to the web process: what fires, grows and resolves, the RR shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.alertmanager import Alertmanager
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at

TOKEN = "not-a-secret-but-a-test"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A hold that outlasts the parts in which a busy Alertmanager may send a group.
    settings = {"WEBHOOK_TOKEN": TOKEN, "SINGLE_HOLD": "3s"}
    with Stack(tmp_path_factory.mktemp("alertmanager"), settings, token=TOKEN) as stack:
        yield stack


def alertmanager(stack: Stack, folder: Path) -> Alertmanager:
    return Alertmanager(folder, webhook_url=f"http://127.0.0.1:{stack.port}/api/v1/signals/prometheus", token=TOKEN)


def settled(stack: Stack, scene: Scene, kind: str, *, duplicates: int = 0, **counts: int) -> dict[str, Any]:
    """The outcome of a storm key once all is written and its ledger has these counts and that many duplicates or more.

    Alertmanager sends the whole group with every change, and in how many notifications a change comes is its business.
    """

    def counted() -> dict[str, Any] | None:
        storm = stack.storm(scene.key(kind))
        if storm is None or not stack.quiet(scene.key(kind)):
            return None
        seen = storm["ledger"]
        if seen != ledger(**counts, duplicate=seen["duplicate"]) or seen["duplicate"] < duplicates:
            return None
        return outcome(stack, scene.key(kind))

    what = f"{counts} of {scene.key(kind)}"
    found = wait_until(counted, what, describe=lambda: stack.storm(scene.key(kind)), poll_s=0.1)
    assert found is not None
    return found


def test_fire_grow_and_resolve(stack: Stack, tmp_path: Path) -> None:
    # Given an Alertmanager, and one alert beside a storm
    scene = new_scene()
    first, more, lone = scene.pods(12), scene.pods(5, first=12, starts=20), scene.pod_alert("db-0", "Lone")
    everything = [*first, *more]
    with alertmanager(stack, tmp_path) as sender:
        # When twelve fire
        sender.tell([*first, lone])
        found, alone = settled(stack, scene, "PodCrashLooping", new=12), settled(stack, scene, "Lone", new=1)
        # Then they are one storm RR, and the lone one a Single
        assert found == expected(found["api"]["ledger"], storms=[storm_rr(first)])
        assert alone == expected(alone["api"]["ledger"], singles=[single_rr(lone)])
        [before] = stack.objects(scene.key())
        # And when five more fire
        sender.tell(everything)
        found = settled(stack, scene, "PodCrashLooping", new=17, duplicates=12)
        # Then the same object has grown; what was re-sent with them counts as duplicates
        assert found == expected(found["api"]["ledger"], storms=[storm_rr(everything)])
        # And when ten resolve, the RR covers the others
        sender.tell([alert.resolved(at(60)) for alert in first[:10]])
        found = settled(stack, scene, "PodCrashLooping", new=17, resolved=10)
        left = everything[10:]
        assert found == expected(found["api"]["ledger"], storms=[storm_rr(left, all_alerts=everything)])
        # And when the rest does
        sender.tell([alert.resolved(at(70)) for alert in [*left, lone]])
        found = settled(stack, scene, "PodCrashLooping", new=17, resolved=17)
        alone = settled(stack, scene, "Lone", new=1, resolved=1)
        # Then both objects say that it is over
        resolved = storm_rr(left, all_alerts=everything, phase="Resolved", alert_count=0)
        assert found == expected(found["api"]["ledger"], storms=[resolved], phase="RESOLVED")
        assert alone == expected(alone["api"]["ledger"], singles=[single_rr(lone, phase="Resolved")])
        [after] = stack.objects(scene.key())
        assert after["metadata"]["name"] == before["metadata"]["name"]


def test_two_alertmanagers_that_do_not_see_each_other(stack: Stack, tmp_path: Path) -> None:
    # Given two Alertmanagers parted from each other: each sends everything
    scene = new_scene()
    alerts = scene.pods(15)
    with ExitStack() as both:
        senders = [both.enter_context(alertmanager(stack, tmp_path / name)) for name in ("one", "other")]
        # When both are told the same, as Prometheus does
        for sender in senders:
            sender.tell(alerts)
        found = settled(stack, scene, "PodCrashLooping", new=15, duplicates=15)
        # Then there is one storm, and everything counts once
        assert found == expected(found["api"]["ledger"], storms=[storm_rr(alerts)])
        # And when it is over for both, the RR is resolved
        for sender in senders:
            sender.tell([alert.resolved(at(60)) for alert in alerts])
        duplicates = found["api"]["ledger"]["duplicate"] + 15
        found = settled(stack, scene, "PodCrashLooping", new=15, resolved=15, duplicates=duplicates)
        resolved = storm_rr(alerts, phase="Resolved", alert_count=0)
        assert found == expected(found["api"]["ledger"], storms=[resolved], phase="RESOLVED")


def test_stormfold_is_away_for_a_while(stack: Stack, tmp_path: Path) -> None:
    # Given an Alertmanager and a web process that is down
    scene = new_scene()
    alerts = scene.pods(12)
    with alertmanager(stack, tmp_path) as sender:
        stack.web.kill()
        # When a storm begins, and only then the web process comes back
        sender.tell(alerts)
        wait_until(lambda: "refused" in sender.process.log(), "Alertmanager to have failed once")
        stack.start_web()
        found = settled(stack, scene, "PodCrashLooping", new=12)
        # Then Alertmanager's next try brings all of it
        assert found == expected(found["api"]["ledger"], storms=[storm_rr(alerts)])
