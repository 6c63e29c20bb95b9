"""One operating system process under test: its log, its signals, and no way to outlive the test run."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support.reaper import Reaper
from tests.support.waiting import wait_until


@cache
def _reaper() -> Reaper:
    reaper = Reaper()
    atexit.register(reaper.close)
    return reaper


class Process:
    """A process in a session of its own, so that a signal to its group reaches its children too (a worker's pool)."""

    def __init__(self, name: str, command: Sequence[str], *, environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.command = list(command)
        self.environ = dict(environ)
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    def start(self) -> Process:
        """Start it, or start it again; the log goes on in the same file."""
        assert not self.running, f"{self.name} already runs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command, env=self.environ, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        _reaper().watch(self.pid)
        return self

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._popen is None else self._popen.poll()

    def log(self) -> str:
        """What it has printed since it was last started."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """To the process alone, as a supervisor would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def send_group(self, number: signal.Signals) -> None:
        """To the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        self.send_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send_group(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to all of it at once: what the out-of-memory killer or a dying node does."""
        if self._popen is None:
            return
        self.send_group(signal.SIGKILL)
        self._popen.wait(timeout=10)
        _reaper().forget(self.pid)

    def stop(self, deadline_s: float = 20.0) -> int:
        """SIGTERM and wait; an AssertionError where it does not end by itself in time. The exit code."""
        assert self._popen is not None
        self.send(signal.SIGTERM)
        try:
            code = self._popen.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored SIGTERM for {deadline_s:g} s:\n{self.log()[-3000:]}") from None
        self.send_group(signal.SIGKILL)
        _reaper().forget(self.pid)
        return code

    def wait_for_log(self, text: str, deadline_s: float = 30.0) -> None:
        """Until ``text`` was printed since the last start; at once an AssertionError where the process ended before."""
        wait_until(
            lambda: text in self.log() or not self.running,
            f"{text!r} in the log of {self.name}", deadline_s=deadline_s, describe=lambda: self.log()[-3000:],
        )  # fmt: skip
        assert text in self.log(), f"{self.name} ended with {self.exit_code}:\n{self.log()[-3000:]}"
