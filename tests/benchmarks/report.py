"""What was measured against which mark: a table for people, JSON for whoever compares runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Measure:
    """One ratio: of each round, and the mark that their median must not miss. No rounds: it could not be measured."""

    name: str
    rounds: Sequence[float]
    mark: float
    better: Literal["higher", "lower"]
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def met(self) -> bool:
        """Whether the median keeps to the mark; what was not measured does not."""
        if self.median is None:
            return False
        return self.median >= self.mark if self.better == "higher" else self.median <= self.mark

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"median": self.median, "met": self.met}


def show(measures: Sequence[Measure], console: Console) -> None:
    """Prints the table."""
    table = Table(title="ratios, medians of interleaved rounds", title_justify="left", show_lines=True)
    for heading in ("what", "median", "range", "mark", "met"):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=heading != "what")
    for measure in measures:
        sign = "≥" if measure.better == "higher" else "≤"
        table.add_row(
            f"{measure.name}\n[dim]{measure.note}",
            "-" if measure.median is None else f"{measure.median:.2f}",
            f"{min(measure.rounds):.2f}-{max(measure.rounds):.2f}" if measure.rounds else "-",
            f"{sign} {measure.mark:g}",
            "[green]yes" if measure.met else "[red]NO",
        )
    console.print(table)


def save(measures: Sequence[Measure], machine: dict[str, Any], path: Path = RESULTS) -> None:
    """Writes everything, each round too."""
    document = {"machine": machine, "measures": [measure.as_json() for measure in measures]}
    path.write_text(json.dumps(document, indent=2) + "\n")
