"""What a test does without a program it needs: skipped on a developer's machine, an error in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def in_ci() -> bool:
    """Whether everything that a test may need has to be there."""
    return os.environ.get("CI") == "true"


def absent(reason: str) -> NoReturn:
    """Skip with the reason; under ``CI=true`` fail: there a test that never ran must not look like one that passed."""
    if in_ci():
        pytest.fail(f"{reason}, and in CI it must be", pytrace=False)
    pytest.skip(reason)
