"""stormfold as it runs in production, small: Redis, the web process and workers, each an operating system process."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from app.alerts import storm_id
from lua_scripts.keys import SHARDS, ShardKeys, shard_of
from tests.support import objects
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.redis_server import Flavour, RedisServer
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, Answer, body_of, post, request

STORMFOLD = str(Path(sys.executable).with_name("stormfold"))
READY = " ready."
QUIET_MS = 30_000
"""A storm whose next due time is further away than this has nothing to write; tests' windows are set accordingly."""

SHORT = {
    "DEBOUNCE": "300ms", "MAX_WAIT": "2s", "SINGLE_HOLD": "1s", "LEASE": "3s", "REOPEN_WINDOW": "1h",
    "STALE_AFTER": "2h",
}  # fmt: skip


class Stack:
    """Used as a context manager. ``settings`` are names without the STORMFOLD_ prefix, over those of SHORT."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        workers: int = 2,
        flavour: Flavour = "any",
        maxmemory: str = "64mb",
        separate_broker: bool = False,
        token: str = "",
    ) -> None:
        self.folder = folder
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.manifests = folder / "manifests"
        self.redis = RedisServer(folder, flavour=flavour, maxmemory=maxmemory)
        self.broker = RedisServer(folder, flavour=flavour, name="broker") if separate_broker else None
        self.port = free_port()
        own = {
            "REDIS_URL": self.redis.url, "BROKER_URL": (self.broker or self.redis).url, "PORT": str(self.port),
            "SINK": f"directory:{self.manifests}",
        }  # fmt: skip
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("STORMFOLD_")}
        self.environ |= {f"STORMFOLD_{name}": value for name, value in (SHORT | own | dict(settings or {})).items()}
        self.web = Process("web", [STORMFOLD, "web"], environ=self.environ, folder=folder)
        self.workers: list[Process] = []
        self._first_workers = workers
        self._numbers = itertools.count(1)

    def __enter__(self) -> Stack:
        try:
            self.redis.start()
            if self.broker is not None:
                self.broker.start()
            started = [self.start_worker(wait=False) for _ in range(self._first_workers)]
            self.start_web()
            for worker in started:
                worker.wait_for_log(READY)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything, hard: how a process stops is a test's business, not the clean-up's."""
        for process in (*self.workers, self.web):
            process.kill()
        for server in (self.broker, self.redis):
            if server is not None:
                server.stop()

    # Processes

    def start_web(self) -> None:
        self.web.start()
        wait_until(self._web_is_ready, "the web process to be ready", describe=self.web.log)

    def _web_is_ready(self) -> bool:
        assert self.web.running, f"web ended with {self.web.exit_code}:\n{self.web.log()}"
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False

    def start_worker(self, *, wait: bool = True) -> Process:
        name = f"worker{next(self._numbers)}"
        command = [STORMFOLD, "worker", "--name", f"{name}@{self.port}"]
        worker = Process(name, command, environ=self.environ, folder=self.folder).start()
        self.workers.append(worker)
        if wait:
            worker.wait_for_log(READY)
        return worker

    def stop_worker(self, worker: Process) -> int:
        """Let it finish what it does and leave; the exit code."""
        self.workers.remove(worker)
        return worker.stop()

    # HTTP

    def get(self, path: str) -> Answer:
        return request(self.port, "GET", path, headers=self.headers)

    def post_raw(self, body: bytes) -> Answer:
        return post(self.port, body, self.headers)

    def post(self, alerts: Iterable[Alert]) -> dict[str, Any]:
        """Post one webhook that must be answered 202; the answer's body."""
        answer = self.post_raw(body_of(alerts))
        assert answer.status == 202, (answer.status, answer.body)
        return dict(answer.json)

    def api(self, path: str) -> Any:
        answer = self.get(f"/api/v1/{path}")
        assert answer.status == 200, (path, answer.status, answer.body)
        return answer.json

    def pages(self, path: str) -> list[dict[str, Any]]:
        """The items of all pages."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.api(path + cursor)
            items += page["items"]
            if not page["next"]:
                return items
            cursor = f"?cursor={page['next']}"

    def storm(self, key: Mapping[str, str]) -> dict[str, Any] | None:
        """What ``/api/v1/storms`` says about a storm key, None where no storm is open."""
        found = [item for item in self.pages("storms") if item["stormKey"] == dict(key)]
        assert len(found) <= 1, found
        return found[0] if found else None

    # What came out

    def objects(self, key: Mapping[str, str]) -> list[dict[str, Any]]:
        """All RemediationRequests of a storm key, in any phase, by name."""
        return [rr for rr in self.all_objects() if rr["spec"]["stormKey"] == dict(key)]

    def all_objects(self) -> list[dict[str, Any]]:
        return objects.read_folder(self.manifests)

    def pending(self) -> int:
        """How many entries wait in the inbox."""
        return sum(self.redis.client.hlen(ShardKeys(shard).inbox) for shard in range(SHARDS))

    def quiet(self, *keys: Mapping[str, str]) -> bool:
        """Whether none of the open storms of these keys (of all, without any) wants a worker soon."""
        soon = time.time() * 1000 + QUIET_MS
        if not keys:
            return not any(self.redis.client.zcount(ShardKeys(n).due, "-inf", soon) for n in range(SHARDS))
        for key in keys:
            identity = storm_id(tuple(key.items()))
            due = self.redis.client.zscore(ShardKeys(shard_of(identity)).due, identity)
            if due is not None and due <= soon:
                return False
        return True

    def settled(self) -> bool:
        """Whether nothing waits in the inbox and nothing is to be written."""
        return self.pending() == 0 and self.quiet()

    def wait_settled(self, deadline_s: float = 60.0) -> None:
        wait_until(self.settled, "inbox empty and nothing due", deadline_s=deadline_s, describe=self.pending)

    def wait_received(self, received: Mapping[str, str], count: int, deadline_s: float = 60.0) -> None:
        """Until a storm key has had ``count`` alerts and everything about it is written."""

        def done() -> bool:
            if not self.quiet(received):
                return False
            storm = self.storm(received)
            return storm is not None and storm["ledger"]["received"] >= count and self.quiet(received)

        wait_until(
            done, f"{count} alerts of {received} taken in and written", deadline_s=deadline_s, poll_s=0.1,
            describe=lambda: (self.storm(received), self.pending()),
        )  # fmt: skip

    def logs(self) -> str:
        """The ends of all logs, for a failure's message."""
        return "\n".join(f"--- {one.name}\n{one.log()[-2000:]}" for one in (self.web, *self.workers))
