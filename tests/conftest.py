"""What every test gets: an environment without settings of the caller's, and the processes' logs where it fails."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.support.stack import Stack


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """A developer's own STORMFOLD_ variables must not decide how a test ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STORMFOLD_")]:
            patch.delenv(name)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test said last."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.when == "call" and report.failed and isinstance(stack, Stack):
        report.sections.append(("the processes' logs", stack.logs()))
    return report
