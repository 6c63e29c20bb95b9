"""One short soak of a fixed seed for each kind of sink: the long ones are `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.soak.cluster import lacks_assets
from tests.soak.display import print_verdict
from tests.soak.run import soak
from tests.support.absent import absent

SEED = 20
MINUTES = 1.0
ALERTS_A_SECOND = 600.0


@pytest.mark.slow
@pytest.mark.parametrize("sink", ["directory", "kubernetes"])
def test_nothing_is_lost_or_doubled_in_a_minute_of_faults(tmp_path: Path, sink: str) -> None:
    # Given senders at work, and workers that write to this sink
    if sink == "kubernetes" and (reason := lacks_assets()):
        absent(reason)
    # When faults of all kinds come over the system for a minute
    verdict = soak(tmp_path, minutes=MINUTES, seed=SEED, rate=ALERTS_A_SECOND, show=lambda run: None, sink=sink)
    print_verdict(verdict, Console(width=160))
    # Then every alert that fires is in exactly one open RR, every other one in none, and the ledgers balance
    assert verdict.comparison.lost == []
    assert verdict.comparison.doubled == []
    assert verdict.passed
    # And it was a soak
    assert verdict.figures.accepted > 10_000
    assert sum(verdict.faults.values()) >= 20
