"""A malformed alert from webhook to RemediationRequest: seen, counted, mended and replayed by an operator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lua_scripts.inbox import Inbox, LetterCounts
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import Scene, new_scene
from tests.support.stack import STORMFOLD, Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, body_of


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("letters"), workers=1) as running:
        yield running


def cli(stack: Stack, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What an operator types."""
    return subprocess.run(
        [STORMFOLD, "deadletters", *arguments], env=stack.environ, cwd=stack.folder, input=stdin, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def spoiled(alerts: list[Alert], **changes: Any) -> bytes:
    """A webhook in which every alert has a label, or a field, that cannot be."""
    body = json.loads(body_of(alerts))
    for alert in body["alerts"]:
        alert["labels"] |= changes.get("labels", {})
        alert |= {name: value for name, value in changes.items() if name != "labels"}
    return json.dumps(body).encode()


def buried(stack: Stack, body: bytes) -> list[str]:
    """Posts malformed alerts; the ids of their letters."""
    answer = stack.post_raw(body)
    assert (answer.status, answer.json["accepted"]) == (202, 0)
    return [f"{answer.json['deliveryId']}-{at}" for at in range(answer.json["deadLettered"])]


def totals(stack: Stack) -> dict[str, int]:
    return dict(stack.api("storms")["ledger"])


def test_one_is_mended_by_setting_a_field(stack: Stack) -> None:
    # Given an alert whose pod is no text
    scene: Scene = new_scene()
    alert = scene.pod_alert("web-0")
    before = totals(stack)
    [letter] = buried(stack, spoiled([alert], labels={"pod": None}))
    # When an operator looks, replays it as it is, and mends it
    listed, shown = cli(stack, "list"), json.loads(cli(stack, "show", letter).stdout)
    as_it_is = cli(stack, "replay", letter)
    still_there = json.loads(cli(stack, "show", letter).stdout)
    mended = cli(stack, "replay", letter, "--set", "labels.pod=web-0")
    stack.wait_received(scene.key(), 1)
    # Then he was told what is wrong, nothing happened before it was right, and then it has its RR
    assert letter in listed.stdout
    assert "1 dead letter." in listed.stdout
    assert (shown["path"], shown["cut"], json.loads(shown["alert"])["labels"]["pod"]) == (
        "alerts.0.labels.pod", False, None
    )  # fmt: skip
    assert (as_it_is.returncode, as_it_is.stderr.splitlines()[0]) == (1, f"{letter}: labels.pod: Not text.")
    assert still_there == shown
    assert (mended.returncode, mended.stdout) == (0, "1 replayed.\n")
    assert outcome(stack, scene.key()) == expected(ledger(new=1), singles=[single_rr(alert)])
    # and the ledger has it once: as new
    after = totals(stack)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "received": 1, "new": 1
    }  # fmt: skip
    assert cli(stack, "show", letter).returncode == 1


def test_all_are_replayed_and_what_cannot_be_stays(stack: Stack) -> None:
    # Given fifteen alerts of a storm with an odd status, one that was cut, and one that the rules ignore
    scene = new_scene()
    alerts = scene.pods(15)
    buried(stack, spoiled(alerts, status="odd"))
    [long] = buried(stack, spoiled([scene.pod_alert("long", "Long")], status="odd", annotations={"text": "x" * 20_000}))
    watchdog = Alert({"alertname": "Watchdog"}, alerts[0].starts_at)
    buried(stack, spoiled([watchdog], status="odd"))
    ignored = totals(stack)["ignored"]
    # When all are replayed with a status
    done = cli(stack, "replay", "--all", "--set", "status=firing")
    stack.wait_received(scene.key(), 15)
    # Then they are the storm they would have been, and the one that was cut is left, with the reason
    assert outcome(stack, scene.key()) == expected(ledger(new=15), storms=[storm_rr(alerts)])
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "16 replayed."
    assert f"{long}: only the first 16384 characters of the alert were kept" in done.stderr
    assert json.loads(cli(stack, "show", long).stdout)["cut"] is True
    assert totals(stack)["ignored"] == ignored + 1
    # And given in full, by a file or by standard input, it can be
    whole = json.loads(body_of([scene.pod_alert("long", "Long")]))["alerts"][0]
    file = stack.folder / "alert.json"
    file.write_text(json.dumps(whole))
    assert cli(stack, "replay", long, "--edit", str(file)).returncode == 0
    stack.wait_received(scene.key("Long"), 1)
    [again] = buried(stack, spoiled([scene.pod_alert("long", "Long")], status="odd"))
    assert cli(stack, "replay", again, "--stdin", stdin=json.dumps(whole)).returncode == 0
    stack.wait_received(scene.key("Long"), 2)
    assert outcome(stack, scene.key("Long"))["api"]["ledger"] == ledger(new=1, duplicate=1)


def test_what_an_operator_can_see_is_in_the_metrics(stack: Stack) -> None:
    # Given letters that are held, and dropped
    scene = new_scene()
    first, second = buried(stack, spoiled([scene.pod_alert("a"), scene.pod_alert("b")], status="odd"))
    assert cli(stack, "drop", first).returncode == 0
    # When
    text = stack.get("/metrics").body.decode()
    # Then
    assert "stormfold_dead_letters 1.0" in text
    assert "stormfold_dead_letters_shed_total 0.0" in text
    assert "stormfold_dead_letters_replayed_total" in text
    assert cli(stack, "drop", second, first).stderr == f"Error: no dead letter {first}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--all"], ["a", "b", "--stdin"], ["--all", "--stdin"], ["a", "--set", "labels.pod"]]
)
def test_what_makes_no_sense_is_refused(stack: Stack, arguments: list[str]) -> None:
    assert cli(stack, "replay", *arguments).returncode == 2


def test_a_burst_of_malformed_alerts_is_bounded_in_redis(tmp_path: Path) -> None:
    # Given no worker that would trim
    with Stack(tmp_path, workers=0) as stack:
        body = json.dumps({"alerts": [{"status": "odd", "labels": {"x": "y" * 15_000}}] * 100}).encode()
        # When 40 MB of malformed alerts come
        for _ in range(27):
            assert stack.post_raw(body).status == 202
        # Then Redis keeps the last of them within a bound, and every one is counted
        used = int(stack.redis.client.info("memory")["used_memory"])
        assert used < 16 << 20
        counts = Inbox(stack.redis.client).letter_counts()
        assert counts.held + counts.shed == 2700
        assert counts != LetterCounts(2700)
        wait_until(
            lambda: f"stormfold_dead_letters_shed_total {float(counts.shed)}" in stack.get("/metrics").body.decode(),
            "the metric to say so",
        )
