"""The fixture itself: it is shared, and it leaves nothing behind however its users end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.control_plane import ROOT, ControlPlane, shared
from tests.support.waiting import wait_until

USER = """
import sys
from pathlib import Path
from tests.cluster.control_plane import shared
with shared(Path(sys.argv[1]), Path(sys.argv[2])) as plane:
    print(plane.url, flush=True)
    sys.stdin.read()
"""


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that were started for this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(str(folder) in word for word in words):
                found.append(words[0])
    return found


def user_of(folder: Path, assets: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder), assets],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_killed_users_leave_no_process(control_plane: ControlPlane, tmp_path: Path) -> None:
    # Given a control plane of its own with two users, each of which found the same one
    folder = tmp_path / "plane"
    users = [user_of(folder, control_plane.assets) for _ in range(2)]
    urls = {user.stdout.readline() for user in users if user.stdout}
    assert len(urls) == 1
    # When the one that may have started it is killed
    users[0].send_signal(signal.SIGKILL)
    users[0].wait()
    # Then the other one still has it, and a third can join
    with shared(folder, Path(control_plane.assets)) as plane:
        assert {f"{plane.url}\n"} == urls
        assert plane.ready()
    # When all are killed, Then no process of it is left
    users[1].send_signal(signal.SIGKILL)
    users[1].wait()
    wait_until(lambda: not processes_of(folder), "the end of its processes", describe=lambda: processes_of(folder))
    for user in users:
        for pipe in (user.stdin, user.stdout):
            assert pipe is not None
            pipe.close()


def test_a_killed_supervisor_takes_its_servers_along(control_plane: ControlPlane, tmp_path: Path) -> None:
    # Given a control plane of its own
    folder = tmp_path / "plane"
    with shared(folder, Path(control_plane.assets)):
        servers = processes_of(folder)
        assert sorted(Path(one).name for one in servers if Path(one).name != Path(sys.executable).name) == [
            "etcd",
            "kube-apiserver",
            *(["kube-controller-manager"] if control_plane.controllers else []),
        ]
        # When its supervisor is killed
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and f"tests.cluster.control_plane\0{folder}" in _cmdline(entry):
                os.kill(int(entry.name), signal.SIGKILL)
        # Then the servers are gone as well
        wait_until(lambda: not processes_of(folder), "the end of its processes", describe=lambda: processes_of(folder))


def _cmdline(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
