"""What a check found; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``mend`` tells what to do where it is not ok."""

    level: Level
    about: str
    text: str
    mend: str = ""


def ok(about: str, text: str) -> Finding:
    return Finding("ok", about, text)


def warn(about: str, text: str, mend: str) -> Finding:
    return Finding("warn", about, text, mend)


def fail(about: str, text: str, mend: str) -> Finding:
    return Finding("fail", about, text, mend)


def duration_text(ms: int) -> str:
    """As settings are written: ``6h``, ``90s``, ``1500ms``."""
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms" if ms else "0"
