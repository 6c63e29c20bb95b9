"""Alerts that become no member: ignored, unknown, malformed or none at all; each is counted and harms no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lua_scripts.inbox import Inbox
from tests.support.expect import LEDGER, expected, ledger, outcome, single_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.webhook import Alert, at, body_of


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("counted"), {"SINGLE_HOLD": "300ms"}) as stack:
        yield stack


def totals(stack: Stack) -> dict[str, int]:
    """The ledger over all storms and what met none."""
    found: dict[str, int] = stack.api("storms")["ledger"]
    assert set(found) == set(LEDGER)
    assert found["received"] == sum(count for name, count in found.items() if name != "received"), found
    return found


def gained(stack: Stack, before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in totals(stack).items() if count != before[name]}


def test_ignored_alerts_are_counted_and_else_passed_over(stack: Stack) -> None:
    # Given the ledger, and a Watchdog beside an alert
    scene = new_scene()
    before = totals(stack)
    alert = scene.pod_alert("web-0")
    watchdog = Alert({**alert.labels, "alertname": "Watchdog"}, at(0))
    # When both come in one webhook
    answer = stack.post([watchdog, alert])
    stack.wait_received(scene.key(), 1)
    # Then only the alert got an object
    assert {name: answer[name] for name in ("accepted", "ignored", "deadLettered")} == {
        "accepted": 1, "ignored": 1, "deadLettered": 0,
    }  # fmt: skip
    assert gained(stack, before) == {"received": 2, "new": 1, "ignored": 1}
    assert outcome(stack, scene.key()) == expected(ledger(new=1), singles=[single_rr(alert)])
    assert outcome(stack, scene.key() | {"alertname": "Watchdog"}) == expected(None)


def test_unknown_resolved_opens_nothing(stack: Stack) -> None:
    # Given a resolved alert whose firing never came
    scene = new_scene()
    before = totals(stack)
    alert = scene.pod_alert("web-0")
    # When it comes, comes again, and its firing comes after all
    for late in (alert.resolved(at(30)), alert.resolved(at(30)), alert):
        stack.post([late])
        stack.wait_settled()
    # Then no storm is open, no object is there, and each of the three is accounted for
    assert outcome(stack, scene.key()) == expected(None)
    assert gained(stack, before) == {"received": 3, "outdated": 2, "duplicate": 1}
    # And when it fires after that end, it is news
    again = alert.fired_again(at(40))
    stack.post([again])
    stack.wait_received(scene.key(), 1)
    assert outcome(stack, scene.key()) == expected(ledger(new=1), singles=[single_rr(again)])


def test_dead_letter_spares_its_neighbours(stack: Stack) -> None:
    # Given three alerts, the middle one of which has labels that are no map
    scene = new_scene()
    before = totals(stack)
    first, bad, last = scene.pods(3)
    body: dict[str, Any] = json.loads(body_of([first, bad, last]))
    body["alerts"][1]["labels"] = ["no", "map"]
    # When they come in one webhook
    answer = stack.post_raw(json.dumps(body).encode())
    stack.wait_received(scene.key(), 2)
    # Then two are taken in, and the third is kept with the reason and the place
    assert answer.status == 202
    counts = {name: answer.json[name] for name in ("accepted", "ignored", "deadLettered")}
    assert counts == {"accepted": 2, "ignored": 0, "deadLettered": 1}
    assert outcome(stack, scene.key()) == expected(ledger(new=2), singles=[single_rr(first), single_rr(last)])
    assert gained(stack, before) == {"received": 3, "new": 2, "deadLettered": 1}
    letters, _ = Inbox(stack.redis.client).dead_letters(None, 100)
    [letter] = [one for one in letters if one.delivery_id == answer.json["deliveryId"]]
    assert "alerts" in letter.path or "labels" in letter.path
    assert letter.reason
    assert json.loads(letter.alert)["fingerprint"] == bad.fingerprint


def test_empty_list_of_alerts(stack: Stack) -> None:
    # Given the ledger
    before = totals(stack)
    # When a well-formed webhook without alerts comes
    answer = stack.post([])
    # Then it is accepted and changes nothing
    assert (answer["accepted"], answer["ignored"], answer["deadLettered"]) == (0, 0, 0)
    assert gained(stack, before) == {}
