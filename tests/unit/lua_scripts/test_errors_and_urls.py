"""Which error a failure of Redis becomes, which URLs are taken, and which Redis is refused: without any Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, ResponseError

from lua_scripts.connection import WEB, check_safe, connect
from lua_scripts.errors import StoreBroken, StoreError, StoreFull, StoreTimeout, StoreUnreachable, StoreUnsafe
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, shard_of
from lua_scripts.loader import PARTS, classify, sources, translated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), StoreFull),
        (ResponseError("Error running script: @user_script: 9: -OOM command not allowed when used memory"), StoreFull),
        (ResponseError("OOM command not allowed when used memory > 'maxmemory'. script: abc"), StoreFull),
        (redis.TimeoutError("Timeout reading from socket"), StoreTimeout),
        (redis.ConnectionError("Error 111 connecting: Connection refused."), StoreUnreachable),
        (redis.exceptions.MaxConnectionsError("Too many connections"), StoreUnreachable),
        (BusyLoadingError("Redis is loading the dataset in memory"), StoreUnreachable),
        (ReadOnlyError("You can't write against a read only replica."), StoreUnreachable),
        (redis.exceptions.ClusterDownError("CLUSTERDOWN"), StoreUnreachable),
        (ResponseError("WRONGTYPE ... script: abc, on @user_script:12."), StoreBroken),
        (ResponseError("unknown command"), StoreError),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_class_of_a_failure(error: redis.RedisError, expected: type[StoreError]) -> None:
    assert type(classify(error)) is expected


def test_failure_keeps_its_cause() -> None:
    cause = redis.TimeoutError("slow")
    with pytest.raises(StoreTimeout) as caught, translated():
        raise cause
    assert caught.value.__cause__ is cause


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        _ = 1 // 0


@pytest.mark.parametrize("url", ["redis://h:7000/2", "rediss://:secret@h:7000/2"])
def test_plain_url(url: str) -> None:
    kwargs = connect(url, WEB).get_connection_kwargs()
    assert (kwargs["host"], kwargs["port"], kwargs["db"]) == ("h", 7000, 2)
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (WEB.timeout_s, WEB.connect_timeout_s)
    assert kwargs["retry"].get_retries() == 0


def test_sentinel_url() -> None:
    # Given two sentinels, one without a port, a primary's name, a database and a password
    client: Any = connect("redis+sentinel://me:p%40ss@s1:7000,s2/main/3", WEB)
    # Then all of it is understood
    pool = client.connection_pool
    found = [
        (s.get_connection_kwargs()["host"], s.get_connection_kwargs()["port"]) for s in pool.sentinel_manager.sentinels
    ]
    assert found == [("s1", 7000), ("s2", 26379)]
    assert pool.service_name == "main"
    kwargs = client.get_connection_kwargs()
    assert (kwargs["db"], kwargs["username"], kwargs["password"]) == (3, "me", "p@ss")


@pytest.mark.parametrize("url", ["http://h", "h:6379", "redis+sentinel://h:1"])
def test_url_that_is_not_taken(url: str) -> None:
    with pytest.raises(ValueError, match="redis"):
        connect(url)


class Informed:
    """A client that knows its memory."""

    def __init__(self, memory: dict[str, Any]) -> None:
        self.memory = memory

    def info(self, section: str) -> dict[str, Any]:
        assert section == "memory"
        return self.memory


@pytest.mark.parametrize(
    "memory",
    [{"maxmemory_policy": "noeviction"}, {"n1:1": {"maxmemory_policy": "noeviction"}, "n2:1": {}}],
    ids=["one", "cluster"],
)  # fmt: skip
def test_safe(memory: dict[str, Any]) -> None:
    check_safe(Informed(memory))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory", "who"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "Redis has maxmemory-policy allkeys-lru"),
        ({"n1:1": {"maxmemory_policy": "noeviction"}, "n2:1": {"maxmemory_policy": "volatile-ttl"}}, "n2:1 has"),
    ],
    ids=["one", "cluster"],
)  # fmt: skip
def test_redis_that_may_evict_is_refused(memory: dict[str, Any], who: str) -> None:
    with pytest.raises(StoreUnsafe, match=who) as caught:
        check_safe(Informed(memory))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_shards() -> None:
    assert [shard_of(f"{shard:x}abc") for shard in range(SHARDS)] == list(range(SHARDS))
    for shard in (-1, SHARDS):
        with pytest.raises(ValueError, match="not one of"):
            _ = ShardKeys(shard).meta
    assert StormKeys("7abc").header == "sf:{7}:s:7abc"


def test_sources_are_files_one_after_the_other() -> None:
    # Given all callable scripts
    found = sources()
    # Then each has the text of its files and the digest by which Redis knows it
    assert set(found) == set(PARTS)
    assert found["ingest"].text.index("-- dedup:") < found["ingest"].text.index("-- storm:")
    assert found["ingest"].text.index("-- storm:") < found["ingest"].text.index("-- ingest:")
    assert len({source.sha for source in found.values()}) == len(PARTS)
