"""What has expired: closed long enough ago, ours, and waited for by nobody."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.manifests import single_manifest, storm_manifest
from tasks.retention import closed_ms, closed_object, expired
from tasks.texts import instant_ms
from tests.support.contents import SINGLE_NAME, STORM_ID, STORM_NAME, T0, single, storm

HOUR = 3_600_000
CLOSED = T0 + 6000
"""When the objects of ``contents`` were observed."""


def closed(phase: str = "Resolved") -> dict[str, Any]:
    return storm_manifest(storm(phase=phase))


@pytest.mark.parametrize(
    ("phase", "age_ms", "wanted"),
    [
        ("Resolved", HOUR + 1, True),
        ("Stale", HOUR + 1, True),
        ("Superseded", HOUR + 1, True),
        ("Resolved", HOUR, False),
        ("Resolved", -HOUR, False),
        ("Active", 1000 * HOUR, False),
    ],
)
def test_only_what_was_closed_long_enough_ago(phase: str, age_ms: int, wanted: bool) -> None:
    # Given an object of a phase and age; When it is held against a retention of an hour; Then only old closed ones go
    assert expired(closed(phase), CLOSED + age_ms, HOUR) is wanted


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"finalizers": ["example.org/report"]}, "a consumer has work to do"),
        ({"deletionTimestamp": "2025-01-02T03:04:05Z"}, "it is going already"),
        ({"labels": {"remediation.stormfold.io/storm-id": STORM_ID}}, "not ours"),
        ({"labels": {"app.kubernetes.io/managed-by": "stormfold"}}, "no storm id"),
        (
            {"labels": {"app.kubernetes.io/managed-by": "stormfold", "remediation.stormfold.io/storm-id": "zz"}},
            "odd id",
        ),
        ({"labels": None}, "no labels"),
    ],
)
def test_what_is_not_ours_to_delete_stays(metadata: dict[str, Any], why: str) -> None:
    # Given a closed object of long ago that is not ours to delete; Then it has not expired
    manifest = closed()
    manifest["metadata"] |= metadata
    assert not expired(manifest, CLOSED + 1000 * HOUR, HOUR), why


@pytest.mark.parametrize(
    ("observed", "transition", "wanted"),
    [
        ("1999-01-01T00:00:00Z", "2025-01-02T03:04:11.678Z", CLOSED),
        ("2025-01-02T03:04:11.678Z", "1999-01-01T00:00:00Z", CLOSED),
        (None, "2025-01-02T03:04:11.678Z", CLOSED),
        ("yesterday", "2025-01-02 03:04:11.678+00:00", CLOSED),
        ("yesterday", None, None),
        ("2025-01-02T03:04:11", None, None),
    ],
)
def test_the_later_time_counts_and_none_is_no_age(observed: Any, transition: Any, wanted: int | None) -> None:
    # Given a closed object whose times somebody edited
    manifest = closed()
    manifest["status"]["observedAt"] = observed
    manifest["status"]["conditions"][0]["lastTransitionTime"] = transition
    # Then the later of them tells since when it is closed, and without any it does not expire
    assert closed_ms(manifest) == wanted
    assert expired(manifest, 2 * CLOSED, HOUR) is (wanted is not None)


def test_the_state_is_asked_about_name_and_fingerprint() -> None:
    # Given a Single that its storm superseded; Then the state can tell by its firing and by that storm
    manifest = single_manifest(single(phase="Superseded", superseded_by=STORM_NAME, opened_ms=T0))
    asked = closed_object(manifest)
    assert (asked.storm_id, asked.name, asked.covered_by, asked.fingerprint, asked.opened_ms) == (
        STORM_ID, SINGLE_NAME, STORM_NAME, "5f3c8a1b2c3d4e5f", T0,
    )  # fmt: skip


def test_times_are_read_as_they_are_written() -> None:
    assert instant_ms("2025-01-02T03:04:11.678Z") == CLOSED
