"""The processes of a soak: Redis, two web processes, workers that come and go, and a supervisor that restarts them."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final

import redis

from lua_scripts.keys import SHARDS, ShardKeys
from tests.soak.sinks import SoakedSink
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.stack import READY, STORMFOLD, Stack
from tests.support.waiting import wait_until
from tests.support.webhook import request

LEASE_S: Final = 3.0
REOPEN_S: Final = 15.0
MAXMEMORY: Final = 64 * 1024 * 1024
SETTINGS: Final = {
    "DEBOUNCE": "300ms", "MAX_WAIT": "2s", "SINGLE_HOLD": "1s", "LEASE": f"{LEASE_S:.0f}s",
    "REOPEN_WINDOW": f"{REOPEN_S:.0f}s", "TOMBSTONE": "30s", "STALE_AFTER": "1h",
}  # fmt: skip
FEWEST_WORKERS, MOST_WORKERS = 1, 3
SUPERVISED_EVERY_S: Final = 0.25
TERM_S: Final = 30.0
BROKEN: Final = b"Unrecoverable error"
STALL_S: Final = 25.0
"""How long a worker whose consumer broke off may take to end or to start anew."""


class Stage:
    """Used as a context manager, within that of its sink."""

    def __init__(self, folder: Path, sink: SoakedSink) -> None:
        self.folder = folder
        self.sink = sink
        self.stack = Stack(folder, SETTINGS | dict(sink.settings), workers=2, maxmemory=str(MAXMEMORY))
        self.redis = self.stack.redis
        second = free_port()
        environ = self.stack.environ | {"STORMFOLD_PORT": str(second)}
        self.webs = [self.stack.web, Process("web2", [STORMFOLD, "web"], environ=environ, folder=folder)]
        self.ports = [self.stack.port, second]
        self.restarts: Counter[str] = Counter()
        """Processes that ended by themselves, which nobody had killed."""
        self.lock = threading.RLock()
        """Held while the set of processes, or the state of one of them, changes."""
        self.over = threading.Event()
        self._absent_until: dict[str, float] = {}
        self._killed: set[str] = set()
        self._broken: dict[str, tuple[int, int, float]] = {}
        """By worker: its process id, how far its log was read, and when its consumer broke off."""
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Stage:
        self.stack.__enter__()
        try:
            self.webs[1].start()
            wait_until(lambda: self._ready(1), "the second web process to be ready", describe=self.webs[1].log)
            self._supervisor.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if self._supervisor.is_alive():
            self._supervisor.join(timeout=10)
        with self.lock:
            self.webs[1].kill()
            self.stack.close()

    def _ready(self, number: int) -> bool:
        try:
            return request(self.ports[number], "GET", "/readyz", timeout_s=5).status == 200
        except OSError:
            return False

    # Processes

    @property
    def workers(self) -> list[Process]:
        with self.lock:
            return list(self.stack.workers)

    def kill(self, process: Process, absent_s: float, *, alone: bool = False) -> None:
        """SIGKILL; the supervisor starts it again after a while. ``alone``: its children are spared at first."""
        with self.lock:
            if not process.running:
                return
            self._killed.add(process.name)
            self._absent_until[process.name] = time.monotonic() + absent_s
            if alone:
                process.send(signal.SIGKILL)
                wait_until(lambda: not process.running, f"{process.name} to be gone")
                return
            process.kill()

    def _supervise(self) -> None:
        while not self.over.wait(SUPERVISED_EVERY_S):
            with self.lock:
                self._end_stalled()
                for process in (*self.webs, *self.stack.workers):
                    if process.running or time.monotonic() < self._absent_until.get(process.name, 0.0):
                        continue
                    if process.name in self._killed:
                        self._killed.discard(process.name)
                    else:
                        self.restarts[process.name.rstrip("0123456789")] += 1
                        self._keep_last_words(process)
                    process.send_group(signal.SIGKILL)  # what outlived its parent, as a supervisor's cgroup would
                    process.start()

    def _keep_last_words(self, process: Process) -> None:
        """What a process said that ended by itself, for whoever looks for the cause."""
        at = sum(self.restarts.values())
        (self.folder / f"ended-{at}-{process.name}.log").write_text(process.log()[-20_000:])

    def remove(self, worker: Process) -> None:
        """SIGTERM: it finishes what it does and leaves; half a minute later an orchestrator makes an end of it."""
        with self.lock:
            self.stack.workers.remove(worker)
        worker.send(signal.SIGTERM)
        end = time.monotonic() + TERM_S
        while worker.running and time.monotonic() < end:
            time.sleep(0.1)
        if worker.running:
            self.restarts[f"worker that ignored SIGTERM for {TERM_S:g} s"] += 1
            self._ask_for_stacks(worker)
        worker.kill()

    def _ask_for_stacks(self, worker: Process) -> None:
        """Celery prints the stacks of all its threads upon SIGUSR1."""
        worker.send(signal.SIGUSR1)
        time.sleep(1)
        self._keep_last_words(worker)

    def _end_stalled(self) -> None:
        """Ends workers that stand still once Celery's consumer broke off, as a liveness probe would."""
        for worker in self.stack.workers:
            size = worker.log_path.stat().st_size
            begun, read_to, broken_at = self._broken.get(worker.name, (worker.pid, size, 0.0))
            if begun != worker.pid:
                broken_at = 0.0
            with worker.log_path.open("rb") as log:
                log.seek(read_to)
                fresh = log.read(size - read_to)
            if BROKEN in fresh:
                self.restarts["worker that Celery gave up"] += 1
                self._keep_last_words(worker)
            if fresh.rfind(BROKEN) > fresh.rfind(READY.encode()):
                broken_at = time.monotonic()
            elif READY.encode() in fresh:
                broken_at = 0.0
            self._broken[worker.name] = (worker.pid, size, broken_at)
            if broken_at and worker.running and time.monotonic() - broken_at > STALL_S:
                self.restarts[f"worker that stood still for {STALL_S:g} s"] += 1
                self._ask_for_stacks(worker)
                worker.kill()
                self._killed.add(worker.name)

    def pause(self, seconds: float) -> None:
        """Let time pass; less where the run ends."""
        self.over.wait(seconds)

    # State

    def pending(self) -> int:
        """Entries in the inbox; raises ``redis.RedisError``."""
        return self.stack.pending()

    def open_storms(self) -> int:
        return sum(int(self.redis.client.zcard(ShardKeys(shard).due)) for shard in range(SHARDS))

    def heal(self) -> None:
        """After this whatever a fault left behind is mended and everything runs."""
        for process in self.workers:
            process.thaw()
        if not self.redis.process.running:
            self.redis.start()
        self.redis.thaw()
        self.redis.client.config_set("maxmemory", MAXMEMORY)
        wait_until(
            lambda: all(self._ready(number) for number in range(2)), "both web processes to be ready", deadline_s=60
        )
        wait_until(
            lambda: all(worker.running and READY in worker.log() for worker in self.workers), "all workers to be ready",
            deadline_s=60,
        )  # fmt: skip

    def pinned(self) -> redis.Redis:
        """A client with one connection that is open already and stays so."""
        client = redis.Redis(host="127.0.0.1", port=self.redis.port, socket_timeout=10, single_connection_client=True)
        client.ping()
        return client
