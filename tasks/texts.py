"""Foreign text and numbers made fit for an object: cleaned, bounded and of a stable form; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from app.times import EPOCH

MAX_NAME: Final = 253
MAX_NAMESPACE: Final = 63
MAX_LABEL_TEXT: Final = 1024
MAX_MAP_BYTES: Final = 24 * 1024
MAX_VALUE: Final = 8192
MAX_COUNTS: Final = 100
MAX_COUNTS_BYTES: Final = 12 * 1024
OTHER: Final = "(other)"


def instant_ms(value: Any) -> int | None:
    """The ms of an RFC 3339 time, None for what is none: people edit objects, and YAML reads times unasked."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return None if moment.tzinfo is None else (moment - EPOCH) // timedelta(milliseconds=1)


def clean(text: str, limit: int) -> str:
    """At most ``limit`` characters, an ellipsis in place of the rest; never a lone surrogate, which UTF-8 lacks."""
    text = text[: limit + 1].encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded_map(texts: Mapping[str, str]) -> dict[str, str]:
    """Sorted, each key and value cut, and all together within a budget: detail is shed, last names first."""
    bounded: dict[str, str] = {}
    left = MAX_MAP_BYTES
    for key in sorted(texts):
        short, value = clean(key, MAX_NAME), clean(texts[key], MAX_VALUE)
        left -= len(short.encode()) + len(value.encode())
        if left < 0:
            break
        bounded[short] = value
    return bounded


def bounded_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """The greatest counts first; beyond a hundred names, or some very long ones, the rest is summed up."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    bounded: dict[str, int] = {}
    left = MAX_COUNTS_BYTES
    for position, (key, count) in enumerate(ordered):
        name = clean(key, MAX_NAME)
        left -= len(name.encode())
        if position >= MAX_COUNTS or left < 0:
            name, left = OTHER, -1
        bounded[name] = bounded.get(name, 0) + count
    return bounded
