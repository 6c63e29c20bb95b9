"""Health, metrics, the storms API and the page, with a store that a test fills."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.storms_view import age
from app.times import rfc3339
from lua_scripts.audit import Audited
from lua_scripts.budget import Health
from lua_scripts.errors import StoreTimeout, StoreUnreachable, StoreUnsafe
from lua_scripts.inbox import LetterCounts
from lua_scripts.polls import PollReport
from lua_scripts.records import Ledger, MemberRecord, ResourceRecord, StormRecord

LEDGER = Ledger(received=9, new=2, duplicate=1, resolved=1, ignored=2, pending=2, dead_lettered=1)
LEDGER_JSON = {
    "received": 9, "new": 2, "duplicate": 1, "reopened": 0, "resolved": 1, "outdated": 0, "ignored": 2, "pending": 2,
    "deadLettered": 1,
}  # fmt: skip
STORM = StormRecord(
    storm_id="0123456789abcdef", name="storm-a-0123456789", namespace="shop",
    key={"cluster": "eu", "namespace": "shop", "alertname": "A"}, phase="ACTIVE", storm_type="rate", epoch_ms=1,
    alert_count=12, total_alerts=15, first_seen_ms=1_795_290_969_858, last_seen_ms=1_795_290_970_007, flaps=2, fence=7,
    ledger=Ledger(received=15, new=15),
)  # fmt: skip
STORM_JSON = {
    "id": "storm-a-0123456789", "namespace": "shop",
    "stormKey": {"cluster": "eu", "namespace": "shop", "alertname": "A"}, "phase": "ACTIVE", "stormType": "rate",
    "alertCount": 12, "totalAlerts": 15, "firstSeen": "2026-11-21T19:56:09.858Z",
    "lastSeen": "2026-11-21T19:56:10.007Z", "flaps": 2, "ledger": Ledger(received=15, new=15).as_json(),
}  # fmt: skip


def test_health_needs_no_redis(web: Any) -> None:
    # Given
    web.store.failure = StoreTimeout("frozen")
    # When
    answer = web.client.get("/healthz")
    # Then
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_ready_when_redis_is(web: Any) -> None:
    answer = web.client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ready"})


def test_ready_with_a_warning(web: Any) -> None:
    web.store.warnings = ("Redis has no maxmemory",)
    answer = web.client.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (
        200, {"status": "ready", "warnings": ["Redis has no maxmemory"]}
    )  # fmt: skip


def test_not_ready_says_why(web: Any) -> None:
    # Given
    web.store.failure = StoreUnsafe("it may evict")
    # When
    answer = web.client.get("/readyz")
    # Then
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert (answer.get_json()["type"], answer.get_json()["detail"]) == (
        "urn:stormfold:problem:redis-unsafe", "it may evict"
    )  # fmt: skip


def _series(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines if "_created" not in name}


def test_metrics_show_the_ledger_and_the_queues(web: Any) -> None:
    # Given
    web.store.ledger = LEDGER
    web.store.letters = LetterCounts(held=4, shed=5)
    web.store.audit = Audited(shards=1, storms=2, oldest_ms=9_500)
    web.store.beats = {"worker-1": 8_500}
    web.store.kube = Health(
        paused_ms=1500, failures=6, undefined_since_ms=9_000, refused=7, throttled=8, writes=9, waiting=10
    )
    # When
    series = _series(web.client.get("/metrics").text)
    # Then
    age_s = series.pop("stormfold_inbox_oldest_age_seconds")
    assert age_s > 0
    assert {name: value for name, value in series.items() if not name.startswith("stormfold_http")} == {
        "stormfold_redis_up": 1,
        **{f'stormfold_alerts_total{{class="{name}"}}': n for name, n in LEDGER_JSON.items() if name != "pending"},
        "stormfold_alerts_pending": 2,
        "stormfold_inbox_entries": 2,
        "stormfold_dead_letters": 4,
        "stormfold_dead_letters_shed_total": 5,
        "stormfold_dead_letters_replayed_total": 0,
        "stormfold_ledger_unbalanced": 3,
        "stormfold_ledger_checked_timestamp_seconds": 9.5,
        'stormfold_worker_last_live_timestamp_seconds{worker="worker-1"}': 8.5,
        "stormfold_kube_paused_seconds": 1.5,
        "stormfold_kube_failures": 6,
        "stormfold_kube_definition_missing": 1,
        "stormfold_kube_refused_total": 7,
        "stormfold_kube_throttled_total": 8,
        "stormfold_kube_writes_total": 9,
        "stormfold_kube_waiting": 10,
        "stormfold_storms_open": 3,
        "stormfold_storms_due": 1,
        "stormfold_due_lag_seconds": 1.5,
        "stormfold_rival_objects": 2.0,
        'stormfold_wakeups_total{outcome="published"}': 0,
        'stormfold_wakeups_total{outcome="failed"}': 0,
        "stormfold_truncated_alerts_total": 0,
    }


def test_a_replayed_letter_lets_no_counter_fall(web: Any) -> None:
    # Given a ledger of which a replay took one received and one dead letter off
    web.store.ledger = Ledger(received=4, new=2, dead_lettered=2)
    web.store.letters = LetterCounts(replayed=1)
    # When
    series = _series(web.client.get("/metrics").text)
    # Then
    names = ("received", "new", "deadLettered")
    assert [series[f'stormfold_alerts_total{{class="{name}"}}'] for name in names] == [5, 2, 3]
    assert series["stormfold_dead_letters_replayed_total"] == 1


def test_metrics_count_requests_by_route_and_problems_by_type(web: Any) -> None:
    # Given
    web.post({"alerts": []})
    web.post(b"no")
    web.client.get("/api/v1/storms/nothing")
    web.client.open("/healthz", method="BREW")
    web.client.get("/made/up")
    # When
    series = _series(web.client.get("/metrics").text)
    # Then
    webhook, storm = "/api/v1/signals/prometheus", "/api/v1/storms/<name>"
    assert {name: n for name, n in series.items() if name.startswith("stormfold_http_requests_total")} == {
        f'stormfold_http_requests_total{{method="{method}",route="{route}",status="{status}"}}': 1
        for method, route, status in (
            ("POST", webhook, 202), ("POST", webhook, 400), ("GET", storm, 404), ("other", "unmatched", 405),
            ("GET", "unmatched", 404),
        )
    }  # fmt: skip
    assert series['stormfold_http_problems_total{type="invalid-json"}'] == 1
    assert series[f'stormfold_http_request_seconds_count{{route="{webhook}"}}'] == 2


def test_metrics_of_comparing_with_alertmanager(web: Any) -> None:
    # Given no poll yet, then some of two peers
    before = web.client.get("/metrics").text
    web.store.polls = PollReport(7, 2, 40, 3, {"http://one:9093": 1500, "http://other:9093": 2000})
    # When
    lines = [line for line in web.client.get("/metrics").text.splitlines() if line.startswith("stormfold_reconcile")]
    # Then they are there as soon as there is something to say
    assert "stormfold_reconcile" not in before
    assert lines == [
        'stormfold_reconcile_polls_total{outcome="complete"} 7.0',
        'stormfold_reconcile_polls_total{outcome="partial"} 2.0',
        'stormfold_reconcile_alerts_total{outcome="fed"} 40.0',
        'stormfold_reconcile_alerts_total{outcome="presumed"} 3.0',
        'stormfold_reconcile_last_success_timestamp_seconds{peer="http://one:9093"} 1.5',
        'stormfold_reconcile_last_success_timestamp_seconds{peer="http://other:9093"} 2.0',
    ]


def test_metrics_come_without_redis_too(web: Any) -> None:
    # Given
    web.store.failure = StoreUnreachable("refused")
    # When
    answer = web.client.get("/metrics")
    # Then
    series = _series(answer.text)
    assert (answer.status_code, series["stormfold_redis_up"]) == (200, 0)
    assert not [name for name in series if name.startswith("stormfold_alerts")]


def test_the_list_of_storms(web: Any) -> None:
    # Given
    web.store.storms, web.store.ledger, web.store.following = [STORM], LEDGER, "3.100"
    # When
    answer = web.client.get("/api/v1/storms?cursor=2.5&limit=7")
    # Then
    assert answer.get_json() == {"items": [STORM_JSON], "next": "3.100", "ledger": LEDGER_JSON}
    assert web.store.asked == [("page", "2.5", 7)]


def test_one_storm_and_none(web: Any) -> None:
    # Given
    web.store.storms = [replace(STORM, storm_type="")]
    # When
    found, missing = web.client.get(f"/api/v1/storms/{STORM.name}"), web.client.get("/api/v1/storms/storm-b-1")
    # Then
    assert found.get_json() == STORM_JSON | {"stormType": None}
    assert (missing.status_code, missing.get_json()) == (
        404,
        {
            "type": "urn:stormfold:problem:not-found", "title": "There is nothing here", "status": 404,
            "detail": "No open storm is called 'storm-b-1'.",
        },
    )  # fmt: skip


def test_the_members_of_a_storm(web: Any) -> None:
    # Given a member with its resource, and one beyond MAX_MEMBERS
    web.store.storms, web.store.following = [STORM], "m.5"
    resource = ResourceRecord("Pod", "cart-1", "shop", "n1", 1, 2)
    web.store.records = [
        MemberRecord("f1", "firing", 1_795_290_969_858, resource), MemberRecord("f2", "resolved", 0, None)
    ]  # fmt: skip
    # When
    answer = web.client.get(f"/api/v1/storms/{STORM.name}/members?cursor=o.12")
    # Then
    assert answer.get_json() == {
        "items": [
            {
                "fingerprint": "f1", "status": "firing", "startsAt": "2026-11-21T19:56:09.858Z",
                "resource": {"kind": "Pod", "name": "cart-1", "namespace": "shop"},
            },
            {"fingerprint": "f2", "status": "resolved", "startsAt": None, "resource": None},
        ],
        "next": "m.5",
    }  # fmt: skip
    assert web.store.asked == [("members", STORM.storm_id, "o.12", 100)]
    assert web.client.get("/api/v1/storms/storm-b-1/members").status_code == 404


@pytest.mark.parametrize(
    "query", ["cursor=x", "cursor=", "cursor=9.9", "cursor=-1.0", "limit=0", "limit=501", "limit=x"]
)
def test_a_wrong_query_is_a_400_that_names_it(web: Any, query: str) -> None:
    # Given / When
    answer = web.client.get(f"/api/v1/storms?{query}")
    # Then
    assert (answer.status_code, answer.get_json()["type"]) == (400, "urn:stormfold:problem:invalid-query")
    assert [error["path"] for error in answer.get_json()["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "path", ["/api/v1/storms", f"/api/v1/storms/{STORM.name}", f"/api/v1/storms/{STORM.name}/members"]
)
def test_without_redis_the_api_is_a_503(web: Any, path: str) -> None:
    # Given
    web.store.failure = StoreUnreachable("refused")
    # When
    answer = web.client.get(path)
    # Then
    assert (answer.status_code, answer.get_json()["type"]) == (503, "urn:stormfold:problem:redis-unreachable")


def test_the_page_shows_the_worst_storm_first_and_escapes_what_alerts_say(web: Any) -> None:
    # Given
    gathering = replace(STORM, name="storm-b-1", phase="GATHERING", alert_count=90, key={"alertname": "B"})
    key = {"namespace": "Not DNS", "alertname": "<script>alert(1)</script>"}
    worse = replace(STORM, name="storm-c-2", alert_count=50, key=key)
    web.store.storms, web.store.ledger = [gathering, STORM, worse], LEDGER
    # When
    answer = web.client.get("/")
    # Then
    assert (answer.status_code, answer.content_type) == (200, "text/html; charset=utf-8")
    order = [answer.text.index(f"/{name}/members") for name in ("storm-c-2", STORM.name, "storm-b-1")]
    assert order == sorted(order)
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "2 active · stormfold" in answer.text
    assert ("cluster=eu" in answer.text, "namespace=Not DNS" in answer.text) == (True, True)
    assert "namespace=shop" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_is_calm_when_nothing_is_open(web: Any) -> None:
    assert "No open storms. All quiet." in web.client.get("/").text


def test_the_page_comes_without_redis_and_says_so(web: Any) -> None:
    # Given
    web.store.failure = StoreUnreachable("no connection to Redis")
    # When
    answer = web.client.get("/")
    # Then
    assert answer.status_code == 503
    assert "Redis cannot be reached." in answer.text
    assert "<main" in answer.text


def test_the_pages_own_files_are_served_and_nothing_else_is_loaded(web: Any) -> None:
    # Given
    page = web.client.get("/").text
    # When / Then
    for name in ("storms.css", "storms.js"):
        assert f"/static/{name}" in page
        assert web.client.get(f"/static/{name}").status_code == 200
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0s"), (999, "0s"), (59_999, "59s"), (200_000, "3m 20s"), (18_060_000, "5h 1m"), (187_200_000, "2d 4h")],
)
def test_ages(ms: int, text: str) -> None:
    assert age(ms) == text


def test_moments_keep_their_milliseconds() -> None:
    assert [rfc3339(ms) for ms in (0, 1_795_290_969_001, 1_795_290_969_999)] == [
        "1970-01-01T00:00:00.000Z", "2026-11-21T19:56:09.001Z", "2026-11-21T19:56:09.999Z"
    ]  # fmt: skip
