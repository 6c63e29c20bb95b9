"""A Redis of each flavour for the whole run, emptied for every test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import redis

from tests.scripts.lab import Clock, Lab, controlled_clock, empty_again
from tests.support.redis_server import Flavour, RedisServer


@pytest.fixture(scope="session")
def _redis_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Flavour, RedisServer]]:
    servers: dict[Flavour, RedisServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(params=["server", "embedded"])
def client(
    request: pytest.FixtureRequest,
    _redis_servers: dict[Flavour, RedisServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> redis.Redis:
    """An empty Redis without scripts, once redis-server of the system and once the embedded one."""
    flavour = cast(Flavour, request.param)
    if flavour not in _redis_servers:
        server = RedisServer(tmp_path_factory.mktemp(flavour), flavour=flavour).start()
        # What a test asserts here is gone with it: waiting for the disk would prove nothing.
        server.client.config_set("appendonly", "no")
        _redis_servers[flavour] = server
    found = _redis_servers[flavour].client
    empty_again(found)
    found.flushall()
    found.script_flush()
    return found


@pytest.fixture
def lab(client: redis.Redis) -> Lab:
    """The typed methods, on the server's own time."""
    return Lab(client)


@pytest.fixture
def clock(client: redis.Redis) -> Iterator[Clock]:
    """Makes the time of the scripts the test's own; it begins at START and stands still."""
    with controlled_clock(client) as controlled:
        yield controlled
