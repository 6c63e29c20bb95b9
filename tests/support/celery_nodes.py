"""Lets pytest-celery drive local processes where it expects Docker containers."""

from __future__ import annotations

import shlex
import signal as signals
import subprocess
from collections.abc import Callable
from typing import Any

from pytest_celery import CeleryWorkerContainer, RedisContainer

from tests.support.processes import Process
from tests.support.redis_server import RedisServer


class LocalNode:
    """The part of a Docker container's interface that pytest-celery uses, over a process."""

    attrs: dict[str, Any] = {  # noqa: RUF012  # never changed: there is no network to describe
        "NetworkSettings": {"Networks": {}, "Ports": {}},
        "HostConfig": {"PortBindings": {}},
        "Config": {"Hostname": "127.0.0.1", "Env": []},
    }

    def __init__(self, process: Process, start: Callable[[], object] | None = None) -> None:
        self._process = process
        self._start = start or process.start

    @property
    def id(self) -> str:
        return f"{self._process.pid:012d}"

    @property
    def name(self) -> str:
        return self._process.name

    @property
    def status(self) -> str:
        return "running" if self._process.running else "exited"

    def reload(self) -> None:
        """Nothing is cached here."""

    def logs(self) -> bytes:
        return self._process.log().encode()

    def kill(self, signal: str | int | None = None) -> None:
        number = signals.Signals[signal] if isinstance(signal, str) else signals.Signals(signal or signals.SIGKILL)
        if number == signals.SIGKILL:
            self._process.kill()
        else:
            self._process.send(number)

    def restart(self, timeout: int = 10) -> None:
        if self._process.running:
            self._process.stop(timeout)
        self._start()

    def exec_run(self, command: str) -> tuple[int, bytes]:
        done = subprocess.run(
            shlex.split(command), env=self._process.environ, cwd=self._process.folder, capture_output=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


class LocalRedis(RedisContainer):  # type: ignore[misc]
    """A RedisServer under the name of a container."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(LocalNode(server.process, server.start))
        self._server = server

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def host_url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port


class LocalWorker(CeleryWorkerContainer):  # type: ignore[misc]
    """A process of ``stormfold worker`` under the name of a container."""

    def __init__(self, process: Process) -> None:
        super().__init__(LocalNode(process))
