"""Runs at the start of every process that has this folder in PYTHONPATH: lets a test stop it exactly at a step.

The folder named by STOP_AT is how test and process speak, see ``tests/support/steps.py``: an order in ``armed/`` is
taken by the first call, in any process, that it fits; ``reached/``, ``go/`` and ``over/`` tell how far that is. Every
write of a file is noted in ``journal``. STOP_AT_CLOCK sets the process's wall clock wrong by so many seconds,
STOP_AT_TIMEOUT shortens the worker's patience with Redis, STOP_AT_SLOW_RETRY_MS that with a sink that refuses.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(os.environ.get("STOP_AT", "/nonexistent"))
POLL_S = 0.005
LONGEST_S = 90.0
"""A process that nobody lets go on goes on by itself: it must not hang for ever."""

_stopped = threading.local()


def _set_clock(offset_s: float) -> None:
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + offset_s
    time.time_ns = lambda: true_time_ns() + int(offset_s * 1_000_000_000)


def gate(step: str, words: Callable[[], set[str]], owner: Any) -> None:
    """Passes at once unless an order is armed for this step and all its words fit the call."""
    try:
        armed = [name for name in os.listdir(FOLDER / "armed") if name.startswith(f"{step}@")]
    except OSError:
        return
    for name in armed:
        order = _take(FOLDER / "armed" / name, words)
        if order is not None:
            _obey(order, owner)
            return


def _take(path: Path, words: Callable[[], set[str]]) -> dict[str, Any] | None:
    """The order, for the one caller that gets it."""
    with (FOLDER / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            order: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        if not set(order["about"]) <= words():
            return None
        if order["skip"] > 0:
            path.write_text(json.dumps(order | {"skip": order["skip"] - 1}))
            return None
        path.unlink()
        return order


def _obey(order: dict[str, Any], owner: Any) -> None:
    number = order["number"]
    _stopped.number = number
    done = FOLDER / "reached" / f"{number}.tmp"
    done.write_text(str(os.getpid()))
    if order["action"] == "exhaust":
        _exhaust(owner, number)
    done.rename(FOLDER / "reached" / str(number))
    if order["action"] == "stop":
        _wait_for(number)
    elif order["action"].startswith("raise "):
        module, _, name = order["action"].removeprefix("raise ").rpartition(".")
        raise getattr(importlib.import_module(module), name)("raised by the test")


def _wait_for(number: int) -> None:
    end = time.monotonic() + LONGEST_S
    while not (FOLDER / "go" / str(number)).exists() and time.monotonic() < end:
        time.sleep(POLL_S)


def _exhaust(owner: Any, number: int) -> None:
    """Takes all connections of the caller's pool, and gives them back when told to go on."""
    import redis

    pool = owner._client.connection_pool
    held = []
    with contextlib.suppress(redis.ConnectionError):
        while True:
            held.append(pool.get_connection())

    def give_back() -> None:
        _wait_for(number)
        for connection in held:
            pool.release(connection)

    threading.Thread(target=give_back, daemon=True).start()


def stoppable(owner: Any, name: str, step: str, words: Callable[..., set[str]]) -> None:
    """Puts a gate before and after ``owner.name``. ``words`` gets the call's arguments, and its result after it."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        door = args[0] if args else None
        gate(f"before-{step}", lambda: words(*args), door)
        result = real(*args, **kwargs)
        gate(f"after-{step}", lambda: words(*args) | _told(result), door)
        return result

    setattr(owner, name, wrapped)


def _told(result: Any) -> set[str]:
    """Words about a result: its class, why nothing was claimed, and the storms that a sweep found."""
    if isinstance(result, list):
        return {storm for one in result for storm in getattr(one, "storms", ())}
    return {type(result).__name__, getattr(result, "reason", "")}


def noting_its_end(owner: Any, name: str) -> None:
    """Around what a stop happens in: tells when that is over, whatever the outcome."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return real(*args, **kwargs)
        finally:
            number = getattr(_stopped, "number", None)
            if number is not None:
                _stopped.number = None
                (FOLDER / "over" / str(number)).touch()

    setattr(owner, name, wrapped)


def _noted(real: Callable[..., None]) -> Callable[..., None]:
    """Notes every write that was made, in order: the sink holds the object's lock meanwhile."""

    def write(path: Path, manifest: dict[str, Any]) -> None:
        real(path, manifest)
        line = {
            "pid": os.getpid(), "path": str(path), "metadata": manifest["metadata"], "status": manifest["status"],
            "type": manifest["spec"]["type"], "key": manifest["spec"]["stormKey"],
        }  # fmt: skip
        with (FOLDER / "journal").open("ab") as journal:
            journal.write(json.dumps(line).encode() + b"\n")

    return write


