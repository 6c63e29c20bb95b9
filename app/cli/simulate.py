"""`stormfold simulate`: posts storms of a chosen size, rate and shape to any URL, as Alertmanager would."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli import payloads
from app.cli.http import WEBHOOK_PATH, Api, CallFailed


@dataclass(slots=True)
class Outcome:
    """What the other side answered, over all requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    posted: int = 0

    @property
    def refused(self) -> int:
        """Requests that were not answered 202."""
        return sum(self.statuses.values()) - self.statuses["202"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to post, and as whom."""

    url: str
    token: str | None = None
    user: str | None = None


def interleaved(storms: Sequence[list[dict[str, Any]]], chance: random.Random) -> list[dict[str, Any]]:
    """The bodies of several storms in one order that mixes them and keeps each storm's own."""
    tickets = [number for number, bodies in enumerate(storms) for _ in bodies]
    chance.shuffle(tickets)
    waiting: list[Iterator[dict[str, Any]]] = [iter(bodies) for bodies in storms]
    return [next(waiting[number]) for number in tickets]


def post(
    target: Target,
    bodies: Sequence[dict[str, Any]],
    *,
    rate: float = 0,
    connections: int = 1,
    progress: Any = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Posts bodies over some connections, at most ``rate`` alerts a second (0: as fast as answers come)."""
    outcome = outcome or Outcome()
    queue: SimpleQueue[tuple[float, dict[str, Any]]] = SimpleQueue()
    begin, before = time.monotonic(), 0
    for body in bodies:
        queue.put((begin + (before / rate if rate else 0), body))
        before += len(body["alerts"])
    lock = threading.Lock()

    def drain(connection: Api) -> None:
        with connection as api:
            while True:
                try:
                    at, body = queue.get_nowait()
                except Empty:
                    return
                time.sleep(max(0.0, at - time.monotonic()))
                _post_one(api, body, outcome, lock)
                if progress is not None:
                    progress(len(body["alerts"]))

    apis = [Api(target.url, token=target.token, user=target.user) for _ in range(min(connections, len(bodies)))]
    threads = [threading.Thread(target=drain, args=(api,), daemon=True) for api in apis]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def _post_one(api: Api, body: dict[str, Any], outcome: Outcome, lock: threading.Lock) -> None:
    data, started = payloads.encode(body), time.perf_counter()
    try:
        answer = api.request("POST", WEBHOOK_PATH, data, payloads.HEADERS)
    except CallFailed:
        with lock:
            outcome.statuses["no answer"] += 1
        return
    took = time.perf_counter() - started
    with lock:
        outcome.statuses[str(answer.status)] += 1
        outcome.latencies_s.append(took)
        outcome.posted += len(body["alerts"])
        if answer.status == 202:
            receipt = answer.json()
            outcome.counts.update({name: receipt.get(name, 0) for name in ("accepted", "ignored", "deadLettered")})


@click.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Where stormfold listens.")
@click.option("--alerts", default=50, show_default=True, type=click.IntRange(1), help="Distinct alerts of each storm.")
@click.option("--storms", default=1, show_default=True, type=click.IntRange(1), help="Storms at the same time.")
@click.option("--shape", default="pods", show_default=True, type=click.Choice(payloads.SHAPES), help="What they hit.")
@click.option("--per-request", default=50, show_default=True, type=click.IntRange(1), help="Most alerts a request.")
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Alerts a second; 0: as fast as answers come.")
@click.option("--connections", default=4, show_default=True, type=click.IntRange(1, 256), help="Requests at a time.")
@click.option("--duplicates", default=0, show_default=True, type=click.IntRange(0), help="Repeats of every request.")
@click.option("--resolve", is_flag=True, help="Afterwards post the same alerts as resolved.")
@click.option("--seed", type=int, help="Same seed, same alerts; default: new ones every time.")
@click.option("--token", envvar="STORMFOLD_WEBHOOK_TOKEN", help="Bearer token.")
@click.option("--user", envvar="STORMFOLD_BASIC_AUTH", help="user:password for basic auth.")
def simulate(
    url: str,
    alerts: int,
    storms: int,
    shape: payloads.Shape,
    per_request: int,
    rate: float,
    connections: int,
    duplicates: int,
    resolve: bool,
    seed: int | None,
    token: str | None,
    user: str | None,
) -> None:
    """Post storms to a running stormfold and sum up what it answered. Exits 1 unless every answer was 202."""
    seed = seed if seed is not None else random.SystemRandom().randrange(10**6)
    chance, console = random.Random(seed), Console()
    target, started = Target(url, token, user), time.monotonic()
    firing = [
        payloads.storm(shape, alerts, starts_at=datetime.now(UTC), number=number, seed=seed) for number in range(storms)
    ]
    outcome = Outcome()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as bar:

        def round_of(what: str, groups: list[list[payloads.PostedAlert]], times: int) -> None:
            bodies = interleaved(
                [payloads.webhooks(group, per_request=per_request) * times for group in groups], chance
            )
            line = bar.add_task(what, total=sum(len(body["alerts"]) for body in bodies))
            post(
                target,
                bodies,
                rate=rate,
                connections=connections,
                progress=lambda count: bar.advance(line, count),
                outcome=outcome,
            )

        round_of("firing", firing, 1 + duplicates)
        if resolve:
            now = datetime.now(UTC)
            round_of("resolved", [[alert.resolved(now) for alert in group] for group in firing], 1)
    console.print(summary(outcome, time.monotonic() - started, seed))
    if outcome.refused:
        raise SystemExit(1)


def summary(outcome: Outcome, took_s: float, seed: int) -> Table:
    """What was answered, as a table."""
    table = Table(title=f"seed {seed}", show_header=False)
    for status, count in sorted(outcome.statuses.items()):
        table.add_row(f"answers {status}", f"{count:,}")
    for name in ("accepted", "ignored", "deadLettered"):
        table.add_row(f"alerts {name}", f"{outcome.counts[name]:,}")
    table.add_row("took", f"{took_s:.2f} s")
    table.add_row("alerts answered a second", f"{outcome.posted / took_s:,.0f}")
    if outcome.latencies_s:
        ordered = sorted(outcome.latencies_s)
        table.add_row("answer time, median", f"{ordered[len(ordered) // 2] * 1000:.1f} ms")
        table.add_row("answer time, worst", f"{ordered[-1] * 1000:.1f} ms")
    return table
