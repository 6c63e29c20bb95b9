"""The demo's verdict: what it calls wrong, on RemediationRequests made up for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.demo_report import Outcome, mistakes, read
from app.cli.payloads import storm

ALERTS = storm("pods", 50, starts_at=datetime(2026, 11, 23, tzinfo=UTC))
LEDGER = {"received": 125, "new": 50, "duplicate": 25, "reopened": 0, "resolved": 50, "outdated": 0}


def storm_rr(phase: str, count: int) -> dict[str, Any]:
    resources = [{"kind": "Pod", "name": alert.labels["pod"], "alertCount": 1} for alert in ALERTS]
    aggregation = {"alertCount": count, "affectedResources": resources, "supersedes": []}
    return {
        "metadata": {"name": "storm-x", "namespace": "shop-0"},
        "spec": {"type": "Storm", "stormAggregation": aggregation},
        "status": {"phase": phase, "ledger": dict(LEDGER)},
    }


def outcome(*objects: dict[str, Any]) -> Outcome:
    return Outcome(objects=objects)


def test_objects_are_read_from_the_folder_but_for_those_being_written(tmp_path: Path) -> None:
    # Given a storm, a Single without a status yet, a file that is being written and one of somebody else's
    single = {"metadata": {"name": "rr-1", "namespace": "shop-0"}, "spec": {"type": "Single"}}
    (tmp_path / "shop-0").mkdir()
    for name, rr in (("storm-x.yaml", storm_rr("Active", 50)), ("rr-1.yaml", single), (".rr-2.yaml.tmp", single)):
        (tmp_path / "shop-0" / name).write_text(yaml.safe_dump(rr))
    (tmp_path / "shop-0" / "README").write_text("not ours")

    # When
    seen = read(tmp_path)

    # Then
    assert seen.states == (("Single", "", 1), ("Storm", "Active", 50))
    assert seen.sums() == Outcome.of(storms=[("Active", 50)], singles=[""]).sums()
    assert seen.firing == 50
    assert [len(seen.storms), len(seen.singles)] == [1, 1]


def test_the_right_outcome_has_no_mistakes() -> None:
    assert mistakes(outcome(storm_rr("Active", 50)), outcome(storm_rr("Resolved", 0)), ALERTS) == []


def _forget_a_pod(fired: dict[str, Any], resolved: dict[str, Any]) -> None:
    fired["spec"]["stormAggregation"]["affectedResources"].pop()


def _supersede(fired: dict[str, Any], resolved: dict[str, Any]) -> None:
    fired["spec"]["stormAggregation"]["supersedes"].append("rr-1")


def _write_another(fired: dict[str, Any], resolved: dict[str, Any]) -> None:
    resolved["metadata"]["name"] = "storm-y"


def _miscount(fired: dict[str, Any], resolved: dict[str, Any]) -> None:
    resolved["status"]["ledger"]["duplicate"] = 24


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_forget_a_pod, "names 49 of 50 pods"),
        (_supersede, "supersedes ['rr-1']"),
        (_write_another, "are not those of the beginning"),
        (_miscount, "ledger says"),
    ],
)
def test_every_mistake_is_named(spoil: Callable[[dict[str, Any], dict[str, Any]], None], said: str) -> None:
    # Given the right outcome with one thing wrong
    fired, resolved = copy.deepcopy(storm_rr("Active", 50)), copy.deepcopy(storm_rr("Resolved", 0))
    spoil(fired, resolved)

    # When
    wrong = mistakes(outcome(fired), outcome(resolved), ALERTS)

    # Then
    assert len(wrong) == 1
    assert said in wrong[0]
