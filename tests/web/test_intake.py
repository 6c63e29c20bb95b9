"""From the socket into Redis: what is answered 202 is there, whatever else is in the body."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from app.alerts import Alert, storm_id
from app.cli.payloads import HEADERS
from app.entries import unpack
from lua_scripts.inbox import Inbox
from lua_scripts.keys import SHARDS, shard_of
from lua_scripts.records import Ledger
from tests.support.stack import Stack
from tests.support.waiting import at_once, wait_until

PAYLOADS = Path(__file__).parents[1] / "payloads"


@pytest.fixture
def clean(shared: Stack) -> Stack:
    """The shared stack with an empty Redis, which has forgotten the scripts too."""
    shared.redis.flush()
    shared.redis.client.script_flush()
    return shared


def _alert(name: str, **labels: str) -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {"alertname": name, **labels},
        "annotations": {"summary": "é"},
        "startsAt": "2026-11-21T19:56:09.858332194Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "",
    }


def _body(*alerts: object) -> bytes:
    return json.dumps({"version": "4", "alerts": alerts}).encode()


def _stored(stack: Stack) -> list[Alert]:
    inbox = Inbox(stack.redis.client)
    entries = [entry for shard in range(SHARDS) for entry in inbox.take(shard, 10_000)]
    return [alert for entry in entries for alert in unpack(entry.payload).alerts]


def _totals(stack: Stack) -> Ledger:
    return Inbox(stack.redis.client).totals()


def test_every_recorded_payload_is_accepted_and_stored(clean: Stack) -> None:
    # Given
    paths = sorted(path for path in PAYLOADS.glob("*.json") if not path.name.endswith(".headers.json"))
    sent = [alert for path in paths for alert in json.loads(path.read_bytes())["alerts"]]
    # When
    answers = [clean.post_raw(path.read_bytes()) for path in paths]
    # Then
    assert len(paths) == 7
    assert {answer.status for answer in answers} == {202}
    assert sum(answer.json["accepted"] for answer in answers) == len(sent)
    assert Counter((alert.fingerprint, alert.firing) for alert in _stored(clean)) == Counter(
        (alert["fingerprint"], alert["status"] == "firing") for alert in sent
    )
    assert _totals(clean) == Ledger(received=len(sent), pending=len(sent))


def test_the_sum_of_the_answer_is_the_ledger(clean: Stack) -> None:
    # Given two good alerts, one ignored, one malformed
    body = _body(_alert("A"), _alert("Watchdog"), {"labels": {}}, _alert("B"))
    # When
    answer = clean.post_raw(body)
    # Then
    answered = answer.json
    assert (answer.status, answered.pop("deliveryId").isalnum()) == (202, True)
    assert answered == {"accepted": 2, "ignored": 1, "deadLettered": 1}
    ledger = Ledger(received=4, ignored=1, pending=2, dead_lettered=1)
    assert clean.api("storms") == {"items": [], "next": None, "ledger": ledger.as_json()}
    metrics = clean.get("/metrics").body.decode()
    for name, count in ledger.as_json().items():
        series = "stormfold_alerts_pending" if name == "pending" else f'stormfold_alerts_total{{class="{name}"}}'
        assert f"\n{series} {count}.0\n" in metrics
    [letter], following = Inbox(clean.redis.client).dead_letters()
    assert (letter.path, letter.reason, letter.alert, following) == (
        "alerts.2.status", "Missing data for required field.", '{"labels": {}}', None,
    )  # fmt: skip


def test_what_was_answered_202_survives_the_death_of_redis(stack: Stack) -> None:
    # Given
    alerts = [_alert(f"A{number}", namespace="shop") for number in range(30)]
    assert stack.post_raw(_body(*alerts)).status == 202
    # When
    stack.redis.restart()
    # Then
    assert sorted(alert.labels["alertname"] for alert in _stored(stack)) == sorted(f"A{n}" for n in range(30))
    assert _totals(stack) == Ledger(received=30, pending=30)


def test_one_wake_up_per_shard_is_in_the_broker_however_many_webhooks_come(clean: Stack) -> None:
    # Given alerts of eight storm keys
    names = [f"A{number}" for number in range(8)]
    shards = {shard_of(storm_id((("cluster", ""), ("namespace", ""), ("alertname", name)))) for name in names}
    # When each is posted five times at once
    at_once(*[lambda name=name: clean.post_raw(_body(_alert(name))) for name in names] * 5)
    # Then
    wait_until(lambda: clean.redis.client.llen("ingest") >= len(shards), "the wake-ups in the broker")
    assert _totals(clean) == Ledger(received=40, pending=40)
    assert clean.redis.client.llen("ingest") == len(shards)


def test_ten_thousand_alerts_in_one_request(clean: Stack) -> None:
    # Given
    alerts = [_alert(f"A{number % 5}", pod=f"pod-{number}") for number in range(10_000)]
    # When
    answer = clean.post_raw(_body(*alerts))
    # Then
    assert (answer.status, answer.json["accepted"]) == (202, 10_000)
    assert {alert.labels["pod"] for alert in _stored(clean)} == {f"pod-{number}" for number in range(10_000)}


def test_bad_alerts_of_every_kind_spare_the_good_one(clean: Stack) -> None:
    # Given
    bad: list[object] = [
        None, 7, "alert", [], {}, {"labels": {"alertname": "A"}}, _alert("A") | {"labels": {}},
        _alert("A", pod="x" * 100_000), _alert("A", pod="a\0b"), _alert("A", pod="\ud800"),
        _alert("A") | {"labels": {"alertname": 1}}, _alert("A") | {"startsAt": "9999-01-01T00:00:00Z"},
        _alert("A") | {"startsAt": "1066-10-14T09:00:00Z"}, _alert("A") | {"status": "pending"},
        _alert("A") | {"status": "resolved"}, _alert("A") | {"annotations": [[[]]]},
    ]  # fmt: skip
    # When
    answer = clean.post_raw(_body(*bad, _alert("Good")))
    # Then
    answered = answer.json
    del answered["deliveryId"]
    assert answered == {"accepted": 1, "ignored": 0, "deadLettered": len(bad)}
    assert [alert.labels for alert in _stored(clean)] == [{"alertname": "Good"}]
    letters, _ = Inbox(clean.redis.client).dead_letters()
    assert sorted(int(letter.path.split(".")[1]) for letter in letters) == list(range(len(bad)))
    assert _totals(clean) == Ledger(received=len(bad) + 1, pending=1, dead_lettered=len(bad))


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "invalid-json"),
        (b"not json", 400, "invalid-json"),
        (b'{"alerts": ["\xff\xfe"]}', 400, "invalid-json"),
        (b"[" * 200_000, 400, "invalid-json"),
        (b"[]", 422, "invalid-envelope"),
        (b"{}", 422, "invalid-envelope"),
        (b'{"alerts": 1}', 422, "invalid-envelope"),
        (b'{"alerts": [], "version": "5"}', 422, "invalid-envelope"),
    ],
)
def test_bodies_that_are_no_webhook(clean: Stack, body: bytes, status: int, kind: str) -> None:
    # Given / When
    answer = clean.post_raw(body)
    # Then
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json["type"] == f"urn:stormfold:problem:{kind}"
    assert _totals(clean) == Ledger()


def _chunks(size: int) -> Iterator[bytes]:
    yield b'{"alerts": []}'
    for _ in range(size // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize(("megabytes", "status"), [(40, 413), (20, 202)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_with_and_without_a_stated_length(
    clean: Stack, megabytes: int, status: int, chunked: bool
) -> None:
    # Given
    connection = HTTPConnection("127.0.0.1", clean.port, timeout=20)
    body: Any = _chunks(megabytes << 20)
    # When
    # The server need not read all of it before it refuses.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(
            "POST", "/api/v1/signals/prometheus", body if chunked else b"".join(body), HEADERS, encode_chunked=chunked
        )
    answer = connection.getresponse()
    # Then
    assert answer.status == status
    if status == 413:
        assert json.loads(answer.read())["type"] == "urn:stormfold:problem:too-large"
    connection.close()


def test_credentials_are_asked_for_off_loopback(tmp_path: Path) -> None:
    # Given
    with Stack(tmp_path, {"HOST": "0.0.0.0", "WEBHOOK_TOKEN": "s3cr3t"}, workers=0, token="s3cr3t") as stack:
        # When
        good = stack.post_raw(_body())
        stack.headers = {}
        bad = stack.post_raw(_body())
        # Then
        assert (good.status, bad.status) == (202, 401)
        assert (stack.get("/healthz").status, stack.get("/").status) == (200, 401)
