"""The children of a process, such as the pool of a worker."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path


def children(pid: int) -> list[int]:
    """The process ids of the children that a process has now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # What stands in parentheses is the program's name, which may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return sorted(found)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """To each by itself; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
