"""One soak from beginning to end: load and faults for some minutes, then rest, then the comparison."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.soak.book import Awaited, Book, Figures, key_of
from tests.soak.cluster import Cluster
from tests.soak.faults import SOME
from tests.soak.folder import Folder
from tests.soak.lanes import Faults
from tests.soak.seen import Gone
from tests.soak.senders import Load
from tests.soak.stage import Stage
from tests.soak.verdict import Comparison, OpenStorm, compare, unbalanced
from tests.soak.watch import Watch, phases

SETTLE_S: Final = 120.0
"""Longest wait for a system at rest: a sink that refused is left alone for up to a minute."""
STEADY_S: Final = 3.0
"""How long the comparison must stay clean: somebody who was frozen might still write."""
SINKS: Final[Mapping[str, type[Folder] | type[Cluster]]] = {one.kind: one for one in (Folder, Cluster)}


@dataclass(slots=True)
class Verdict:
    """What a run came to."""

    sink: str
    seed: int
    minutes: float
    figures: Figures
    ledger: dict[str, int]
    comparison: Comparison
    unbalanced: list[str]
    wrong: list[str]
    faults: Counter[str]
    ended: Counter[str]
    delays: list[float]
    worst_of: str
    settled_s: float
    phases: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return self.comparison.clean and not self.unbalanced and not self.wrong

    def as_json(self) -> dict[str, Any]:
        """The figures, for whoever keeps them."""
        delays = sorted(self.delays) or [0.0]
        return {
            "sink": self.sink, "seed": self.seed, "minutes": self.minutes, "passed": self.passed,
            "faults": sum(self.faults.values()),
            "accepted": self.figures.accepted, "received": self.ledger["received"],
            "recorded": self.ledger["received"] - self.ledger["pending"] - self.ledger["deadLettered"],
            "firing": self.comparison.firing, "in_rrs": self.comparison.in_rrs, "lost": len(self.comparison.lost),
            "doubled": len(self.comparison.doubled), "wrong": len(self.comparison.wrong) + len(self.wrong),
            "balanced": not self.unbalanced, "worst_delay_s": round(delays[-1], 2), "worst_delay_of": self.worst_of,
            "median_delay_s": round(statistics.median(delays), 2),
            "p99_delay_s": round(delays[int(len(delays) * 0.99)], 2), "measured_delays": len(self.delays),
            "slowest_answer_s": round(self.figures.slowest_answer_s, 2), "settled_s": round(self.settled_s, 1),
            "refused": dict(self.figures.refused), "unanswered": self.figures.unanswered, "ledger": self.ledger,
            "by_kind": dict(self.faults), "ended_by_themselves": dict(self.ended), "objects": dict(self.phases),
            "figures": asdict(self.figures) | {"refused": dict(self.figures.refused)},
        }  # fmt: skip


@dataclass(slots=True)
class Soak:
    """The parts of a run while it goes on, for whoever shows it."""

    stage: Stage
    book: Book
    faults: Faults
    watch: Watch
    ends_at: float
    doing: str = ""


def soak(
    folder: Path, *, minutes: float, seed: int, rate: float, show: Callable[[Soak], None], every_s: float = 0.5,
    sink: str = "directory",
) -> Verdict:  # fmt: skip
    """Runs it all. Raises where the soak itself could not be carried out."""
    book = Book()
    with SINKS[sink](folder) as target, Stage(folder, target) as stage:
        load = Load(stage.ports, rate, seed, book)
        faults = Faults(stage, seed)
        watch = Watch(target, book)
        run = Soak(stage, book, faults, watch, time.monotonic() + minutes * 60, "load and faults")
        watch.start()
        load.start()
        faults.start()
        while time.monotonic() < run.ends_at:
            assert load.running, "a sender broke off"
            assert watch.is_alive(), "the watch broke off"
            faults.check()
            show(run)
            time.sleep(every_s)
        run.doing = "mending"
        show(run)
        faults.finish()
        stage.heal()
        run.doing = "senders' last word"
        show(run)
        load.finish(target.held(every=SOME))
        run.doing = "settling"
        show(run)
        watch.finish()
        begun = time.monotonic()
        comparison, storms, ledger = _settle(run, show)
        settled_s = time.monotonic() - begun
        figures = book.figures()
        worst = watch.worst.awaited
        around = faults.around(worst.accepted_at, worst.accepted_at + watch.worst.seconds) if worst else []
        return Verdict(
            sink=sink, seed=seed, minutes=minutes, figures=figures, ledger=ledger, comparison=comparison,
            unbalanced=unbalanced(
                ledger, storms, accepted=figures.accepted, ignored=figures.ignored, attempted=figures.attempted
            ),
            wrong=book.wrongs() + target.wrong, faults=faults.kinds(), ended=stage.restarts, delays=watch.delays,
            worst_of=_described(worst, around) if worst else "",
            settled_s=settled_s, phases=phases(watch.look()),
        )  # fmt: skip


def _described(awaited: Awaited, around: Sequence[str]) -> str:
    """Which alert waited longest, and the faults that came meanwhile."""
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(around).items()))
    return f"{'/'.join(value for _, value in awaited.key)} {awaited.fingerprint}, meanwhile: {faults or 'no fault'}"


def _settle(run: Soak, show: Callable[[Soak], None]) -> tuple[Comparison, list[OpenStorm], dict[str, int]]:
    """The comparison once it is clean and nothing waits, or as it is when that takes too long."""
    end = time.monotonic() + SETTLE_S
    truth = run.book.firing()
    clean_since = 0.0
    while True:
        idle = run.stage.pending() == 0
        storms = open_storms(run.stage)
        now = time.monotonic()
        try:
            comparison = compare(truth, storms, run.watch.look())
        except Gone:
            if now > end:
                raise
            clean_since = 0.0
            continue
        clean_since = (clean_since or now) if idle and comparison.clean else 0.0
        if (clean_since and now - clean_since >= STEADY_S) or now > end:
            return comparison, storms, dict(run.stage.stack.api("storms")["ledger"])
        show(run)
        time.sleep(0.5)


def open_storms(stage: Stage) -> list[OpenStorm]:
    """All that the API tells of open storms."""
    storms = []
    for item in stage.stack.pages("storms"):
        members = _members(stage, item["id"])
        storms.append(
            OpenStorm(
                item["id"],
                key_of(item["stormKey"]),
                item["phase"],
                item["alertCount"],
                item["ledger"],
                sorted({member["fingerprint"] for member in members if member["status"] == "firing"}),
            )
        )
    return storms


def _members(stage: Stage, name: str) -> list[dict[str, Any]]:
    """A storm's members, none where it closed meanwhile."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = stage.stack.get(f"/api/v1/storms/{name}/members?limit=500{cursor}")
        if answer.status == 404:
            return []
        assert answer.status == 200, (name, answer.status, answer.body)
        items += answer.json["items"]
        if not answer.json["next"]:
            return items
        cursor = f"&cursor={answer.json['next']}"