def _about_object(_: Any, manifest: dict[str, Any], *__: Any) -> set[str]:
    return {*manifest["metadata"]["labels"].values(), manifest["metadata"]["name"], manifest["status"]["phase"]}


def _patch_inbox(module: ModuleType) -> None:
    stoppable(module.Inbox, "accept", "accept", lambda _, shard, entries, *__: {entry.storm_id for entry in entries})


def _patch_broker(module: ModuleType) -> None:
    stoppable(module, "publish_ingest", "publish", lambda _, shard: {f"shard {shard}"})


def _patch_storms(module: ModuleType) -> None:
    stoppable(module.Storms, "ingest", "ingest", lambda _, entries, *__: {entry.storm_id for entry in entries})


def _patch_leases(module: ModuleType) -> None:
    stoppable(module.Leases, "claim", "claim", lambda _, storm_id, *__: {storm_id})
    for name in ("settle_storm", "settle_singles"):
        stoppable(module.Leases, name, "settle", lambda _, storm_id, *__: {storm_id})


def _patch_due(module: ModuleType) -> None:
    stoppable(module.Due, "sweep", "sweep", lambda *_: set())


def _patch_directory(module: ModuleType) -> None:
    module.write_manifest = _noted(module.write_manifest)  # type: ignore[attr-defined]
    for name in ("put", "put_status"):
        stoppable(module.DirectorySink, name, "write", _about_object)


def _about_request(_: Any, method: str, url: str, headers: Any = None, body: Any = None, *__: Any) -> set[str]:
    metadata = (body if isinstance(body, dict) else {}).get("metadata") or {}
    return {method, *(metadata.get("labels") or {}).values(), metadata.get("name", "")}


def _patch_api(module: ModuleType) -> None:
    stoppable(module.client.ApiClient, "call_api", "request", _about_request)


def _patch_kubernetes(module: ModuleType) -> None:
    # Nothing is noted here: the cluster itself tells of every write that it took.
    for name in ("put", "put_status"):
        stoppable(module.KubernetesSink, name, "write", _about_object)
    stoppable(module._Write, "status", "status", lambda write, *_: _about_object(None, write._manifest))


def _patch_work(module: ModuleType) -> None:
    noting_its_end(module, "ingest")
    noting_its_end(module, "aggregate")


def _patch_sweep(module: ModuleType) -> None:
    noting_its_end(module.Sweeper, "sweep")


def _patch_connection(module: ModuleType) -> None:
    if "STOP_AT_TIMEOUT" in os.environ:
        module.WORKER = replace(module.WORKER, timeout_s=float(os.environ["STOP_AT_TIMEOUT"]))  # type: ignore[attr-defined]


def _patch_writer(module: ModuleType) -> None:
    if "STOP_AT_SLOW_RETRY_MS" in os.environ:
        module.SLOW_RETRY_MS = int(os.environ["STOP_AT_SLOW_RETRY_MS"])  # type: ignore[attr-defined]


PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "lua_scripts.inbox": _patch_inbox,
    "lua_scripts.storms": _patch_storms,
    "lua_scripts.leases": _patch_leases,
    "lua_scripts.due": _patch_due,
    "lua_scripts.connection": _patch_connection,
    "app.broker": _patch_broker,
    "tasks.sinks.directory": _patch_directory,
    "tasks.sinks.api": _patch_api,
    "tasks.sinks.kubernetes": _patch_kubernetes,
    "tasks.writer": _patch_writer,
    "tasks.work": _patch_work,
    "tasks.sweep": _patch_sweep,
}


class _Patcher(importlib.abc.MetaPathFinder):
    """Patches a module of ours right after it ran, before anybody else takes names from it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        patch = PATCHES.get(name)
        if patch is None:
            return None
        spec = _found_by_others(self, name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _found_by_others(patcher: _Patcher, name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in _others(patcher):
        spec: importlib.machinery.ModuleSpec | None = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _others(patcher: _Patcher) -> Iterator[Any]:
    return (finder for finder in sys.meta_path if finder is not patcher and hasattr(finder, "find_spec"))


if "STOP_AT" in os.environ:
    if "STOP_AT_CLOCK" in os.environ:
        _set_clock(float(os.environ["STOP_AT_CLOCK"]))
    sys.meta_path.insert(0, _Patcher())
