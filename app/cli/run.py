"""`stormfold run`: everything on one machine until Ctrl-C, with the logs of all parts in one stream."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import click

from app.cli import stack
from app.cli.processes import POLL_S, PartError, Supervisor, interruptible

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")
_WIDTH: Final = 9


class Printer:
    """Prints lines behind the name of their part, in a colour of its own where the terminal has colours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {}

    def __call__(self, name: str, line: str) -> None:
        with self._lock:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            click.echo(f"{click.style(f'{name:<{_WIDTH}} │', fg=colour)} {line}")


@click.command()
@click.option("--redis-url", help="Use this Redis instead of starting one; so does STORMFOLD_REDIS_URL.")
@click.option("--maxmemory", default="64mb", show_default=True, help="Memory limit of the Redis that is started.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes to start.")
@click.option(
    "--state",
    default=Path(".stormfold"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder where the Redis that is started keeps its data.",
)
@click.option("--flower/--no-flower", default=True, help="Start Flower too.")
def run(redis_url: str | None, maxmemory: str, workers: int, state: Path, flower: bool) -> None:
    """Start Redis, web, worker and Flower on this machine and stay until Ctrl-C."""
    plan = stack.plan(os.environ, state=state, redis_url=redis_url, maxmemory=maxmemory, workers=workers, flower=flower)
    printer = Printer()
    supervisor = Supervisor(printer)
    failed = False

    def say(line: str) -> None:
        printer("stormfold", line)

    with interruptible(supervisor) as stopping:
        try:
            for note in plan.notes:
                say(note)
            stack.start(plan, supervisor, say)
            for line in _welcome(plan):
                say(line)
            while not stopping.wait(POLL_S * 2):
                supervisor.check()
        except KeyboardInterrupt:
            say("stopping")
        except PartError as error:
            say(f"{error}; stopping the rest")
            failed = True
    say("all parts have stopped")
    if failed:
        raise SystemExit(1)


def _welcome(plan: stack.Plan) -> list[str]:
    settings = plan.settings
    lines = [
        f"storms page  {plan.web_url}/",
        f"webhook      {plan.web_url}/api/v1/signals/prometheus",
        f"metrics      {plan.web_url}/metrics",
    ]
    if plan.flower_url:
        given = settings.basic_auth is not None
        lines.append(f"Flower       {plan.flower_url}/  ({'STORMFOLD_BASIC_AUTH' if given else plan.flower_auth})")
    lines.append(f"RemediationRequests go to {settings.sink}")
    return [*lines, "Ctrl-C stops everything; try: stormfold simulate --url " + plan.web_url]
