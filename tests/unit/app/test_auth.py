"""Who may call what."""

from __future__ import annotations

import base64
from typing import Any

import pytest


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cr3t", 200),
        ("bearer s3cr3t", 200),
        (_basic("ops:pass:wörd"), 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer s3cr3", 401),
        ("Bearer s3cr3t0", 401),
        ("Bearer ümlaut", 401),
        ("s3cr3t", 401),
        ("Digest s3cr3t", 401),
        (_basic("ops:wrong"), 401),
        (_basic("s3cr3t"), 401),
        ("Basic not-base64!", 401),
        ("Basic s3cr3t", 401),
    ],
)
def test_both_schemes_are_taken_when_both_are_configured(make_web: Any, authorization: str | None, status: int) -> None:
    # Given
    web = make_web(WEBHOOK_TOKEN="s3cr3t", BASIC_AUTH="ops:pass:wörd")
    # When
    answer = web.client.get("/api/v1/storms", headers={"Authorization": authorization} if authorization else {})
    # Then
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="stormfold", Basic realm="stormfold"'
        assert answer.get_json() == {
            "type": "urn:stormfold:problem:unauthorized", "title": "Credentials are missing or wrong", "status": 401
        }  # fmt: skip


def test_a_scheme_that_is_not_configured_is_refused(make_web: Any) -> None:
    # Given
    web = make_web(WEBHOOK_TOKEN="s3cr3t")
    # When
    answer = web.client.get("/", headers={"Authorization": _basic("s3cr3t:s3cr3t")})
    # Then
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="stormfold"'


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/metrics", 401),
        ("/", 401),
        ("/static/storms.css", 401),
        ("/api/v1/storms", 401),
        ("/api/v1/storms/storm-x-0", 401),
        ("/api/v1/storms/storm-x-0/members", 401),
        ("/nowhere", 401),
    ],
)
def test_only_the_probes_are_open_to_everybody(make_web: Any, path: str, status: int) -> None:
    assert make_web(BASIC_AUTH="ops:pass").client.get(path).status_code == status


def test_a_webhook_without_credentials_is_refused_before_it_is_read(make_web: Any) -> None:
    # Given
    web = make_web(WEBHOOK_TOKEN="s3cr3t", MAX_BODY="1KiB")
    # When
    answer = web.post(b"x" * 5000)
    # Then
    assert (answer.status_code, web.store.calls) == (401, [])


def test_without_configured_credentials_everybody_on_the_machine_may_call(web: Any) -> None:
    assert web.post({"alerts": []}).status_code == 202
