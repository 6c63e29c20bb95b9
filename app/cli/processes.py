"""Child processes that live and die together: started in order, watched, stopped in reverse, none left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO, Final

POLL_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class PartError(Exception):
    """A part ended when it should run, or was not ready in time; the text says which."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process. Parts of a lower stage outlive those of a higher one."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    stage: int = 1


@dataclass(frozen=True, slots=True)
class _Child:
    part: Part
    process: subprocess.Popen[bytes]
    reader: threading.Thread


def free_port(host: str, wanted: int, but_not: Sequence[int] = ()) -> int:
    """The wanted port of an address, or one that is free where it is taken."""
    for port in (wanted, *([0] * 20)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                found = int(probe.getsockname()[1])
                if found not in but_not:
                    return found
    raise PartError(f"found no free port on {host}")


class Supervisor:
    """Starts parts and gives every line that they print to ``emit(name, line)``, from a thread of each part."""

    def __init__(self, emit: Callable[[str, str], None]) -> None:
        self._emit = emit
        self._children: list[_Child] = []
        self._hurry = False

    def start(self, part: Part) -> int:
        """Starts a part and returns its process id."""
        process = subprocess.Popen(
            part.command,
            env=dict(part.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own: Ctrl-C in the terminal is for us alone, so that we can stop the parts in order.
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        assert process.stdout is not None  # for the type checker: PIPE was asked for
        reader = threading.Thread(target=self._read, args=(part.name, process.stdout), daemon=True)
        reader.start()
        self._children.append(_Child(part, process, reader))
        return process.pid

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._emit(name, line.decode(errors="replace").rstrip("\n"))

    def check(self) -> None:
        """Raises PartError if a part has ended."""
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                child.reader.join(1)
                how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                raise PartError(f"{child.part.name} {how}")

    def wait_until(self, ready: Callable[[], bool], what: str, within_s: float) -> float:
        """Waits until ``ready()``; the seconds it took. Raises PartError when a part ends or time is up."""
        begin = time.monotonic()
        while not ready():
            self.check()
            if time.monotonic() - begin > within_s:
                raise PartError(f"{what}: not within {within_s:g} s")
            time.sleep(POLL_S)
        return time.monotonic() - begin

    def hurry(self) -> None:
        """From now on do not wait for parts that are slow to stop."""
        self._hurry = True

    def stop(self, within_s: float = 20) -> None:
        """Stops everything, the latest stage first; what has not ended in time is killed, and whatever it left."""
        for stage in sorted({child.part.stage for child in self._children}, reverse=True):
            children = [child for child in self._children if child.part.stage == stage]
            for child in children:
                if child.process.poll() is None:
                    child.process.terminate()
            deadline = time.monotonic() + within_s
            while any(child.process.poll() is None for child in children) and not self._hurry:
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL_S / 2)
            for child in children:
                # The group outlives its leader where that left children of its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()
                child.reader.join(2)
        self._children.clear()


def _end_with_parent() -> None:
    """Runs in the child before exec: should we be killed outright, the kernel tells the child to stop."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def interruptible(supervisor: Supervisor) -> Iterator[threading.Event]:
    """Stops all parts at the end of the block, come what may.

    The first SIGINT or SIGTERM raises KeyboardInterrupt in the block; one more, and the parts are killed.
    """
    stopping = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            supervisor.hurry()
            return
        stopping.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        stopping.set()
        supervisor.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
