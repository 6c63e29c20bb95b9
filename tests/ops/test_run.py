"""`stormfold run` as a whole, and the commands that look into what it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.cli.payloads import HEADERS

STORMFOLD = str(Path(sys.executable).with_name("stormfold"))
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("STORMFOLD_")}
LIVE_S = 60


@dataclass
class Run:
    """A running `stormfold run` and what it printed."""

    process: subprocess.Popen[bytes]
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.folder / "run.log").read_text()

    def wait_for(self, text: str) -> None:
        assert eventually(lambda: text in self.log or self.process.poll() is not None), self.log
        assert text in self.log, self.log

    def url(self, what: str) -> str:
        found = re.search(rf"{what} +(http://[^/\s]+)/", self.log)
        assert found, self.log
        return found[1]

    @property
    def redis_url(self) -> str:
        found = re.search(r"on 127\.0\.0\.1 port (\d+)", self.log)
        assert found, self.log
        return f"redis://127.0.0.1:{found[1]}/0"

    def family(self) -> list[int]:
        """The process ids of all its parts and what they have started."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
            except FileNotFoundError:
                continue
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def ask(self, *arguments: str) -> str:
        """Runs another command against the same Redis; what it printed."""
        environ = ENVIRON | {"STORMFOLD_REDIS_URL": self.redis_url}
        done = subprocess.run(
            [STORMFOLD, *arguments],
            env=environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def eventually(check: Callable[[], bool], within_s: float = LIVE_S) -> bool:
    deadline = time.monotonic() + within_s
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return check()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts `stormfold run` with arguments; it and its parts end with the test."""
    runs: list[Run] = []

    def begin(*arguments: str, **environ: str) -> Run:
        with (tmp_path / "run.log").open("wb") as log:
            process = subprocess.Popen(
                [STORMFOLD, "run", *arguments],
                cwd=tmp_path,
                env=ENVIRON | {"STORMFOLD_DEBOUNCE": "500ms", "STORMFOLD_SINGLE_HOLD": "500ms", **environ},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        runs.append(Run(process, tmp_path))
        return runs[-1]

    yield begin
    for run in runs:
        family = run.family()
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(30)
        for pid in filter(alive, family):
            os.kill(pid, signal.SIGKILL)


def test_run_starts_all_parts_beside_taken_ports_and_leaves_nothing_behind(start: Callable[..., Run]) -> None:
    with ExitStack() as held:
        # Given a machine where the ports of the web process and of Flower are taken
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2)]
        run = start("--workers", "2", STORMFOLD_PORT=str(taken[0]), STORMFOLD_FLOWER_PORT=str(taken[1]))

        # When it is up
        run.wait_for("Ctrl-C stops everything")
        family = run.family()

    # Then it says which other ports it took, and every part talks under its own name
    assert f"port {taken[0]} is taken: the web process is on" in run.log
    assert f"port {taken[1]} is taken: Flower is on" in run.log
    assert {line.split("│")[0].strip() for line in run.log.splitlines()} >= {
        "stormfold", "redis", "web", "worker-1", "worker-2",
    }  # fmt: skip
    # and Flower wants the password that it printed
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(run.url("Flower") + "/api/workers", timeout=10)

    # When a storm and an alert that cannot be read are posted
    run.ask("simulate", "--url", run.url("webhook"), "--alerts", "120", "--seed", "1")
    broken = json.dumps({"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": 7}]}).encode()
    request = urllib.request.Request(run.url("webhook") + "/api/v1/signals/prometheus", broken, HEADERS)
    assert json.load(urllib.request.urlopen(request, timeout=10))["deadLettered"] == 1
    manifests = run.folder / "manifests"
    assert eventually(lambda: any(manifests.glob("shop-0/storm-*.yaml"))), run.log

    # Then the commands show them, over HTTP and straight from Redis alike
    [path] = manifests.glob("*/*.yaml")
    listed = run.ask("storms", "--url", run.url("webhook"), "list", "--json")
    assert listed == run.ask("storms", "list", "--json")
    assert json.loads(listed) | {"id": path.stem, "phase": "ACTIVE", "alertCount": 120} == json.loads(listed)
    assert path.stem in run.ask("storms", "list")
    assert json.loads(run.ask("storms", "show", path.stem)) == json.loads(listed)
    assert run.ask("storms", "members", path.stem).count("shop-0/Pod/api-") == 120
    letter = next(line.split()[0] for line in run.ask("deadletters", "list").splitlines() if "alerts" in line)
    assert json.loads(run.ask("deadletters", "show", letter))["id"] == letter
    run.ask("deadletters", "drop", letter)
    assert "0 dead letters." in run.ask("deadletters", "list")

    # When Ctrl-C is pressed
    run.process.send_signal(signal.SIGINT)

    # Then it ends well, and nothing is left
    assert run.process.wait(40) == 0, run.log
    assert len(family) >= 8
    assert [pid for pid in family if alive(pid)] == []
    assert run.log.rstrip().endswith("all parts have stopped")


def test_a_part_that_dies_ends_the_rest(start: Callable[..., Run]) -> None:
    # Given a run without Flower
    run = start("--no-flower", STORMFOLD_PORT=str(_free()))
    run.wait_for("Ctrl-C stops everything")
    family = run.family()
    web = next(pid for pid in family if b"app.cli\0web" in Path(f"/proc/{pid}/cmdline").read_bytes())

    # When its web process is killed
    os.kill(web, signal.SIGKILL)

    # Then all ends, says why, and nothing is left
    assert run.process.wait(40) == 1, run.log
    assert "web was ended by signal 9; stopping the rest" in run.log
    assert [pid for pid in family if alive(pid)] == []


def test_a_wrong_setting_is_one_line_and_status_2(tmp_path: Path) -> None:
    for command in ("run", "web", "worker", "flower"):
        # When a command is started with a setting that is no duration
        done = subprocess.run(
            [STORMFOLD, command],
            cwd=tmp_path,
            env=ENVIRON | {"STORMFOLD_DEBOUNCE": "soon"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        # Then
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("stormfold: STORMFOLD_DEBOUNCE: ")
        assert not list(tmp_path.iterdir())


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
