"""The web process as a process: how it starts and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

from tests.support.stack import Stack
from tests.support.waiting import wait_until


def test_sigterm_ends_it_cleanly(stack: Stack) -> None:
    # Given
    assert stack.get("/healthz").status == 200
    # When
    code = stack.web.stop()
    # Then
    assert code == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", stack.port)) != 0


def test_a_flushed_redis_gets_its_scripts_back(stack: Stack) -> None:
    # Given
    stack.redis.client.script_flush()
    # When / Then
    assert stack.get("/readyz").status == 200
    assert json.loads(stack.get("/readyz").body) == {"status": "ready"}


def test_a_killed_serving_process_ends_the_whole(stack: Stack) -> None:
    # Given the process that answers, a child of the one that was started
    children = _children(stack.web.pid)
    assert len(children) == 1
    # When it dies
    os.kill(children[0], signal.SIGKILL)
    # Then the whole process ends with an error, for whoever supervises it to start it again
    wait_until(lambda: not stack.web.running, "the web process to end")
    assert stack.web.exit_code != 0


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return [int(child) for child in listed.read().split()]


def test_the_web_process_never_loads_the_kubernetes_client_nor_the_workers_side() -> None:
    # Given 43 MiB and 0.3 s that a web process must not spend
    code = (
        "import sys; from app.settings import load; from app.web import create_app; import app.server;"
        "create_app(load({})); print([name for name in sys.modules if name.split('.')[0] in ('kubernetes', 'tasks')])"
    )
    # When
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Then
    assert loaded.stdout == "[]\n"
