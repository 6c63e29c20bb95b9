"""Times as people and objects read them; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z: RFC 3339 has four digits for a year


def rfc3339(ms: int) -> str:
    """A time in UTC with milliseconds; what RFC 3339 cannot express becomes the nearest that it can."""
    moment = EPOCH + timedelta(milliseconds=min(max(ms, 0), _LAST_MS))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
