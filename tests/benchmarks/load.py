"""The alerts that are posted, and the same alerts in the form of either receiver."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.cli.payloads import PostedAlert, encode, storm, timestamp, webhook


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the order in which they are posted, each of one storm key, as Alertmanager groups them."""

    requests: Sequence[Sequence[PostedAlert]]

    @property
    def alerts(self) -> int:
        return sum(len(alerts) for alerts in self.requests)

    def for_stormfold(self) -> list[bytes]:
        """Bodies of Alertmanager's webhook."""
        return [encode(webhook(alerts)) for alerts in self.requests]

    def for_alertmanager(self) -> list[bytes]:
        """Bodies of ``POST /api/v2/alerts``, what Prometheus sends."""
        return [
            json.dumps([_postable(alert) for alert in alerts], separators=(",", ":")).encode()
            for alerts in self.requests
        ]


def _postable(alert: PostedAlert) -> Mapping[str, Any]:
    return {
        "labels": dict(sorted(alert.labels.items())),
        "annotations": dict(sorted(alert.annotations.items())),
        "startsAt": timestamp(alert.starts_at),
        "generatorURL": alert.generator_url,
    }


def fresh(cluster: str, *, storms: int, requests_each: int, per_request: int) -> Load:
    """Alerts that nobody has seen yet, all of them new and firing; the storms take turns."""
    now = datetime.now(UTC)
    members = [
        storm("pods", requests_each * per_request, starts_at=now, number=number, seed=1, cluster=cluster)
        for number in range(storms)
    ]
    return Load([
        alerts[turn * per_request : (turn + 1) * per_request] for turn in range(requests_each) for alerts in members
    ])  # fmt: skip
