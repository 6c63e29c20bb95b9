"""What the webhook never heard of is fetched from a real Alertmanager; what that forgot is believed with care."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from lua_scripts.polls import Polls
from tests.support import objects
from tests.support.alertmanager import Alertmanager
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.ports import free_port
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at

TOKEN = "not-a-secret-but-a-test"
OFTEN = {
    "WEBHOOK_TOKEN": TOKEN, "ALERTMANAGER_RECEIVER": "stormfold", "SINGLE_HOLD": "500ms", "RECONCILE_EVERY": "1s",
    "RECONCILE_GRACE": "1s", "RECONCILE_PEER_UPTIME": "2s",
}  # fmt: skip

Pair = tuple[Stack, Alertmanager]


def pair(folder: Path, *, max_alerts: int = 0, **changes: str) -> Iterator[Pair]:
    """stormfold and an Alertmanager that know each other."""
    port = free_port()
    settings = OFTEN | {"ALERTMANAGER_URL": f"http://127.0.0.1:{port}"} | changes
    with Stack(folder, settings, token=TOKEN, workers=1) as stack:
        url = f"http://127.0.0.1:{stack.port}/api/v1/signals/prometheus"
        with Alertmanager(
            folder / "am", webhook_url=url, token=TOKEN, port=port, max_alerts=max_alerts
        ) as sender:  # fmt: skip
            yield stack, sender


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield from pair(tmp_path_factory.mktemp("reconcile"))


@pytest.fixture
def stack(both: Pair) -> Stack:
    return both[0]


@pytest.fixture
def sender(both: Pair) -> Alertmanager:
    return both[1]


def polls(stack: Stack, kind: Literal["complete", "partial"]) -> int:
    """How many polls there were; read in Redis, for the web process may be down."""
    report = Polls(stack.redis.client).report()
    return getattr(report, kind) if report else 0


def after_polls(stack: Stack, count: int, kind: Literal["complete", "partial"] = "complete") -> None:
    """Until there were so many more polls."""
    wanted = polls(stack, kind) + count
    wait_until(lambda: polls(stack, kind) >= wanted, f"{count} more {kind} polls", poll_s=0.2)


def storms(stack: Stack, scene: Scene) -> list[Mapping[str, Any]]:
    """The views of all storm RRs, read from the sink: the web process may be down."""
    return [objects.storm_view(rr) for rr in objects.storms(stack.objects(scene.key()))]


def wait_storms(stack: Stack, scene: Scene, *wanted: Mapping[str, Any]) -> None:
    wait_until(
        lambda: storms(stack, scene) == list(wanted), f"the storm RRs {wanted}", poll_s=0.2,
        describe=lambda: storms(stack, scene),
    )  # fmt: skip


def told(stack: Stack, sender: Alertmanager, scene: Scene, count: int = 12) -> list[Alert]:
    """A storm of so many pods that came by webhook."""
    alerts = scene.pods(count)
    sender.tell(alerts)
    stack.wait_received(scene.key(), count)
    wait_storms(stack, scene, storm_rr(alerts))
    return alerts


def silenced(stack: Stack, scene: Scene) -> tuple[str, str] | None:
    """The status and message of the condition, None where there is none."""
    [rr] = objects.storms(stack.objects(scene.key()))
    return condition_of(rr)


def condition_of(rr: Mapping[str, Any]) -> tuple[str, str] | None:
    found = [one for one in rr["status"]["conditions"] if one["type"] == "Silenced"]
    return (found[0]["status"], found[0]["message"]) if found else None


def counted(stack: Stack, scene: Scene, condition: Callable[[Mapping[str, int]], bool], what: str) -> dict[str, int]:
    """The ledger of the storm once it meets a condition."""

    def found() -> dict[str, int] | None:
        storm = stack.storm(scene.key())
        return storm["ledger"] if storm and stack.quiet(scene.key()) and condition(storm["ledger"]) else None

    ledger = wait_until(found, what, poll_s=0.2, describe=lambda: stack.storm(scene.key()))
    assert ledger is not None
    return ledger


def test_alerts_that_fire_while_the_webhook_is_down(stack: Stack, sender: Alertmanager) -> None:
    # Given a web process that is down
    scene = new_scene()
    alerts, lone = scene.pods(12), scene.pod_alert("db-0", "Lone")
    stack.web.kill()
    # When a storm and a lone alert fire
    sender.tell([*alerts, lone])
    # Then both are in RRs while it is still down
    wait_storms(stack, scene, storm_rr(alerts))
    wait_until(lambda: stack.objects(scene.key("Lone")), "the lone alert's RR")
    # And when it is back, what Alertmanager posts is known already
    stack.start_web()
    counts = counted(stack, scene, lambda seen: seen["duplicate"] >= 12, "Alertmanager's own notification")
    stack.wait_settled()
    found = outcome(stack, scene.key())
    assert found == expected(ledger(new=12, duplicate=found["api"]["ledger"]["duplicate"]), storms=[storm_rr(alerts)])
    assert counts["new"] == 12
    alone = outcome(stack, scene.key("Lone"))
    assert alone["singles"] == [single_rr(lone)]
    # And later polls feed none of it again
    before = stack.storm(scene.key())
    after_polls(stack, 3)
    assert stack.storm(scene.key()) == before


def test_alerts_that_resolve_while_the_webhook_is_down(stack: Stack, sender: Alertmanager) -> None:
    # Given a storm, and a web process that then goes down
    scene = new_scene()
    alerts = told(stack, sender, scene)
    stack.web.kill()
    # When all but three resolve
    sender.tell([alert.resolved(at(60)) for alert in alerts[3:]])
    # Then the RR covers those three, with nobody having told stormfold
    wait_storms(stack, scene, storm_rr(alerts[:3], all_alerts=alerts))
    # And when they resolve too, it is resolved
    sender.tell([alert.resolved(at(70)) for alert in alerts[:3]])
    over = storm_rr(alerts[:3], all_alerts=alerts, phase="Resolved", alert_count=0)
    wait_storms(stack, scene, over)
    # And when it is back, what Alertmanager still posts leaves it resolved: either the resolves alone, which change
    # nothing, or first what it had been trying to post for a while, in which those three still fire
    stack.start_web()
    counted(stack, scene, lambda seen: seen["received"] >= 36, "Alertmanager's own resolves")
    wait_until(lambda: storms(stack, scene)[0]["phase"] == "Resolved", "the storm to be resolved")
    stack.wait_settled()
    [view] = storms(stack, scene)
    late = view["flaps"]
    assert late in (0, 1)
    assert view == over | {"flaps": late, "totalAlerts": 12 + 3 * late}
    # And when they fire once more, the same object is active
    again = [scene.pod_alert(f"web-{number:05d}", starts=500) for number in range(12)]
    sender.tell(again)
    wait_storms(stack, scene, storm_rr(again, total=24 + 3 * late, flaps=1 + late))


def test_an_emptied_redis(stack: Stack, sender: Alertmanager) -> None:
    # Given a storm in its RR
    scene = new_scene()
    alerts = told(stack, sender, scene)
    # When Redis loses everything
    stack.redis.flush()
    # Then the alerts come back without anybody sending them, and exactly one RR is open for them
    counts = counted(stack, scene, lambda seen: seen["new"] == 12, "the storm to be known again")
    stack.wait_settled()
    assert counts == ledger(new=12)
    active = [view for view in storms(stack, scene) if view["phase"] == "Active"]
    assert [(view["alertCount"], view["resources"]) for view in active] == [
        (12, storm_rr(alerts)["resources"])
    ]  # fmt: skip


def test_silenced_alerts_are_a_condition_and_never_resolved(stack: Stack, sender: Alertmanager) -> None:
    # Given a storm of which nobody has silenced anything
    scene = new_scene()
    alerts = told(stack, sender, scene)
    assert silenced(stack, scene) is None
    # When somebody silences one of its pods
    one = sender.silence(namespace=scene.namespace, pod="web-00003")
    # Then its RR says so
    wait_until(
        lambda: silenced(stack, scene) == ("True", "1 of 12 firing alerts are silenced"), "the condition", poll_s=0.2,
        describe=lambda: silenced(stack, scene),
    )  # fmt: skip
    # And when all of it is silenced, and polled on
    everything = sender.silence(namespace=scene.namespace)
    wait_until(lambda: silenced(stack, scene) == ("True", "12 of 12 firing alerts are silenced"), "all", poll_s=0.2)
    [before] = stack.objects(scene.key())
    after_polls(stack, 5)
    # Then nothing is presumed, and the object is not even written again
    assert stack.objects(scene.key()) == [before]
    assert [view["phase"] for view in storms(stack, scene)] == ["Active"]
    assert storms(stack, scene)[0]["alertCount"] == len(alerts)
    # And when the silences end, it says that too
    sender.end_silence(one)
    sender.end_silence(everything)
    wait_until(lambda: silenced(stack, scene) == ("False", "no firing alert is silenced"), "the end", poll_s=0.2)


def test_a_silenced_lone_alert_says_so_too(stack: Stack, sender: Alertmanager) -> None:
    # Given two lone alerts of one key, each in its RR
    scene = new_scene()
    sender.tell([scene.pod_alert("db-0", "Lone"), scene.pod_alert("db-1", "Lone")])

    def said() -> dict[str, tuple[str, str] | None]:
        return {rr["spec"]["targetResource"]["name"]: condition_of(rr) for rr in stack.objects(scene.key("Lone"))}

    def wait_said(**wanted: tuple[str, str] | None) -> None:
        expected = {name.replace("_", "-"): condition for name, condition in wanted.items()}
        wait_until(lambda: said() == expected, f"the conditions {expected}", poll_s=0.2, describe=said)

    yes, no = ("True", "the alert is silenced"), ("False", "the alert is not silenced")
    wait_said(db_0=None, db_1=None)
    # When one is silenced, Then its RR says so, and only its
    first = sender.silence(namespace=scene.namespace, pod="db-0")
    wait_said(db_0=yes, db_1=None)
    # And while it is polled on, neither is written again
    before = stack.objects(scene.key("Lone"))
    after_polls(stack, 5)
    assert stack.objects(scene.key("Lone")) == before
    assert [rr["status"]["phase"] for rr in before] == ["Active", "Active"]
    # And when that silence gives way to one of the other, both say so
    second = sender.silence(namespace=scene.namespace, pod="db-1")
    sender.end_silence(first)
    wait_said(db_0=no, db_1=yes)
    # And when that ends too, none is
    sender.end_silence(second)
    wait_said(db_0=no, db_1=no)
    assert [rr["status"]["phase"] for rr in stack.objects(scene.key("Lone"))] == ["Active", "Active"]


def test_what_max_alerts_cuts_off_is_fetched_at_once(tmp_path: Path) -> None:
    # Given an Alertmanager that sends two alerts of a group at most, and an hour between regular polls
    scene = new_scene()
    alerts = scene.pods(12)
    for stack, sender in pair(tmp_path, max_alerts=2, RECONCILE_EVERY="1h", RECONCILE_GRACE="1h"):
        wait_until(lambda stack=stack: polls(stack, "complete") + polls(stack, "partial") > 0, "the first poll")
        # When twelve fire
        sender.tell(alerts)
        # Then all are in the RR
        wait_storms(stack, scene, storm_rr(alerts))
        counts = counted(stack, scene, lambda seen: seen["new"] == 12, "all twelve")
        assert counts["new"] == 12
        metrics = stack.get("/metrics").body.decode()
        assert re.search(r"^stormfold_truncated_alerts_total 10\.0$", metrics, re.MULTILINE), metrics
        assert re.search(r'^stormfold_reconcile_alerts_total{outcome="fed"} 1[02]\.0$', metrics, re.MULTILINE), metrics


def test_a_restarted_alertmanager_resolves_nothing(tmp_path: Path) -> None:
    # Given a storm, and an Alertmanager that has been up for long enough
    scene = new_scene()
    for stack, sender in pair(tmp_path, RECONCILE_PEER_UPTIME="10s"):
        alerts = told(stack, sender, scene)
        after_polls(stack, 4)
        # When it is away for a while, then starts again and knows of no alert
        sender.process.kill()
        after_polls(stack, 4, "partial")
        sender.start()
        after_polls(stack, 5, "partial")
        # Then nothing was presumed
        assert storms(stack, scene) == [storm_rr(alerts)]
        # And when Prometheus has told it again, and it is up for long enough once more
        sender.tell(alerts)
        after_polls(stack, 4)
        stack.wait_settled()
        # Then everything still fires, and was never anything else
        found = outcome(stack, scene.key())
        counts = ledger(new=12, duplicate=found["api"]["ledger"]["duplicate"])
        assert found == expected(counts, storms=[storm_rr(alerts)])


def test_one_peer_is_enough_to_learn_what_fires_but_not_what_is_over(tmp_path: Path) -> None:
    # Given two peers of which one never answers, and a web process that is down
    scene = new_scene()
    port = free_port()
    settings = OFTEN | {"ALERTMANAGER_URL": f"http://127.0.0.1:{port},http://user:hush@127.0.0.1:{free_port()}"}
    with Stack(tmp_path, settings, token=TOKEN, workers=1) as stack:
        url = f"http://127.0.0.1:{stack.port}/api/v1/signals/prometheus"
        with Alertmanager(tmp_path / "am", webhook_url=url, token=TOKEN, port=port) as sender:
            stack.web.kill()
            # When alerts fire, then they are in their RR
            alerts = scene.pods(12)
            sender.tell(alerts)
            wait_storms(stack, scene, storm_rr(alerts))
            # And when they are over for the peer that answers, then that is not believed
            sender.tell([alert.resolved(at(60)) for alert in alerts])
            after_polls(stack, 6, "partial")
            assert storms(stack, scene) == [storm_rr(alerts)]
            assert polls(stack, "complete") == 0
            # And the log names the peer that is away once, without its password
            away = [line for line in stack.workers[0].log().splitlines() if "cannot be read" in line]
            assert len([line for line in away if f":{port}" not in line]) == 1, away
            assert "hush" not in stack.workers[0].log()


def test_what_stays_silenced_does_not_go_stale(tmp_path: Path) -> None:
    # Given a storm and a lone alert, silenced, so that Alertmanager repeats neither, and a short time without news
    scene = new_scene()
    lone = scene.pod_alert("db-0", "Lone")
    for stack, sender in pair(tmp_path, STALE_AFTER="6s"):
        alerts = scene.pods(12)
        sender.tell([*alerts, lone])
        wait_storms(stack, scene, storm_rr(alerts))
        wait_until(lambda stack=stack: stack.objects(scene.key("Lone")), "the lone alert's RR")
        sender.silence(namespace=scene.namespace)
        # When it is polled for longer than that
        after_polls(stack, 15)
        # Then both are active as before
        assert [(view["phase"], view["alertCount"], view["flaps"]) for view in storms(stack, scene)] == [
            ("Active", 12, 0)
        ]  # fmt: skip
        assert [rr["status"]["phase"] for rr in stack.objects(scene.key("Lone"))] == ["Active"]
