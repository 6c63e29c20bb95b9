"""The supervisor of `run` and `demo`: children live and die together, and none is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli.processes import Part, PartError, Supervisor, free_port

STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(99)"
POLITE = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
POLITE += "print('up', flush=True)\ntime.sleep(99)"
PARENT = "import subprocess, sys, time\nprint(subprocess.Popen(['sleep', '99']).pid, flush=True)\ntime.sleep(99)"


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but whose parent has not looked yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(check: Callable[[], bool], within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def supervisor(lines: list[tuple[str, str]]) -> Iterator[Supervisor]:
    made = Supervisor(lambda name, line: lines.append((name, line)))
    yield made
    made.hurry()
    made.stop()


def python(name: str, code: str, stage: int = 1) -> Part:
    return Part(name, (sys.executable, "-c", code), os.environ, stage)


def test_parts_stop_in_reverse_order(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    # Given a part that others need, and two others
    for name, stage in (("base", 0), ("one", 1), ("two", 1)):
        supervisor.start(python(name, POLITE, stage))
    assert eventually(lambda: len(lines) == 3)

    # When all are stopped
    supervisor.stop()

    # Then the base was the last to say good-bye
    said = [name for name, line in lines if line == "bye"]
    assert sorted(said) == ["base", "one", "two"]
    assert said[-1] == "base"


def test_what_does_not_stop_is_killed_with_its_children(supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    # Given a part that ignores SIGTERM, and one whose child would outlive it
    stubborn = supervisor.start(python("stubborn", STUBBORN))
    parent = supervisor.start(python("parent", PARENT))
    assert eventually(lambda: len(lines) == 2)
    grandchild = int(next(line for name, line in lines if name == "parent"))

    # When they are stopped
    supervisor.stop(within_s=0.2)

    # Then nothing is left
    assert eventually(lambda: not any(alive(pid) for pid in (stubborn, parent, grandchild)))


def test_a_part_that_ends_is_noticed(supervisor: Supervisor) -> None:
    # Given a part that ends by itself, and one that runs
    supervisor.start(python("steady", POLITE))
    supervisor.start(python("brief", "raise SystemExit(3)"))

    # When and Then: waiting for anything says so
    with pytest.raises(PartError, match="brief ended with status 3"):
        supervisor.wait_until(lambda: False, "something", within_s=20)


def test_what_is_not_ready_in_time_is_named(supervisor: Supervisor) -> None:
    supervisor.start(python("steady", POLITE))

    with pytest.raises(PartError, match=r"the moon: not within 0\.3 s"):
        supervisor.wait_until(lambda: False, "the moon", within_s=0.3)


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    # Given a supervisor in a process of its own
    program = """
import os, sys, time
from app.cli.processes import Part, Supervisor
print(Supervisor(lambda *_: None).start(Part("child", ("sleep", "99"), os.environ)), flush=True)
time.sleep(99)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())

    # When it is killed outright
    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    # Then its child ends too
    assert eventually(lambda: not alive(child))


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert free_port("127.0.0.1", port) not in (0, port)
    assert free_port("127.0.0.1", port) == port
    assert free_port("127.0.0.1", port, [port]) != port
