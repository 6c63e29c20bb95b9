"""`stormfold demo`: a storm from its first webhook to its last resolve, on parts that are started for it alone."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli import demo_report as report
from app.cli import payloads, stack
from app.cli.demo_report import Outcome, Step
from app.cli.http import WEBHOOK_PATH, Api, CallFailed
from app.cli.processes import PartError, Supervisor, interruptible

STORM: Final = 50
WITHIN_S: Final = 45
_DURATIONS: Final = {
    "STORMFOLD_DEBOUNCE": "1s", "STORMFOLD_MAX_WAIT": "3s", "STORMFOLD_SINGLE_HOLD": "2s",
    "STORMFOLD_REOPEN_WINDOW": "1m", "STORMFOLD_LEASE": "10s",
}  # fmt: skip


class DemoError(Exception):
    """The outcome was not the right one; the text says how."""


@dataclass(slots=True)
class Logs:
    """What the parts print: into a file for each, out of sight until something goes wrong."""

    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, name: str, line: str) -> None:
        with self._lock, (self.folder / f"{name}.log").open("a") as file:
            file.write(line + "\n")

    def tails(self, lines: int = 15) -> str:
        return "\n".join(
            f"--- {path.stem}\n" + "\n".join(path.read_text().splitlines()[-lines:])
            for path in sorted(self.folder.glob("*.log"))
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """The running parts, and where their RemediationRequests appear."""

    supervisor: Supervisor
    url: str
    manifests: Path
    console: Console

    def post(self, alerts: Sequence[payloads.PostedAlert]) -> int:
        """Posts alerts grouped as Alertmanager groups them; the number of webhooks."""
        bodies = payloads.webhooks(alerts)
        with Api(self.url) as api:
            for body in bodies:
                answer = api.request("POST", WEBHOOK_PATH, payloads.encode(body), payloads.HEADERS)
                if answer.status != 202:
                    raise DemoError(f"a webhook was answered {answer.status}: {answer.body.decode(errors='replace')}")
        return len(bodies)

    def follow(self, what: str, wanted: Outcome, done: Callable[[Outcome], int], total: int) -> tuple[Outcome, float]:
        """Waits for an outcome under a progress bar; the outcome and the seconds it took."""
        seen = Outcome()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as bar:
            line = bar.add_task(what, total=total)

            def reached() -> bool:
                nonlocal seen
                seen = report.read(self.manifests)
                bar.update(line, completed=done(seen))
                return seen.sums() == wanted.sums()

            try:
                took = self.supervisor.wait_until(reached, what, WITHIN_S)
            except PartError as error:
                raise DemoError(f"{error}\nwanted: {wanted.sums()}\nfound:  {seen.sums()}") from error
        return seen, took


@click.command()
@click.option("--maxmemory", default="64mb", show_default=True, help="Memory limit of the demo's Redis.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 8), help="Worker processes.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep manifests and logs in this folder."
)
def demo(maxmemory: str, workers: int, keep: Path | None) -> None:
    """Start everything, post a storm of 50 alerts and three others, show what comes out, stop everything.

    The exit status is 0 only when the outcome was right.
    """
    console = Console()
    with ExitStack() as held:
        folder = keep or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="stormfold-demo-")))
        if (folder / "manifests").exists():
            raise click.UsageError(f"{folder} has manifests already")
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        logs = Logs(folder / "logs")
        environ = _environ(os.environ, folder / "manifests")
        plan = stack.plan(environ, state=folder, maxmemory=maxmemory, workers=workers)
        supervisor = Supervisor(logs)
        try:
            with interruptible(supervisor):
                _show(plan, Scene(supervisor, plan.web_url, folder / "manifests", console), logs)
        except KeyboardInterrupt:
            raise SystemExit("stopped before the end") from None
        except (DemoError, PartError, CallFailed) as error:
            click.echo(logs.tails())
            raise SystemExit(f"WRONG: {error}") from error
        console.print(f"All parts have stopped.{f' Manifests and logs are in {keep}.' if keep else ''}")
        console.print("[bold green]RIGHT[/]: 53 alerts became 1 storm RemediationRequest and 3 singles.")


def _environ(environ: Mapping[str, str], manifests: Path) -> dict[str, str]:
    """The demo's own settings, none of the caller's: neither a Redis nor a cluster in use may be touched."""
    ours = {n: v for n, v in environ.items() if not n.startswith("STORMFOLD_") or n == stack.SERVER_NAME}
    return ours | _DURATIONS | {"STORMFOLD_SINK": f"directory:{manifests}"}


def _show(plan: stack.Plan, scene: Scene, logs: Logs) -> None:
    console, steps, begin = scene.console, [], time.monotonic()
    console.rule("Start")
    for note in plan.notes:
        console.print(note)
    stack.start(plan, scene.supervisor, console.print)
    console.print(f"storms page {plan.web_url}/  Flower {plan.flower_url}/ ({plan.flower_auth})", soft_wrap=True)
    steps.append(Step("start all parts", time.monotonic() - begin))

    console.rule("Fire")
    storm = payloads.storm("pods", STORM, starts_at=datetime.now(UTC))
    others = payloads.unrelated(starts_at=datetime.now(UTC))
    begin = time.monotonic()
    webhooks = scene.post([*storm, *others])
    posted = time.monotonic() - begin
    steps.append(Step(f"{STORM + len(others)} alerts in {webhooks} webhooks, all stored and answered 202", posted))
    wanted = Outcome.of(storms=[("Active", STORM)], singles=["Active"] * len(others))
    fired, took = scene.follow("RemediationRequests", wanted, lambda seen: len(seen.objects), len(wanted.states))
    steps.append(Step("1 storm RR and 3 singles written", took))
    console.print(report.outcome_table(storm, others, fired))
    console.print(report.as_yaml(fired.storms[0]))

    console.rule("Half of the storm resolves")
    half, rest = storm[: STORM // 2], storm[STORM // 2 :]
    now = datetime.now(UTC)
    # Alertmanager sends the whole group again: what has resolved and what still fires.
    scene.post([*(alert.resolved(now) for alert in half), *rest])
    wanted = Outcome.of(storms=[("Active", len(rest))], singles=["Active"] * len(others))
    seen, took = scene.follow("resolved", wanted, lambda seen: STORM - seen.firing, len(half))
    steps.append(Step(f"half resolved: the storm RR shows {len(rest)} firing", took))
    console.print(report.phase_table(seen))

    console.rule("All of it resolves")
    now = datetime.now(UTC)
    scene.post([alert.resolved(now) for alert in [*rest, *others]])
    wanted = Outcome.of(storms=[("Resolved", 0)], singles=["Resolved"] * len(others))
    seen, took = scene.follow("resolved", wanted, lambda seen: STORM - seen.firing, STORM)
    steps.append(Step("all resolved: the storm RR and the singles say so", took))
    console.print(report.phase_table(seen))

    wrong = report.mistakes(fired, seen, storm)
    if wrong:
        raise DemoError("; ".join(wrong))
    console.rule("How long each took")
    console.print(report.steps_table(steps))
