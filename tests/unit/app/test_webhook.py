"""The webhook's contract, with a store that can be looked into: answers, what was stored, who was woken."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.notify import RECONCILE
from lua_scripts.errors import StoreFull, StoreTimeout, StoreUnreachable, StoreUnsafe

PAYLOADS = Path(__file__).parents[2] / "payloads"


def _counts(answer: Any) -> dict[str, int]:
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.get_json()
    assert len(body.pop("deliveryId")) == 32
    return body


@pytest.mark.parametrize(
    "name", ["firing", "mixed", "prometheus_firing", "prometheus_resolved", "resolved", "truncated"]
)
def test_what_alertmanager_really_sends_is_accepted(web: Any, name: str) -> None:
    # Given
    body = (PAYLOADS / f"{name}.json").read_bytes()
    # When
    answer = web.post(body)
    # Then
    sent = json.loads(body)["alerts"]
    assert _counts(answer) == {"accepted": len(sent), "ignored": 0, "deadLettered": 0}
    assert [(alert.fingerprint, alert.firing) for alert in web.store.alerts] == [
        (alert["fingerprint"], alert["status"] == "firing") for alert in sent
    ]


def test_each_alerts_own_status_counts_and_not_the_groups(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given a truncated group that says it is resolved
    body = {"version": "4", "status": "resolved", "truncatedAlerts": 3, "alerts": [raw_alert]}
    # When
    answer = web.post(body)
    # Then
    assert _counts(answer) == {"accepted": 1, "ignored": 0, "deadLettered": 0}
    assert [alert.firing for alert in web.store.alerts] == [True]
    assert "stormfold_truncated_alerts_total 3.0" in web.client.get("/metrics").text


def test_an_empty_list_of_alerts_is_fine_and_stores_nothing(web: Any) -> None:
    # Given / When
    answer = web.post({"alerts": []})
    # Then
    assert _counts(answer) == {"accepted": 0, "ignored": 0, "deadLettered": 0}
    assert (web.store.calls, web.woken) == ([], [])


def test_one_malformed_alert_is_a_dead_letter_and_spares_its_neighbours(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    bad = raw_alert | {"labels": {"alertname": "A", "pod": 7}}
    alerts = [raw_alert, bad, raw_alert | {"labels": {"alertname": "Watchdog"}}, None, raw_alert]
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert _counts(answer) == {"accepted": 2, "ignored": 1, "deadLettered": 2}
    assert [alert.labels for alert in web.store.alerts] == [raw_alert["labels"]] * 2
    delivery = answer.get_json()["deliveryId"]
    assert [(letter.letter_id, letter.path, letter.reason, letter.delivery_id) for letter in web.store.dead] == [
        (f"{delivery}-1", "alerts.1.labels.pod", "Not text.", delivery),
        (f"{delivery}-3", "alerts.3", "Not an object.", delivery),
    ]
    assert [json.loads(letter.alert) for letter in web.store.dead] == [bad, None]
    assert web.store.ignored == 1


def test_a_delivery_of_only_ignored_alerts_is_counted(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    alerts = [raw_alert | {"labels": {"alertname": "Watchdog"}}] * 3
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert _counts(answer) == {"accepted": 0, "ignored": 3, "deadLettered": 0}
    [(shard, entries, dead, ignored)] = web.store.calls
    assert (0 <= shard < 16, list(entries), list(dead), ignored) == (True, [], [], 3)


def test_ten_thousand_malformed_alerts_are_spread_and_kept_short(web: Any) -> None:
    # Given
    alerts = [{"labels": {"alertname": "x" * 1000}, "status": "odd"}] * 10_000
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert _counts(answer) == {"accepted": 0, "ignored": 0, "deadLettered": 10_000}
    assert sorted(call[0] for call in web.store.calls) == list(range(16))
    assert {len(call[2]) for call in web.store.calls} == {100}
    assert sum(len(letter.alert) for letter in web.store.dead) <= 1 << 20
    assert {letter.letter_id.rpartition("-")[2] for letter in web.store.dead} == {str(at) for at in range(1600)}
    assert all(letter.cut for letter in web.store.dead)
    assert web.store.unkept == 8400


def test_a_long_malformed_alert_is_cut_and_says_so(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    short, long = raw_alert | {"status": "odd"}, raw_alert | {"status": "odd", "annotations": {"a": "x" * 20_000}}
    # When
    web.post({"alerts": [short, long]})
    # Then
    assert [(len(letter.alert) < 1000, letter.cut) for letter in web.store.dead] == [(True, False), (False, True)]
    assert json.loads(web.store.dead[0].alert) == short
    assert len(web.store.dead[1].alert) == 16_384


def test_a_delivery_that_fires_is_admitted_by_what_it_becomes(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    over = raw_alert | {"status": "resolved", "endsAt": "2026-11-21T20:56:09Z"}
    # When one fires, one is over, one is malformed
    for alert in (raw_alert, over, raw_alert | {"status": "odd"}):
        assert web.post({"alerts": [alert]}).status_code == 202
    # Then only the first needs room
    [growth] = web.store.growths
    assert 1000 < growth < 5000


def test_ten_thousand_alerts_in_one_request(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    alerts = [raw_alert | {"fingerprint": f"{at:016x}", "labels": {"alertname": f"A{at % 7}"}} for at in range(10_000)]
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert _counts(answer) == {"accepted": 10_000, "ignored": 0, "deadLettered": 0}
    assert {alert.fingerprint for alert in web.store.alerts} == {alert["fingerprint"] for alert in alerts}


def test_each_shard_is_woken_when_the_store_says_so(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given alerts of many storm keys
    alerts = [raw_alert | {"labels": {"alertname": f"A{at}"}} for at in range(50)]
    # When
    web.post({"alerts": alerts})
    web.services.notifier.close()
    # Then
    assert sorted(web.woken) == sorted(call[0] for call in web.store.calls)


@pytest.mark.parametrize("truncated", [0, 3])
@pytest.mark.parametrize("url", ["", "http://alertmanager:9093"])
def test_what_was_left_out_is_asked_for_where_it_can_be(
    make_web: Any, raw_alert: dict[str, Any], url: str, truncated: int
) -> None:
    # Given a web process that knows Alertmanager or does not, and a payload with alerts left out or without
    web = make_web(ALERTMANAGER_URL=url)
    # When
    answer = web.post({"alerts": [raw_alert], "truncatedAlerts": truncated})
    web.services.notifier.close()
    # Then a comparison is asked for in Redis and by a wake-up, only where there is something and somebody to ask
    assert answer.status_code == 202
    asked = bool(url) and truncated > 0
    assert (web.store.asked, RECONCILE in web.woken) == ([("poll",)] if asked else [], asked)


def test_a_shard_that_is_already_awake_is_left_alone(web: Any, raw_alert: dict[str, Any]) -> None:
    # Given
    web.store.wake = False
    # When
    web.post({"alerts": [raw_alert]})
    web.services.notifier.close()
    # Then
    assert (len(web.store.calls), web.woken) == (1, [])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)."),
        (b"hello", "Expecting value: line 1 column 1 (char 0)."),
        (b'{"alerts": [}', "Expecting value: line 1 column 13 (char 12)."),
        (b'{"alerts": []} x', "Extra data: line 1 column 16 (char 15)."),
        (b'{"alerts": [NaN]}', "NaN is not JSON."),
        (b'{"alerts": [-Infinity]}', "-Infinity is not JSON."),
        (b'{"alerts": ["a\0b"]}', "Invalid control character at: line 1 column 15 (char 14)."),
        (b'{"alerts": ["\xff"]}', "The body is not UTF-8: invalid start byte at byte 13."),
        ('{"alerts": []}'.encode("utf-16"), "The body is not UTF-8: invalid start byte at byte 0."),
        (b'{"alerts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "The body is nested too deeply."),
        (b'{"alerts": ' + b'{"a":' * 100_000, "The body is nested too deeply."),
    ],
)
def test_what_is_not_json_is_a_400(web: Any, body: bytes, detail: str) -> None:
    # Given / When
    answer = web.post(body)
    # Then
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert answer.get_json() == {
        "type": "urn:stormfold:problem:invalid-json", "title": "The body is not JSON", "status": 400, "detail": detail
    }  # fmt: skip
    assert web.store.calls == []


def test_a_huge_number_is_a_400_and_not_a_crash(web: Any) -> None:
    # Given
    answer = web.post(b'{"alerts": [' + b"9" * 5000 + b"]}")
    # When / Then
    assert (answer.status_code, answer.get_json()["type"]) == (400, "urn:stormfold:problem:invalid-json")


@pytest.mark.parametrize("depth", range(100, 1000, 20))
def test_nesting_just_within_the_limit_is_a_dead_letter_or_a_400(web: Any, depth: int) -> None:
    # Given
    body = b'{"alerts": [' + b"[" * depth + b"]" * depth + b"]}"
    # When
    answer = web.post(body)
    # Then
    assert answer.status_code in (202, 400)
    if answer.status_code == 202:
        assert _counts(answer) == {"accepted": 0, "ignored": 0, "deadLettered": 1}


def test_a_wrong_envelope_is_a_422_with_every_path(web: Any) -> None:
    # Given / When
    answer = web.post({"alerts": {"a": 1}, "version": "3"})
    # Then
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert answer.get_json() == {
        "type": "urn:stormfold:problem:invalid-envelope",
        "title": "The body is JSON but no Alertmanager webhook of version 4",
        "status": 422,
        "errors": [
            {"path": "version", "detail": "Must be equal to 4."},
            {"path": "alerts", "detail": "Not a list."},
        ],
    }
    assert web.store.calls == []


@pytest.mark.parametrize("body", [[], "x", 1, None, True])
def test_json_that_is_no_object_is_a_422(web: Any, body: object) -> None:
    # Given / When
    answer = web.post(json.dumps(body).encode())
    # Then
    assert (answer.status_code, answer.get_json()["errors"]) == (422, [{"path": "", "detail": "Not an object."}])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "application/json; charset=utf-8"}, 202),
        ({"Content_Type": "application/vnd.api+json"}, 202),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": ""}, 415),
        ({"Content_Encoding": "gzip"}, 415),
    ],
)
def test_only_what_is_said_to_be_json_is_read(web: Any, headers: dict[str, str], status: int) -> None:
    # Given / When
    answer = web.post(b'{"alerts": []}', **headers)
    # Then
    assert answer.status_code == status
    if status == 415:
        assert answer.get_json()["type"] == "urn:stormfold:problem:unsupported-media-type"


@pytest.mark.parametrize(("size", "status"), [(1023, 202), (1024, 202), (1025, 413), (5000, 413)])
def test_a_body_over_the_limit_is_a_413(make_web: Any, size: int, status: int) -> None:
    # Given
    web = make_web(MAX_BODY="1KiB")
    # When
    answer = web.post(b'{"alerts": []}'.ljust(size))
    # Then
    assert answer.status_code == status
    if status == 413:
        assert answer.get_json() == {
            "type": "urn:stormfold:problem:too-large", "title": "The body is too large", "status": 413,
            "detail": "At most 1024 bytes are taken (STORMFOLD_MAX_BODY).",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreFull("x"), "redis-out-of-memory"),
        (StoreTimeout("x"), "redis-timeout"),
        (StoreUnreachable("x"), "redis-unreachable"),
        (StoreUnsafe("x"), "redis-unsafe"),
    ],
)
@pytest.mark.parametrize("call", [0, 1])
def test_a_store_that_fails_is_a_503_at_whichever_call(
    web: Any, raw_alert: dict[str, Any], error: Any, kind: str, call: int
) -> None:
    # Given alerts of many shards, and a store that fails at once or after the first shard
    alerts = [raw_alert | {"labels": {"alertname": f"A{at}"}} for at in range(50)]
    web.store.failure, web.store.fails_from_call = error, call
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.get_json()["type"] == f"urn:stormfold:problem:{kind}"
    assert len(web.store.calls) == call


def test_a_store_that_is_slow_with_every_shard_meets_the_deadline(
    web: Any, raw_alert: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a store that takes 0.3 s a call, on a clock that tells just that
    alerts = [raw_alert | {"labels": {"alertname": f"A{at}"}} for at in range(50)]
    accept, clock = web.store.accept, [100.0]

    def slow(*call: Any) -> Any:
        clock[0] += 0.3
        return accept(*call)

    monkeypatch.setattr(web.store, "accept", slow)
    monkeypatch.setattr("app.webhook.time", SimpleNamespace(monotonic=lambda: clock[0]))
    # When
    answer = web.post({"alerts": alerts})
    # Then
    assert (answer.status_code, answer.get_json()["type"]) == (503, "urn:stormfold:problem:redis-timeout")
    assert len(web.store.calls) == 2


def test_other_methods_and_paths_are_problems_too(web: Any) -> None:
    # Given / When
    get = web.client.get("/api/v1/signals/prometheus")
    nowhere = web.client.get("/nowhere")
    # Then
    assert (get.status_code, get.get_json()["type"]) == (405, "urn:stormfold:problem:method-not-allowed")
    assert set(get.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    assert (nowhere.status_code, nowhere.get_json()["type"]) == (404, "urn:stormfold:problem:not-found")


def test_an_unforeseen_failure_is_a_500_which_alertmanager_retries(
    web: Any, raw_alert: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    def broken(*call: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(web.store, "accept", broken)
    # When
    answer = web.post({"alerts": [raw_alert]})
    # Then
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert answer.get_json()["type"] == "urn:stormfold:problem:internal-server-error"
