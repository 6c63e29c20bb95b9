"""Shared by the unit tests of tasks/."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.support.sink_contract")
