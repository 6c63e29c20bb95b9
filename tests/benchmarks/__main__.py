"""`make bench`: measures, prints the table, writes results.json; exits 1 where a mark is missed."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.benchmarks import intake, memory, scripts
from tests.benchmarks.report import RESULTS, Measure, save, show

PARTS = ("intake", "scripts", "memory")
CORES = 2


def main() -> int:
    """Runs the parts that were asked for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, at least 5 for figures that count")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the intake")
    arguments = parser.parse_args()
    wanted = arguments.parts or list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"unknown part {', '.join(unknown)}")

    # Whatever is measured side by side shares the same two cores, the client too.
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    console = Console()
    measures: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="stormfold-bench-") as name:
        folder = Path(name)
        run: dict[str, Callable[[], list[Measure]]] = {
            "intake": lambda: intake.measure(folder, arguments.rounds, arguments.workers, console.print),
            "scripts": lambda: scripts.measure(folder, arguments.rounds, console.print),
            "memory": lambda: memory.measure(folder, arguments.rounds, console.print),
        }
        for part in wanted:
            console.print(f"measuring {part} ...")
            measures += run[part]()
    machine = {
        "cores": len(cores), "python": platform.python_version(), "platform": platform.platform(),
        "load_average": os.getloadavg(), "workers": arguments.workers,
    }  # fmt: skip
    show(measures, console)
    save(measures, machine)
    console.print(f"every round: {RESULTS}")
    return 0 if all(measure.met for measure in measures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
