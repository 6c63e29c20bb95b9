"""What a scripted proxy may do with a request instead of passing it on, and what it remembers of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 60.0
"""The longest that silence lasts where nobody hangs up."""


@dataclass(frozen=True)
class Say:
    """Answer so, with a Status that has these fields or with the raw bytes; ``forward`` does it first all the same."""

    status: int
    fields: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    forward: bool = False
    cut: int = 0
    """So many bytes of what the headers promise do not come."""
    drip_s: float = 0.0
    """The pause after each byte."""


@dataclass(frozen=True)
class Reset:
    """Cut the connection; with ``forward`` the server has done it, and nobody hears of it."""

    forward: bool = False


@dataclass(frozen=True)
class Hush:
    """Say nothing for so long; with ``forward`` the server has done it, and its answer comes too late."""

    seconds: float = PATIENCE_S
    forward: bool = False


@dataclass(frozen=True)
class Pass:
    """What every request gets that no other line is for."""


Line = Say | Reset | Hush | Pass


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    body: dict[str, Any]
    credentials: str
    at: float

    @property
    def brief(self) -> str:
        """The method, and the subresource if any: ``PATCH status``."""
        return f"{self.method} status" if self.path.endswith("/status") else self.method
