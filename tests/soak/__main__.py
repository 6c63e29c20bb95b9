"""`make soak`: load and random faults for some minutes, then the verdict; exits 1 on any loss or double."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.soak.cluster import lacks_assets
from tests.soak.display import Display, print_verdict
from tests.soak.run import SINKS, soak


def main() -> int:
    """Runs one soak; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--sink", choices=sorted(SINKS), default="directory", help="what the workers write to")
    parser.add_argument("--minutes", type=float, default=6.0, help="how long load and faults last")
    parser.add_argument("--seed", type=int, help="of load and faults; drawn and printed without it")
    parser.add_argument("--rate", type=float, default=1100.0, help="alerts a second that the senders try for")
    parser.add_argument("--folder", type=Path, help="where logs, data and manifests go, and stay")
    parser.add_argument("--json", type=Path, help="file to which a line of figures is added")
    arguments = parser.parse_args()
    if arguments.sink == "kubernetes" and (missing := lacks_assets()):
        print(f"--sink kubernetes: {missing}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="stormfold-soak-"))
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"soak of {arguments.minutes:g} min, sink {arguments.sink}, seed {seed}, in {folder}")
    with Display(console) as display:
        verdict = soak(
            folder, minutes=arguments.minutes, seed=seed, rate=arguments.rate, show=display.show, sink=arguments.sink
        )
    print_verdict(verdict, console)
    if arguments.json:
        with arguments.json.open("a") as file:
            file.write(json.dumps(verdict.as_json()) + "\n")
    if verdict.passed and not arguments.folder:
        shutil.rmtree(folder)
    else:
        console.print(f"logs, data and manifests: {folder}")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
