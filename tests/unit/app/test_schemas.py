"""Alerts as they come: what is read from them, and what makes one malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.alerts import Alert, fingerprint_of
from app.errors import FieldError
from app.schemas import MAX_ANNOTATION, MAX_LABEL_VALUE, MalformedAlertError, Webhook

READER = Webhook()


def _good() -> dict[str, Any]:
    return {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-11-21T19:56:09.858332194Z"}


def test_a_full_alert_is_read_as_it_stands(raw_alert: dict[str, Any]) -> None:
    assert READER.alert(raw_alert | {"new": [1]}, 0) == Alert(
        fingerprint="d1c89d48d69aefe7",
        firing=True,
        starts_at_ms=1_795_290_969_858,
        ends_at_ms=0,
        labels={"alertname": "A", "namespace": "shop", "pod": "cart-1"},
        annotations={"summary": "it is bad"},
        generator_url="http://prometheus/graph",
    )


def test_what_is_absent_or_null_is_empty_and_the_labels_make_the_fingerprint() -> None:
    # Given
    absent = {"status": "firing", "labels": {"alertname": "A"}}
    null = absent | dict.fromkeys(("annotations", "startsAt", "endsAt", "generatorURL", "fingerprint"))
    # When / Then
    expected = Alert(fingerprint_of({"alertname": "A"}), True, 0, 0, {"alertname": "A"}, {}, "")
    assert [READER.alert(absent, 0), READER.alert(null, 0)] == [expected, expected]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-21T19:56:09Z", 1_795_290_969_000),
        ("2026-11-21T19:56:09.8Z", 1_795_290_969_800),
        ("2026-11-21T19:56:09.999999999Z", 1_795_290_969_999),
        ("2026-11-21T21:56:09.858332194+02:00", 1_795_290_969_858),
        ("2026-11-21T14:26:09.858-05:30", 1_795_290_969_858),
        ("2026-11-21t19:56:09z", 1_795_290_969_000),
        ("0001-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+14:00", 0),
        ("2261-12-31T23:59:59Z", 9_214_646_399_000),
    ],
)
def test_times(text: str, milliseconds: int) -> None:
    assert READER.alert(_good() | {"startsAt": text}, 0).starts_at_ms == milliseconds


def test_only_a_resolved_alert_has_an_end() -> None:
    # Given
    ends = {"endsAt": "2026-11-21T19:57:00Z"}
    # When / Then
    assert READER.alert(_good() | ends, 0).ends_at_ms == 0
    resolved = READER.alert(_good() | ends | {"status": "resolved"}, 0)
    assert (resolved.firing, resolved.ends_at_ms) == (False, 1_795_291_020_000)


_NO_TIME = "Not a time such as 2026-11-21T19:56:09.858Z."
_RANGE = "The time is not within the years 1970 to 2261."


@pytest.mark.parametrize(
    ("spoil", "path", "detail"),
    [
        ({"status": None}, "status", "Field may not be null."),
        ({"status": "FIRING"}, "status", "Neither firing nor resolved."),
        ({"status": ["firing"]}, "status", "Neither firing nor resolved."),
        ({"labels": None}, "labels", "Field may not be null."),
        ({"labels": {}}, "labels", "There are no labels."),
        ({"labels": []}, "labels", "Not an object."),
        ({"labels": "pod"}, "labels", "Not an object."),
        ({"labels": {"alertname": "A", "pod": 7}}, "labels.pod", "Not text."),
        ({"labels": {"alertname": "A", "pod": None}}, "labels.pod", "Not text."),
        ({"labels": {"alertname": "A", "pod": {"a": "b"}}}, "labels.pod", "Not text."),
        ({"labels": {"pod": "a\0b"}}, "labels.pod", "The text holds a NUL character."),
        ({"labels": {"po\0d": "a"}}, "labels.po\\x00d", "The text holds a NUL character."),
        ({"labels": {"pod": "\ud83d", "x": "\ude00"}}, "labels.pod", "The text holds half a surrogate pair."),
        ({"labels": {"\ud800": "x"}}, "labels.\\ud800", "The text holds half a surrogate pair."),
        ({"labels": {"": "x"}}, "labels", "A label has no name."),
        (
            {"labels": {"alertname": "A", "pod": "x" * (MAX_LABEL_VALUE + 1)}},
            "labels.pod",
            "The value is longer than 65536 characters.",
        ),
        (
            {"labels": {str(number): "x" * 60_000 for number in range(3)}},
            "labels",
            "The labels are longer than 131072 characters together.",
        ),
        ({"annotations": [1]}, "annotations", "Not an object."),
        ({"annotations": {"a": 1}}, "annotations.a", "Not text."),
        ({"annotations": {"a": "\0"}}, "annotations.a", "The text holds a NUL character."),
        ({"generatorURL": 5}, "generatorURL", "Not text."),
        ({"fingerprint": 5}, "fingerprint", "Not text."),
        ({"fingerprint": "\0"}, "fingerprint", "The text holds a NUL character."),
        ({"startsAt": "yesterday"}, "startsAt", _NO_TIME),
        ({"startsAt": ""}, "startsAt", _NO_TIME),
        ({"startsAt": 1_795_290_969}, "startsAt", _NO_TIME),
        ({"startsAt": "2" * 100}, "startsAt", _NO_TIME),
        ({"startsAt": "2026-02-30T00:00:00Z"}, "startsAt", _NO_TIME),
        ({"startsAt": "0000-01-01T00:00:00Z"}, "startsAt", _NO_TIME),
        ({"startsAt": "12026-01-01T00:00:00Z"}, "startsAt", _NO_TIME),
        ({"startsAt": "2026-11-21T19:56:09"}, "startsAt", "The time has no time zone."),
        ({"startsAt": "1969-12-31T23:59:59Z"}, "startsAt", _RANGE),
        ({"startsAt": "9999-12-31T23:59:59Z"}, "startsAt", _RANGE),
        ({"endsAt": "soon"}, "endsAt", _NO_TIME),
        ({"status": "resolved"}, "endsAt", "A resolved alert says when it ended."),
        ({"status": "resolved", "endsAt": "0001-01-01T00:00:00Z"}, "endsAt", "A resolved alert says when it ended."),
    ],
)
def test_a_malformed_alert_says_where_and_why(spoil: dict[str, Any], path: str, detail: str) -> None:
    with pytest.raises(MalformedAlertError) as raised:
        READER.alert(_good() | spoil, 3)
    assert raised.value.error == FieldError(f"alerts.3.{path}", detail)


@pytest.mark.parametrize("raw", [None, 5, "alert", [], True, 1.5])
def test_what_is_no_object_is_no_alert(raw: object) -> None:
    with pytest.raises(MalformedAlertError) as raised:
        READER.alert(raw, 0)
    assert raised.value.error == FieldError("alerts.0", "Not an object.")


def test_a_missing_status_and_labels_are_named() -> None:
    with pytest.raises(MalformedAlertError) as raised:
        READER.alert({}, 1)
    assert raised.value.error == FieldError("alerts.1.status", "Missing data for required field.")


def test_long_annotations_are_cut_and_the_alert_is_kept() -> None:
    # Given
    annotations = {"summary": "x" * 100_000, **{str(number): "y" * 16_000 for number in range(5)}}
    # When
    alert = READER.alert(_good() | {"annotations": annotations, "generatorURL": "u" * 100_000}, 0)
    # Then
    assert alert.annotations == {
        "summary": "x" * (MAX_ANNOTATION - 1) + "…", **{str(number): "y" * 16_000 for number in range(3)}
    }  # fmt: skip
    assert alert.generator_url == "u" * 8192


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ([], [FieldError("", "Not an object.")]),
        ("text", [FieldError("", "Not an object.")]),
        (None, [FieldError("", "Not an object.")]),
        ({}, [FieldError("alerts", "Missing data for required field.")]),
        ({"alerts": None}, [FieldError("alerts", "Field may not be null.")]),
        ({"alerts": {}}, [FieldError("alerts", "Not a list.")]),
        ({"alerts": [], "version": "3"}, [FieldError("version", "Must be equal to 4.")]),
        ({"alerts": [], "version": 4}, [FieldError("version", "Not a valid string.")]),
        (
            {"alerts": "x", "version": None, "truncatedAlerts": -1},
            [
                FieldError("version", "Field may not be null."),
                FieldError("alerts", "Not a list."),
                FieldError("truncatedAlerts", "Must be greater than or equal to 0."),
            ],
        ),
    ],
)
def test_a_wrong_envelope_names_every_error(body: object, errors: list[FieldError]) -> None:
    assert READER.envelope(body) == (None, errors)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*_good(), "endsAt", "annotations", "fingerprint"), _JSON)))
def test_whatever_comes_is_an_alert_or_malformed(raw: dict[str, Any]) -> None:
    assert _read(raw) in (raw.get("labels"), "alerts.0")


def _read(raw: dict[str, Any]) -> object:
    """The labels of an alert, or the beginning of the path of what is wrong with it."""
    try:
        return READER.alert(raw, 0).labels
    except MalformedAlertError as malformed:
        path = malformed.error.path
        return path[:8] if path.isprintable() else path
