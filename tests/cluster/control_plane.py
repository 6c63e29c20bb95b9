"""One control plane for a whole test run, shared between its processes.

Every user holds a shared lock on one file, and the kernel lets go of it however the user ends. A supervisor process
waits for the exclusive lock, so it goes when the last user is gone, killed ones included; what it started dies with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.cluster.servers import ROOT, START_S, WORKER, ControlPlane, Servers
from tests.support.waiting import wait_until

__all__ = ["ROOT", "WORKER", "ControlPlane", "shared"]


@contextlib.contextmanager
def shared(folder: Path, assets: Path) -> Iterator[ControlPlane]:
    """The control plane of this folder: started by whoever comes first, stopped when the last user is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    supervisor: subprocess.Popen[bytes] | None = None
    with open(folder / "users.lock", "ab") as user:
        with open(folder / "start.lock", "ab") as starter:
            fcntl.flock(starter, fcntl.LOCK_EX)
            # Blocks while an earlier supervisor is stopping: it holds the exclusive lock to its end.
            fcntl.flock(user, fcntl.LOCK_SH)
            plane = _running(folder)
            if plane is None:
                supervisor = _spawn(folder, assets)
                plane = _started(folder, supervisor)
        yield plane
    if supervisor is not None:
        # Alone, this process sees it end; beside others, the last of them may still be at work.
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(timeout=10)


def _running(folder: Path) -> ControlPlane | None:
    try:
        plane = ControlPlane(**json.loads((folder / "state.json").read_text()))
    except FileNotFoundError:
        return None
    return plane if plane.ready() else None


def _spawn(folder: Path, assets: Path) -> subprocess.Popen[bytes]:
    (folder / "state.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.cluster.control_plane", str(folder), str(assets)]
    with open(folder / "supervisor.log", "ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _started(folder: Path, supervisor: subprocess.Popen[bytes]) -> ControlPlane:
    def state() -> ControlPlane | None:
        if supervisor.poll() is not None:
            raise AssertionError(f"no control plane: {(folder / 'supervisor.log').read_text()[-4000:]}")
        return _running(folder)

    plane = wait_until(state, f"a control plane in {folder}", deadline_s=START_S)
    assert plane is not None
    return plane


class _Supervisor:
    """Owns the servers."""

    def __init__(self, folder: Path, assets: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder, assets)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with open(self.folder / "users.lock", "ab") as users:
            try:
                plane = self.servers.start()
                fresh = self.folder / "state.json.tmp"
                fresh.write_text(json.dumps(asdict(plane)))
                fresh.replace(self.folder / "state.json")
                while self.servers.alive() and not _locked(users):
                    time.sleep(0.2)
            finally:
                (self.folder / "state.json").unlink(missing_ok=True)
                self.servers.stop()


def _locked(handle: object) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    _Supervisor(Path(sys.argv[1]), Path(sys.argv[2])).run()
