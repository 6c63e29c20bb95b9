"""Loads the Lua scripts and runs them; turns every failure of Redis into this package's errors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

import redis
from redis.cluster import RedisCluster

from lua_scripts.errors import StoreBroken, StoreError, StoreFull, StoreTimeout, StoreUnreachable

Client = redis.Redis | RedisCluster
Arg = str | bytes | int

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "accept": ("letters", "accept"),
    "take": ("take",),
    "split": ("split",),
    "bury": ("letters", "bury"),
    "trim": ("letters", "trim"),
    "unbury": ("letters", "unbury"),
    "letter": ("letters", "letter"),
    "audit": ("audit",),
    "beat": ("beat",),
    "ingest": ("dedup", "storm", "overflow", "singles", "causes", "ingest"),
    "claim": ("dedup", "storm", "causes", "claim"),
    "settle": ("dedup", "storm", "settle"),
    "sweep": ("sweep",),
    "turn": ("turn",),
    "budget": ("budget",),
    "outcome": ("outcome",),
    "postpone": ("postpone",),
    "silence": ("storm", "silence"),
    "match": ("dedup", "storm", "match"),
    "missing": ("dedup", "storm", "missing"),
    "again": ("storm", "again"),
    "unseen": ("unseen",),
}
"""Callable script -> the files whose text makes it, in order; ``dedup``, ``storm``, ``overflow``, ``singles``,
``causes``, ``letters`` only define functions."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a callable script and the SHA-1 by which Redis knows it."""

    text: str
    sha: str


@cache
def sources() -> Mapping[str, Source]:
    """All callable scripts, read from the package."""
    folder = files("lua_scripts")
    result = {}
    for name, parts in PARTS.items():
        text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
        result[name] = Source(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return result


def classify(error: redis.RedisError) -> StoreError:
    """The error of this package for one of redis-py's."""
    text = str(error)
    if "OOM command not allowed" in text or isinstance(error, redis.exceptions.OutOfMemoryError):
        return StoreFull("Redis is out of memory and refused the write")
    if isinstance(error, redis.TimeoutError):
        return StoreTimeout(f"Redis did not answer in time: {text}")
    if isinstance(
        error, redis.exceptions.ReadOnlyError | redis.exceptions.ClusterError | redis.exceptions.BusyLoadingError
    ):
        return StoreUnreachable(f"Redis is not ready: {text}")
    if isinstance(error, redis.ConnectionError):
        return StoreUnreachable(f"no connection to Redis: {text}")
    if isinstance(error, redis.ResponseError) and "user_script" in text:
        return StoreBroken(f"a script failed: {text}")
    return StoreError(f"Redis answered: {text}")


@contextmanager
def translated() -> Iterator[None]:
    """Raises this package's errors for redis-py's."""
    try:
        yield
    except redis.RedisError as error:
        raise classify(error) from error


def now_ms(client: Client) -> int:
    """The server's time, by which everything is dated. Raises ``StoreError``."""
    asked: Any = client
    with translated():
        seconds, micros = asked.time()
    return int(seconds) * 1000 + int(micros) // 1000


class Scripts:
    """Runs callable scripts by name on one client; safe to share between threads as the client is."""

    def __init__(self, client: Client) -> None:
        self.client: Any = client

    def run(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        """The reply of one call. Raises ``StoreError`` and its subclasses."""
        source = sources()[name]
        with translated():
            try:
                return self.client.evalsha(source.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                # EVAL also loads it, on the very node that lacked it.
                return self.client.eval(source.text, len(keys), *keys, *args)

    def run_and_wait(self, name: str, keys: Sequence[str], args: Sequence[Arg], replicas: int, timeout_ms: int) -> Any:
        """The reply of one call that ``replicas`` replicas have confirmed; WAIT counts its own connection's writes.

        Raises ``StoreTimeout`` where fewer confirmed in time.
        """
        source = sources()[name]
        with translated():
            for attempt in (1, 2):
                pipeline = self.client.pipeline(transaction=False)
                pipeline.execute_command("EVALSHA", source.sha, len(keys), *keys, *args)
                pipeline.execute_command("WAIT", replicas, timeout_ms)
                reply, confirmed = pipeline.execute(raise_on_error=False)
                if isinstance(reply, redis.exceptions.NoScriptError) and attempt == 1:
                    self.client.script_load(source.text)
                    continue
                break
            if isinstance(reply, redis.RedisError):
                raise reply
            if not isinstance(confirmed, int) or confirmed < replicas:
                raise StoreTimeout(f"only {confirmed} of {replicas} replicas confirmed in time")
            return reply

    def run_many(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Arg]]]) -> list[Any]:
        """The replies of several calls of one script, made in order in one round trip; a failed one's place holds its
        error."""
        if isinstance(self.client, RedisCluster):  # EVALSHA is blocked inside redis-py's ClusterPipeline
            return [self._run_or_error(name, keys, args) for keys, args in calls]
        source = sources()[name]
        with translated():
            pipeline = self.client.pipeline(transaction=False)
            if len(calls) > 1:
                # Were the script missing, and loaded by somebody else amid the batch, later calls would overtake
                # earlier ones, which are made again below.
                pipeline.script_load(source.text)
            for keys, args in calls:
                pipeline.execute_command("EVALSHA", source.sha, len(keys), *keys, *args)
            replies: list[Any] = pipeline.execute(raise_on_error=False)[-len(calls) :]
        for at, reply in enumerate(replies):
            if isinstance(reply, redis.exceptions.NoScriptError):
                replies[at] = self._run_or_error(name, *calls[at])
            elif isinstance(reply, redis.RedisError):
                replies[at] = classify(reply)
        return replies

    def _run_or_error(self, name: str, keys: Sequence[str], args: Sequence[Arg]) -> Any:
        try:
            return self.run(name, keys, args)
        except StoreError as error:
            return error


def load_all(client: Client) -> None:
    """Loads every callable script, on every node. Raises ``StoreError``."""
    with translated():
        for source in sources().values():
            client.script_load(source.text)


def loaded(client: Client) -> bool:
    """Whether Redis knows every callable script. Raises ``StoreError``."""
    with translated():
        return all(client.script_exists(*(source.sha for source in sources().values())))
