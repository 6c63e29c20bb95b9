"""Dead letters as texts: what is kept of an alert, and what an edit makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.letters import NotReplayedError, content, make_letter, mended
from lua_scripts.records import DeadLetter


def deep() -> list[Any]:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


def test_a_letter_holds_the_alert_as_it_was_sent() -> None:
    raw = {"labels": {"pod": None, "x": "ü\ud800"}}
    letter = make_letter("l", "d", "Not text.", "alerts.0.labels.pod", raw)
    assert letter == DeadLetter("l", "Not text.", "alerts.0.labels.pod", json.dumps(raw), "d")
    assert content(letter) == raw


@pytest.mark.parametrize(
    ("letter", "why"),
    [
        (make_letter("l", "d", "", "", {"a": "x" * 100}, room=50), "only the first 50 characters"),
        (make_letter("l", "d", "", "", deep()), "give it in full"),
        (DeadLetter("l", "", "", "", "d"), "could not be read"),
    ],
    ids=["cut", "nested", "unreadable"],
)
def test_what_is_not_there_in_full_cannot_be_replayed_as_it_is(letter: DeadLetter, why: str) -> None:
    with pytest.raises(NotReplayedError, match=why):
        content(letter)


def test_fields_are_set_and_the_rest_stays() -> None:
    # Given
    raw = {"status": "odd", "labels": {"pod": None, "alertname": "A"}, "annotations": "no map"}
    # When
    result = mended(raw, {"status": "firing", "labels.pod": "cart-1", "labels.a.b": "=", "annotations.summary": "x"})
    # Then
    assert result == {
        "status": "firing", "labels": {"pod": "cart-1", "alertname": "A", "a.b": "="}, "annotations": {"summary": "x"}
    }  # fmt: skip
    assert raw["labels"] == {"pod": None, "alertname": "A"}


def test_what_is_no_object_has_no_fields() -> None:
    with pytest.raises(NotReplayedError, match="no JSON object"):
        mended([1], {"labels.pod": "x"})
