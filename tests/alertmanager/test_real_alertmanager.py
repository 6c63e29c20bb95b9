"""A real Alertmanager, configured for real, posts to the web process: what fires, grows and resolves, the RR shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

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
    settings = {"WEBHOOK_TOKEN": TOKEN, "SINGLE_HOLD": "500ms"}
    with Stack(tmp_path_factory.mktemp("alertmanager"), settings, token=TOKEN) as stack:
        yield stack


def alertmanager(stack: Stack, folder: Path) -> Alertmanager:
    return Alertmanager(folder, webhook_url=f"http://127.0.0.1:{stack.port}/api/v1/signals/prometheus", token=TOKEN)


def wait_counted(stack: Stack, scene: Scene, kind: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Until a storm has exactly these counts of what is not a duplicate, and all is written; its ledger."""

    def counted() -> dict[str, int] | None:
        storm = stack.storm(scene.key(kind))
        if storm is None or not stack.quiet(scene.key(kind)):
            return None
        found: dict[str, int] = storm["ledger"]
        seen = {name: found[name] for name in ("new", "reopened", "resolved", "outdated") if found[name]}
        return found if seen == counts else None

    what = f"{counts} of {scene.key(kind)}"
    found = wait_until(counted, what, describe=lambda: stack.storm(scene.key(kind)), poll_s=0.1)
    assert found is not None
    return found


def received(stack: Stack, scene: Scene) -> int:
    storm = stack.storm(scene.key())
    return 0 if storm is None else int(storm["ledger"]["received"])


def test_fire_grow_and_resolve(stack: Stack, tmp_path: Path) -> None:
    # Given an Alertmanager, and one alert beside a storm
    scene = new_scene()
    first, more, lone = scene.pods(12), scene.pods(5, first=12, starts=20), scene.pod_alert("db-0", "Lone")
    with alertmanager(stack, tmp_path) as sender:
        # When twelve fire
        sender.tell([*first, lone])
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 12})
        wait_counted(stack, scene, "Lone", {"new": 1})
        # Then they are one storm RR, and the lone one a Single
        assert outcome(stack, scene.key()) == expected(counts, storms=[storm_rr(first)])
        assert outcome(stack, scene.key("Lone")) == expected(ledger(new=1), singles=[single_rr(lone)])
        [before] = stack.objects(scene.key())
        # And when five more fire
        sender.tell([*first, *more])
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 17})
        # Then the same object has grown; what was re-sent with them counts as duplicates
        assert outcome(stack, scene.key()) == expected(counts, storms=[storm_rr([*first, *more])])
        assert counts["duplicate"] >= 12
        # And when ten resolve
        sender.tell([alert.resolved(at(60)) for alert in first[:10]])
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 17, "resolved": 10})
        assert outcome(stack, scene.key()) == expected(
            counts, storms=[storm_rr([*first[10:], *more], all_alerts=[*first, *more])]
        )
        # And when the rest does
        sender.tell([alert.resolved(at(70)) for alert in [*first[10:], *more, lone]])
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 17, "resolved": 17})
        wait_counted(stack, scene, "Lone", {"new": 1, "resolved": 1})
        # Then both objects say that it is over
        resolved = storm_rr([*first[10:], *more], all_alerts=[*first, *more], phase="Resolved", alert_count=0)
        assert outcome(stack, scene.key()) == expected(counts, storms=[resolved], phase="RESOLVED")
        lone_counts = wait_counted(stack, scene, "Lone", {"new": 1, "resolved": 1})
        assert outcome(stack, scene.key("Lone")) == expected(lone_counts, singles=[single_rr(lone, phase="Resolved")])
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
        wait_until(lambda: received(stack, scene) == 30, "both to have sent")
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 15})
        # Then there is one storm, and everything counts once
        assert counts == ledger(new=15, duplicate=15)
        assert outcome(stack, scene.key()) == expected(counts, storms=[storm_rr(alerts)])
        # And when it is over for both, the RR is resolved
        for sender in senders:
            sender.tell([alert.resolved(at(60)) for alert in alerts])
        wait_until(lambda: received(stack, scene) == 60, "both to have sent")
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 15, "resolved": 15})
        assert counts == ledger(new=15, duplicate=30, resolved=15)
        resolved = storm_rr(alerts, phase="Resolved", alert_count=0)
        assert outcome(stack, scene.key()) == expected(counts, storms=[resolved], phase="RESOLVED")


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
        counts = wait_counted(stack, scene, "PodCrashLooping", {"new": 12})
        # Then Alertmanager's next try brings all of it
        assert outcome(stack, scene.key()) == expected(counts, storms=[storm_rr(alerts)])
