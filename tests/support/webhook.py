"""Webhooks posted as Alertmanager posts them, and the time line that the tests' alerts lie on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

from app.cli.payloads import GROUP_BY, HEADERS, PostedAlert, encode, webhook

Alert = PostedAlert

_ZERO = datetime.now(UTC) - timedelta(minutes=10)


def at(seconds: float) -> datetime:
    """A moment on the tests' own time line, whose zero lies ten minutes before the start of the run."""
    return _ZERO + timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30,
) -> Answer:
    """One request over a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body or None, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def body_of(alerts: Iterable[Alert]) -> bytes:
    """One webhook of one group: that of the group labels which the alerts share."""
    listed = list(alerts)
    shared = [name for name in GROUP_BY if len({alert.labels.get(name) for alert in listed}) == 1]
    return encode(webhook(listed, group_by=shared))


def post(port: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Post a webhook as Alertmanager does."""
    return request(port, "POST", "/api/v1/signals/prometheus", body=body, headers=HEADERS | dict(headers))
