"""What the HTTP side answers when it cannot do as asked: problems after RFC 9457."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from lua_scripts.errors import (
    StoreError,
    StoreFull,
    StoreOverloaded,
    StoreTimeout,
    StoreUnreachable,
    StoreUnsafe,
)

PROBLEM_TYPE: Final = "urn:stormfold:problem:"
CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with a document, and where; the path is dotted, empty for the whole document."""

    path: str
    detail: str


class ProblemError(Exception):
    """An answer other than success. ``kind`` is the last part of the problem's type, and a label of the metrics."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers or {}

    def as_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": PROBLEM_TYPE + self.kind, "title": self.title, "status": self.status.value}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = [{"path": error.path, "detail": error.detail} for error in self.errors]
        return body


def invalid_json(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, "invalid-json", "The body is not JSON", detail)


def invalid_envelope(errors: Sequence[FieldError]) -> ProblemError:
    title = "The body is JSON but no Alertmanager webhook of version 4"
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-envelope", title, errors=errors)


def invalid_query(path: str, detail: str) -> ProblemError:
    errors = (FieldError(path, detail),)
    return ProblemError(HTTPStatus.BAD_REQUEST, "invalid-query", "A query parameter is wrong", errors=errors)


def too_large(limit: int) -> ProblemError:
    detail = f"At most {limit} bytes are taken (STORMFOLD_MAX_BODY)."
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "The body is too large", detail)


def unsupported_media_type(given: str) -> ProblemError:
    detail = f"Send application/json, not {given[:100]!r}." if given else "Send Content-Type: application/json."
    return ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not said to be JSON", detail
    )


def unauthorized(schemes: Sequence[str]) -> ProblemError:
    challenge = ", ".join(f'{scheme} realm="stormfold"' for scheme in schemes)
    title = "Credentials are missing or wrong"
    return ProblemError(HTTPStatus.UNAUTHORIZED, "unauthorized", title, headers={"WWW-Authenticate": challenge})


def not_found(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, "not-found", "There is nothing here", detail)


def unavailable(error: StoreError) -> ProblemError:
    """503 with Retry-After, never a 4xx: Alertmanager would drop the notification for good."""
    kind, title = next((known[1:] for known in _STORE_PROBLEMS if isinstance(error, known[0])), _STORE_PROBLEM)
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, kind, title, str(error), headers=headers)


_STORE_PROBLEMS: Final = (
    (StoreFull, "redis-out-of-memory", "Redis is out of memory"),
    (StoreOverloaded, "overloaded", "Alerts wait longer than intake may go on"),
    (StoreTimeout, "redis-timeout", "Redis did not answer in time"),
    (StoreUnreachable, "redis-unreachable", "Redis cannot be reached"),
    (StoreUnsafe, "redis-unsafe", "Redis must not be used as it is configured"),
)
_STORE_PROBLEM: Final = ("redis-error", "Redis could not do what was asked")
