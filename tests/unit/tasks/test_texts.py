"""Foreign text and numbers made fit for an object."""

from __future__ import annotations

import pytest

from app.times import rfc3339
from tasks.texts import bounded_counts, bounded_map, clean


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_735_787_045_678, "2025-01-02T03:04:05.678Z"),
        (1_735_787_045_000, "2025-01-02T03:04:05.000Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (10**30, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("", ""), ("abcde", "abcde"), ("abcdef", "abcd…"), ("€€€€€", "€€€€€"), ("a\ud800b", "a?b"), ("\x00", "\x00")],
)
def test_text_is_cut_and_can_be_encoded(text: str, cleaned: str) -> None:
    assert clean(text, 5) == cleaned


def test_a_map_sheds_its_last_names() -> None:
    # Given more than the budget holds; When it is bounded
    bounded = bounded_map({f"k{n:02}": "x" * 9000 for n in reversed(range(20))})
    # Then the first names stay, their values cut
    assert list(bounded) == [f"k{n:02}" for n in range(2)]
    assert {len(value) for value in bounded.values()} == {8192}


def test_counts_keep_their_sum() -> None:
    # Given more names than are listed; When they are bounded, Then the rest is summed up under one name
    bounded = bounded_counts({f"n{n}": n for n in range(1, 151)})
    assert len(bounded) == 101
    assert list(bounded)[:2] == ["n150", "n149"]
    assert bounded["(other)"] == sum(range(1, 51))
