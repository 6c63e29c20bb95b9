"""What the demo shows and checks: the RemediationRequests of a folder, as tables, YAML and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.syntax import Syntax
from rich.table import Table

from app.cli.payloads import PostedAlert

State = tuple[str, str, int]
"""Type, phase and how many alerts fire (of a Single always 1): what the demo waits for."""

_MORE = "more"


@dataclass(frozen=True, slots=True)
class Step:
    """A thing done and how long it took."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The RemediationRequests there are, or, made by ``of``, the states there should be."""

    objects: tuple[Mapping[str, Any], ...] = ()
    states: tuple[State, ...] = ()

    @classmethod
    def of(cls, *, storms: Sequence[tuple[str, int]], singles: Sequence[str]) -> Outcome:
        return cls(states=(*(("Storm", phase, count) for phase, count in storms), *(("Single", p, 1) for p in singles)))

    def sums(self) -> Counter[State]:
        """How many objects are in which state: two outcomes are alike when these are."""
        return Counter(self.states)

    @property
    def storms(self) -> list[Mapping[str, Any]]:
        return [rr for rr in self.objects if rr["spec"]["type"] == "Storm"]

    @property
    def singles(self) -> list[Mapping[str, Any]]:
        return [rr for rr in self.objects if rr["spec"]["type"] == "Single"]

    @property
    def firing(self) -> int:
        """Alerts that fire by the storm RRs."""
        return sum(rr["spec"]["stormAggregation"]["alertCount"] for rr in self.storms)


def read(folder: Path) -> Outcome:
    """All RemediationRequests that the directory sink has written, by name."""
    # A file whose name begins with a dot is one that is being written.
    paths = (path for path in folder.rglob("*.yaml") if not path.name.startswith("."))
    objects = sorted((yaml.safe_load(path.read_text()) for path in paths), key=lambda rr: str(rr["metadata"]["name"]))
    return Outcome(tuple(objects), tuple(_state(rr) for rr in objects))


def _state(rr: Mapping[str, Any]) -> State:
    spec = rr["spec"]
    count = spec["stormAggregation"]["alertCount"] if spec["type"] == "Storm" else 1
    return spec["type"], rr.get("status", {}).get("phase", ""), count


def outcome_table(storm: Sequence[PostedAlert], others: Sequence[PostedAlert], seen: Outcome) -> Table:
    """What arrived beside what came out."""
    table = Table(title="What arrived, what came out")
    for title in ("arrived", "alerts", "came out", "about"):
        table.add_column(title, justify="right" if title == "alerts" else "left", overflow="fold")
    for rr in seen.storms:
        affected = rr["spec"]["stormAggregation"]["affectedResources"]
        about = f"{len(affected)} resources: {affected[0]['kind']}/{affected[0]['name']} ..."
        table.add_row(storm[0].labels["alertname"], str(len(storm)), _named(rr), about)
    by_signal = {rr["spec"]["signal"]["name"]: rr for rr in seen.singles}
    for alert in others:
        rr = by_signal[alert.labels["alertname"]]
        target = rr["spec"]["targetResource"]
        table.add_row(alert.labels["alertname"], "1", _named(rr), f"{target['kind']}/{target['name']}")
    table.add_section()
    came_out = f"{len(seen.storms)} storm RR + {len(seen.singles)} singles"
    table.add_row("in all", str(len(storm) + len(others)), came_out, "")
    return table


def _named(rr: Mapping[str, Any]) -> str:
    return f"{rr['spec']['type']} {rr['metadata']['namespace']}/{rr['metadata']['name']}"


def phase_table(seen: Outcome) -> Table:
    """Where each RemediationRequest stands."""
    table = Table()
    for title in ("RemediationRequest", "phase", "firing"):
        table.add_column(title, justify="right" if title == "firing" else "left")
    for rr in (*seen.storms, *seen.singles):
        kind, phase, count = _state(rr)
        table.add_row(_named(rr), phase, str(count) if kind == "Storm" else "")
    return table


def as_yaml(rr: Mapping[str, Any], listed: int = 3) -> Syntax:
    """A RemediationRequest as YAML; of a long list of resources the first few."""
    spec, more = dict(rr["spec"]), 0
    if "stormAggregation" in spec:
        resources = spec["stormAggregation"]["affectedResources"]
        more = max(0, len(resources) - listed)
        spec["stormAggregation"] = spec["stormAggregation"] | {"affectedResources": [*resources[:listed], _MORE]}
    text = yaml.safe_dump(dict(rr) | {"spec": spec}, sort_keys=False, width=110)
    text = text.replace(f"    - {_MORE}\n", f"    # ... and {more} more in the file\n" if more else "")
    return Syntax(text, "yaml", background_color="default")


def steps_table(steps: Sequence[Step]) -> Table:
    """How long each step took."""
    table = Table(show_header=False)
    for step in steps:
        table.add_row(step.what, f"{step.seconds:.2f} s")
    return table


def mistakes(fired: Outcome, resolved: Outcome, storm: Sequence[PostedAlert]) -> list[str]:
    """What is wrong with the outcome beyond the states that were waited for."""
    wrong = []
    aggregation = fired.storms[0]["spec"]["stormAggregation"]
    pods = {alert.labels["pod"] for alert in storm}
    named = {resource["name"] for resource in aggregation["affectedResources"]}
    if named != pods:
        wrong.append(f"the storm RR names {len(named & pods)} of {len(pods)} pods and {len(named - pods)} others")
    if aggregation.get("supersedes"):
        wrong.append(f"the storm RR supersedes {aggregation['supersedes']}, but all came at once")
    if [rr["metadata"]["name"] for rr in fired.objects] != [rr["metadata"]["name"] for rr in resolved.objects]:
        wrong.append("the RemediationRequests at the end are not those of the beginning")
    ledger = resolved.storms[0]["status"]["ledger"]
    half = len(storm) // 2
    wanted = {"received": 2 * len(storm) + len(storm) - half, "new": len(storm), "resolved": len(storm)}
    wanted |= {"duplicate": len(storm) - half, "reopened": 0, "outdated": 0}
    found = {name: ledger.get(name, 0) for name in wanted}
    if found != wanted:
        wrong.append(f"the storm's ledger says {found} instead of {wanted}")
    return wrong
