"""Problems: their JSON, and which failure of the store becomes which."""

from __future__ import annotations

import pytest

from app.errors import FieldError, invalid_envelope, unauthorized, unavailable
from lua_scripts.errors import (
    StoreBroken,
    StoreError,
    StoreFull,
    StoreOverloaded,
    StoreTimeout,
    StoreUnreachable,
    StoreUnsafe,
)


def test_a_problem_names_every_error_with_its_path() -> None:
    # Given / When
    problem = invalid_envelope([FieldError("alerts", "missing"), FieldError("version", "not 4")])
    # Then
    assert problem.as_json() == {
        "type": "urn:stormfold:problem:invalid-envelope",
        "title": "The body is JSON but no Alertmanager webhook of version 4",
        "status": 422,
        "errors": [{"path": "alerts", "detail": "missing"}, {"path": "version", "detail": "not 4"}],
    }
    assert problem.headers == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreFull("x"), "redis-out-of-memory"),
        (StoreOverloaded("x"), "overloaded"),
        (StoreTimeout("x"), "redis-timeout"),
        (StoreUnreachable("x"), "redis-unreachable"),
        (StoreUnsafe("x"), "redis-unsafe"),
        (StoreBroken("x"), "redis-error"),
        (StoreError("x"), "redis-error"),
    ],
)
def test_every_failure_of_the_store_is_a_503_that_says_when_to_come_back(error: StoreError, kind: str) -> None:
    # Given / When
    problem = unavailable(error)
    # Then
    assert (problem.as_json()["status"], problem.as_json()["type"]) == (503, f"urn:stormfold:problem:{kind}")
    assert problem.headers == {"Retry-After": "1"}


def test_a_401_offers_what_is_configured() -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="stormfold", Basic realm="stormfold"'}
    assert unauthorized(["Bearer", "Basic"]).headers == challenge
