"""The payload builder against bodies that a real Alertmanager sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.payloads import (
    NEVER,
    SHAPES,
    PostedAlert,
    Shape,
    fingerprint,
    storm,
    timestamp,
    unrelated,
    webhook,
    webhooks,
)

RECORDED = sorted(
    path for path in (Path(__file__).parents[1] / "payloads").glob("*.json") if not path.name.endswith(".headers.json")
)
NOW = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)


def rebuilt(alert: dict[str, Any]) -> PostedAlert:
    return PostedAlert(
        labels=alert["labels"],
        annotations=alert["annotations"],
        starts_at=datetime.fromisoformat(alert["startsAt"]),
        ends_at=None if alert["endsAt"] == NEVER else datetime.fromisoformat(alert["endsAt"]),
        generator_url=alert["generatorURL"],
    )


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_body_is_built_again_from_its_alerts(path: Path) -> None:
    # Given a body that Alertmanager sent
    recorded = json.loads(path.read_text())

    # When the builder makes one of the same alerts
    body = webhook(
        [rebuilt(alert) for alert in recorded["alerts"]],
        group_by=list(recorded["groupLabels"]),
        receiver=recorded["receiver"],
        external_url=recorded["externalURL"],
        truncated=recorded["truncatedAlerts"],
    )

    # Then it is the same body, up to what Alertmanager alone knows: its route, the alerts it cut off, nanoseconds
    for built, sent in zip(body["alerts"], recorded["alerts"], strict=True):
        assert built["startsAt"][:-1] == sent["startsAt"][:-1][: len(built["startsAt"]) - 1]
        built["startsAt"] = sent["startsAt"]
        built["endsAt"] = sent["endsAt"]
    assert body["groupKey"].split(":", 1)[1] == recorded["groupKey"].rsplit(":", 1)[1]
    body["groupKey"] = recorded["groupKey"]
    if recorded["truncatedAlerts"]:
        for unknown in ("status", "commonLabels", "commonAnnotations"):
            body[unknown] = recorded[unknown]
    assert body == recorded
    assert list(body) == list(recorded)


def test_every_recorded_fingerprint_is_computed_from_the_labels() -> None:
    # Given every alert that was recorded
    alerts = [alert for path in RECORDED for alert in json.loads(path.read_text())["alerts"]]

    # When and Then
    assert len(alerts) >= 13
    assert [fingerprint(alert["labels"]) for alert in alerts] == [alert["fingerprint"] for alert in alerts]


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)))
def test_a_timestamp_reads_back_as_the_same_time(at: datetime) -> None:
    text = timestamp(at)

    assert datetime.fromisoformat(text) == at
    assert not text.endswith((".Z", "0Z")) or "." not in text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_storm_has_distinct_alerts_of_one_group(shape: Shape) -> None:
    # When
    alerts = storm(shape, 50, starts_at=NOW, number=3, seed=7)

    # Then its alerts are distinct, make one group, and the same arguments make the same storm
    assert len({alert.fingerprint for alert in alerts}) == 50
    assert [len(body["alerts"]) for body in webhooks(alerts)] == [50]
    assert alerts == storm(shape, 50, starts_at=NOW, number=3, seed=7)
    # and another number is another group, another seed other objects of the same group
    other = storm(shape, 50, starts_at=NOW, number=4, seed=7)
    again = storm(shape, 50, starts_at=NOW, number=3, seed=8)
    assert webhooks(other)[0]["groupLabels"] != webhooks(alerts)[0]["groupLabels"] == webhooks(again)[0]["groupLabels"]
    assert not {alert.fingerprint for alert in alerts} & {alert.fingerprint for alert in again}


def test_one_pod_is_one_pod() -> None:
    assert len({alert.labels["pod"] for alert in storm("one-pod", 10, starts_at=NOW)}) == 1
    assert len({alert.labels["pod"] for alert in storm("pods", 10, starts_at=NOW)}) == 10


def test_bodies_are_cut_at_the_size_of_a_request() -> None:
    # Given a storm of 25 and three unrelated alerts
    alerts = [*storm("pods", 25, starts_at=NOW), *unrelated(starts_at=NOW)]

    # When they are cut into requests of at most ten
    bodies = webhooks(alerts, per_request=10)

    # Then groups are not mixed and nothing is lost
    assert [len(body["alerts"]) for body in bodies] == [10, 10, 5, 1, 1, 1]
    assert [alert["fingerprint"] for body in bodies for alert in body["alerts"]] == [a.fingerprint for a in alerts]


def test_resolving_keeps_the_identity_and_the_start() -> None:
    # Given a firing alert
    firing = storm("pods", 1, starts_at=NOW)[0]

    # When it resolves and fires again
    resolved = firing.resolved(NOW + timedelta(seconds=30))
    again = resolved.fired_again(NOW + timedelta(seconds=60))

    # Then
    assert (firing.as_json()["status"], firing.as_json()["endsAt"]) == ("firing", NEVER)
    assert resolved.as_json() == firing.as_json() | {"status": "resolved", "endsAt": "2026-11-23T12:00:30.25Z"}
    assert again.as_json() == firing.as_json() | {"startsAt": "2026-11-23T12:01:00.25Z"}
    assert [webhook([resolved, again])["status"], webhook([resolved])["status"]] == ["firing", "resolved"]
