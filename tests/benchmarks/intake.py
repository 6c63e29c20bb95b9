"""Intake end to end, from the first POST to the last alert recorded in its storm, beside a real Alertmanager's own."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lua_scripts.keys import SHARDS, ShardKeys
from tests.benchmarks.client import Sent, post_all
from tests.benchmarks.load import Load, fresh
from tests.benchmarks.report import Measure
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import request

CONNECTIONS = 8
STORMS = 40
DRAIN_DEADLINE_S = 120.0

# It groups as ours does and tells nobody: all of its work is the intake.
CONFIGURATION = """\
route:
  receiver: nobody
  group_by: [cluster, namespace, alertname]
receivers:
  - name: nobody
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One size of request, and how many of them a storm gets in a round."""

    per_request: int
    requests_each: int
    mark: float


CASES = (Case(100, 8, mark=0.3), Case(10, 20, mark=0.1))


def alertmanager_executable() -> str | None:
    """Debian calls it prometheus-alertmanager, everybody else alertmanager."""
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


@contextmanager
def alertmanager(folder: Path, executable: str) -> Iterator[int]:
    """A running Alertmanager; its port."""
    folder.mkdir(parents=True)
    port = free_port()
    configuration = folder / "alertmanager.yml"
    configuration.write_text(CONFIGURATION)
    process = Process(
        "alertmanager",
        [
            executable, f"--config.file={configuration}", f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error",
        ],
        environ={"PATH": os.environ["PATH"], "HOME": str(folder)},
        folder=folder,
    )  # fmt: skip

    def ready() -> bool:
        try:
            return request(port, "GET", "/-/ready").status == 200
        except OSError:
            return False

    try:
        process.start()
        wait_until(ready, "Alertmanager to be ready", describe=process.log)
        yield port
    finally:
        process.kill()


def stormfold(folder: Path, workers: int) -> Stack:
    """The real processes with the settings as shipped, but for the memory that many rounds on one Redis need."""
    shipped = {
        "DEBOUNCE": "5s", "MAX_WAIT": "30s", "SINGLE_HOLD": "5s", "LEASE": "30s", "REOPEN_WINDOW": "5m",
        "STALE_AFTER": "6h",
    }  # fmt: skip
    return Stack(folder, shipped, workers=workers, maxmemory="2gb")


def measure(folder: Path, rounds: int, workers: int, say: Callable[[str], None]) -> list[Measure]:
    """A ratio per size of request: alerts a second of stormfold over those of Alertmanager, round by round."""
    executable = alertmanager_executable()
    if executable is None:
        note = "not measured: Alertmanager (Debian: prometheus-alertmanager) is not installed"
        return [Measure(_name(case), (), case.mark, "higher", note) for case in CASES]
    with alertmanager(folder / "alertmanager", executable) as port, stormfold(folder / "stormfold", workers) as stack:
        return [_case(case, port, stack, rounds, say) for case in CASES]


def _name(case: Case) -> str:
    return f"intake, {case.per_request} alerts a request: stormfold / Alertmanager"


def _case(case: Case, port: int, stack: Stack, rounds: int, say: Callable[[str], None]) -> Measure:
    ratios: list[float] = []
    theirs: list[float] = []
    ours: list[float] = []
    answered: list[float] = []
    latencies: list[float] = []
    for number in range(rounds + 1):
        cluster = f"round-{case.per_request}-{number}"
        load = fresh(cluster, storms=STORMS, requests_each=case.requests_each, per_request=case.per_request)
        their_s = _span(_post_to_alertmanager(port, load))
        sent, our_s = _post_to_stormfold(stack, load)
        if number == 0:
            continue  # both warm up
        theirs.append(load.alerts / their_s)
        ours.append(load.alerts / our_s)
        answered.append(load.alerts / _span(sent))
        latencies += sent.latencies_s
        ratios.append(their_s / our_s)
        say(f"  {case.per_request} alerts a request, round {number}: {ratios[-1]:.2f}")
    details = {
        "alerts_a_round": STORMS * case.requests_each * case.per_request,
        "alertmanager_alerts_per_s": theirs,
        "stormfold_alerts_per_s": ours,
        "stormfold_answered_alerts_per_s": answered,
        "stormfold_answer_ms_median": statistics.median(latencies) * 1000,
        "stormfold_answer_ms_p99": statistics.quantiles(latencies, n=100)[98] * 1000,
    }
    note = f"{statistics.median(ours):,.0f} against {statistics.median(theirs):,.0f} alerts/s here"
    return Measure(_name(case), ratios, case.mark, "higher", note, details)


def _span(sent: Sent) -> float:
    return sent.ended - sent.begun


def _post_to_alertmanager(port: int, load: Load) -> Sent:
    return post_all(port, "/api/v2/alerts", load.for_alertmanager(), connections=CONNECTIONS, expected=200)


def _post_to_stormfold(stack: Stack, load: Load) -> tuple[Sent, float]:
    """What was sent, and the seconds until all of it was in storms. Returns when the RRs are written too."""
    bodies = load.for_stormfold()
    before = _recorded(stack)
    sent = post_all(stack.port, "/api/v1/signals/prometheus", bodies, connections=CONNECTIONS, expected=202)
    wanted = before + load.alerts
    end = time.perf_counter() + DRAIN_DEADLINE_S
    while (recorded := _recorded(stack)) < wanted:
        if time.perf_counter() > end:
            raise RuntimeError(f"{wanted - recorded} alerts were not recorded within {DRAIN_DEADLINE_S:g} s")
        time.sleep(0.005)
    seconds = time.perf_counter() - sent.begun
    if recorded != wanted:
        raise RuntimeError(f"{recorded} alerts are recorded, {wanted} were posted")
    # Otherwise the writing of these storms would fall into Alertmanager's next turn.
    stack.wait_settled(DRAIN_DEADLINE_S)
    return sent, seconds


def _recorded(stack: Stack) -> int:
    """How many alerts are new in some storm; ingest counts one in the same step as it records it."""
    pipeline = stack.redis.client.pipeline(transaction=False)
    for shard in range(SHARDS):
        pipeline.hget(ShardKeys(shard).meta, "nw")
    return sum(int(count or 0) for count in pipeline.execute())
