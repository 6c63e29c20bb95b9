"""What a soak looks like: a line or a table that moves, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import redis
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.soak.run import Soak, Verdict

LINE_EVERY_S: Final = 10.0
SHOWN: Final = 20
"""How many findings of a kind are printed."""


class Display:
    """On a terminal a table that is renewed, else a line now and then. Used as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True) if console.is_terminal else None
        self._next_line = 0.0

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, run: Soak) -> None:
        if self._live:
            table = Table.grid(padding=(0, 2))
            for name, value in _state(run):
                table.add_row(name, value)
            self._live.update(table)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            self._console.print(", ".join(f"{name}: {value}" for name, value in _state(run)), soft_wrap=True)


def _state(run: Soak) -> list[tuple[str, str]]:
    figures = run.book.figures()
    left = max(0.0, run.ends_at - time.monotonic())
    try:
        redis_says = f"{run.stage.pending()} entries wait, {run.stage.open_storms()} storms open"
    except redis.RedisError:
        redis_says = "Redis is away"
    return [
        (run.doing, f"{left:.0f} s left"),
        ("accepted", f"{figures.accepted:,}"),
        ("refused", f"{sum(figures.refused.values()) + figures.unanswered:,}"),
        ("state", redis_says),
        ("workers", str(len(run.stage.workers))),
        ("faults", str(sum(run.faults.kinds().values()))),
        ("now", ", ".join(run.faults.now()) or "none"),
        ("worst delay", f"{run.watch.worst.seconds:.1f} s"),
        ("findings", str(len(run.book.wrongs()))),
    ]


def print_verdict(verdict: Verdict, console: Console) -> None:
    """The figures, the faults, and everything that is wrong."""
    figures, content = verdict.figures, verdict.as_json()
    table = Table(title=f"soak of {verdict.minutes:g} min, sink {verdict.sink}, seed {verdict.seed}", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    refused = ", ".join(f"{kind} {count}" for kind, count in sorted(figures.refused.items()))
    rows = {
        "accepted": f"{figures.accepted:,} alerts in {figures.deliveries:,} deliveries ({figures.repeats:,} twice)",
        "not accepted at first": f"{refused or 'none refused'}; {figures.unanswered} without an answer",
        "received, recorded": f"{content['received']:,}, {content['recorded']:,} (ledger: {verdict.ledger})",
        "firing, in RRs": f"{content['firing']}, {content['in_rrs']}",
        "objects": ", ".join(f"{count} {phase}" for phase, count in sorted(verdict.phases.items())),
        "lost": str(content["lost"]),
        "doubled": str(content["doubled"]),
        "other findings": str(content["wrong"]),
        "ledger": "; ".join(verdict.unbalanced) or "balanced",
        "accepted to in RR": (
            f"worst {content['worst_delay_s']} s, p99 {content['p99_delay_s']} s, median {content['median_delay_s']} s"
            f" of {content['measured_delays']:,}"
        ),
        "the worst was": verdict.worst_of or "-",
        "slowest answer": f"{content['slowest_answer_s']} s",
        "settled after": f"{content['settled_s']} s",
        "faults": f"{content['faults']}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(verdict.faults.items())),
        "ended by themselves": ", ".join(f"{n} {kind}" for kind, n in sorted(verdict.ended.items())) or "none",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for title, found in (
        ("lost", verdict.comparison.lost), ("doubled", verdict.comparison.doubled),
        ("wrong at the end", verdict.comparison.wrong), ("wrong on the way", verdict.wrong),
    ):  # fmt: skip
        _print_findings(title, found, console)
    console.print("PASSED: nothing lost, nothing doubled" if verdict.passed else f"FAILED (seed {verdict.seed})")


def _print_findings(title: str, found: Sequence[str], console: Console) -> None:
    for what in found[:SHOWN]:
        console.print(f"{title}: {what}", soft_wrap=True, highlight=False, markup=False)
    if len(found) > SHOWN:
        console.print(f"{title}: and {len(found) - SHOWN} more")
