"""Whether the clocks that meet in an installation agree; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tasks.doctor.findings import Finding, ok, warn

TOLERANCE_MS: Final = 5_000


def compare(ahead_ms: Mapping[str, int]) -> Iterator[Finding]:
    """``ahead_ms``: by how much each clock is ahead of this machine's. Redis's is the one that decides."""
    redis_ms = ahead_ms.get("Redis")
    if redis_ms is None:
        return
    for name, ahead in {"this machine": 0, **ahead_ms}.items():
        difference = ahead - redis_ms
        if abs(difference) > TOLERANCE_MS:
            word = "ahead of" if difference > 0 else "behind"
            yield warn("clock", f"{name} is {abs(difference) / 1000:.0f} s {word} Redis", "run NTP on both")
        elif name != "Redis":
            yield ok("clock", f"{name} and Redis agree")
