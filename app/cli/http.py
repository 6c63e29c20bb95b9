"""A small HTTP client for the commands that talk to a running stormfold: one connection, kept alive."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import click

WEBHOOK_PATH: Final = "/api/v1/signals/prometheus"


class CallFailed(click.ClickException):
    """No usable answer came; the text says from where and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CallFailed(f"the answer ({self.status}) is no JSON: {self.body[:200]!r}") from error

    def expect_ok(self, asked: str) -> Any:
        """The JSON of a 200. Raises CallFailed for anything else."""
        if self.status != http.client.OK:
            raise CallFailed(f"{asked}: {self.status} {_reason(self)}")
        return self.json()


class Api:
    """Requests to one base URL, with a bearer token or ``user:password`` where given."""

    def __init__(self, url: str, *, token: str | None = None, user: str | None = None, timeout_s: float = 15) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.BadParameter(f"{url!r} is no http URL")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._path = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._headers: dict[str, str] = {}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user:
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer, whatever its status. Raises CallFailed where none came."""
        try:
            self._connection.request(method, self._path + path, body, self._headers | dict(headers or {}))
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = str(error) or type(error).__name__
            raise CallFailed(f"{self.url}: {reason}") from error

    def get(self, path: str) -> Any:
        """The JSON of a 200. Raises CallFailed for anything else."""
        return self.request("GET", path).expect_ok(self.url + path)


def _reason(answer: Answer) -> str:
    """What a problem document says, or the bare text."""
    try:
        problem = json.loads(answer.body)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError):
        return answer.body[:200].decode(errors="replace")
