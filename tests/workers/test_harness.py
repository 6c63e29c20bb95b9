"""The harness itself: nothing that a test started outlives the test run, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import wait_until

RUN = """\
import os, sys, time
from pathlib import Path
from tests.support.processes import Process
folder = Path(sys.argv[1])
script = f"sleep 600 & echo $! > {folder}/child; wait"
process = Process("parent", ["/bin/sh", "-c", script], environ=dict(os.environ), folder=folder).start()
(folder / "parent").write_text(str(process.pid))
print("started", flush=True)
time.sleep(600)
"""


def test_killed_test_run_takes_its_processes_along(tmp_path: Path) -> None:
    # Given a test run with a process that has a child
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, env=dict(os.environ) | {"PYTHONPATH": "."}) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"started\n"
        wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip(), "the child")
        pids = [int((tmp_path / name).read_text()) for name in ("parent", "child")]
        assert all(alive(pid) for pid in pids)
        # When the run is killed
        run.send_signal(signal.SIGKILL)
        run.wait()
    # Then neither is left
    wait_until(lambda: not any(alive(pid) for pid in pids), "both to be gone", describe=lambda: pids)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
