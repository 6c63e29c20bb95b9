"""Reads figures off /metrics."""

from __future__ import annotations

import re

from tests.support.stack import Stack


def metric(stack: Stack, name: str) -> float:
    """The value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", stack.get("/metrics").body.decode(), re.MULTILINE)
    assert found, name
    return float(found[1])
