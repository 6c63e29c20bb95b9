"""The cases that an earlier system was judged by, through HTTP and real workers, one by one and all at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.support.cases import CASES
from tests.support.concurrent_cases import CONCURRENT_CASES
from tests.support.expect import expected, ledger, outcome, storm_rr
from tests.support.redis_server import Flavour
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import at_once

ALL_CASES = CASES | CONCURRENT_CASES
LIMIT = 64 * 1024 * 1024
ROUNDS = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers over one Redis of 64 MB that is broker and state; every case brings a storm key of its own."""
    with Stack(tmp_path_factory.mktemp("named"), {"SINGLE_HOLD": "2s"}) as stack:
        yield stack


@pytest.mark.parametrize("name", ALL_CASES)
def test_case(stack: Stack, name: str) -> None:
    ALL_CASES[name](stack, new_scene())
    assert_within_memory(stack)


@pytest.mark.parametrize("attempt", range(20))
def test_1000_alerts_in_100_webhooks_over_4_storm_keys(stack: Stack, attempt: int) -> None:
    # Given 1,000 alerts over four storm keys, ten of all four in each of 100 webhooks
    scene = new_scene()
    kinds = ("PodCrashLooping", "PodNotReady", "HighLatency", "DiskFilling")
    alerts = {kind: scene.pods(250, kind) for kind in kinds}
    mixed = [alerts[kinds[number % 4]][number // 4] for number in range(1000)]
    # When the 100 come at the same time
    at_once(*(partial(stack.post, mixed[first : first + 10]) for first in range(0, 1000, 10)))
    for kind in kinds:
        stack.wait_received(scene.key(kind), 250)
    # Then there are exactly four objects with exact counts
    for kind in kinds:
        assert outcome(stack, scene.key(kind)) == expected(ledger(new=250), storms=[storm_rr(alerts[kind])])
    assert_within_memory(stack)


@pytest.mark.parametrize("flavour", ["embedded", "server"])
def test_on_each_redis(tmp_path: Path, flavour: Flavour) -> None:
    # Given the Redis that the demo brings (6.2), or that of the system (7 on Debian 12)
    names = ("mixed storm and non-storm", "15 concurrent webhooks", "concurrent requests of varying payload sizes")
    with Stack(tmp_path, {"SINGLE_HOLD": "2s"}, flavour=flavour) as stack:
        # When a few cases run at the same time, then each has its outcome
        at_once(*(partial(ALL_CASES[name], stack, new_scene()) for name in names))
        assert_within_memory(stack)


def test_all_cases_at_the_same_time(tmp_path: Path) -> None:
    # Given two workers and one Redis of 64 MB that nobody flushes, and the hold that production has
    with Stack(tmp_path, {"SINGLE_HOLD": "5s"}) as stack, ThreadPoolExecutor(len(ALL_CASES)) as pool:
        for _ in range(ROUNDS):
            # When all cases run at the same time, and meanwhile a worker joins and the oldest one leaves
            running = {name: pool.submit(case, stack, new_scene()) for name, case in ALL_CASES.items()}
            stack.start_worker()
            exit_code = stack.stop_worker(stack.workers[0])
            # Then each has the outcome that it has alone, and the worker left in order
            failures = {name: future.exception() for name, future in running.items()}
            assert {name: failure for name, failure in failures.items() if failure} == {}
            assert exit_code == 0
        stack.wait_settled()
        assert_within_memory(stack)


def assert_within_memory(stack: Stack) -> None:
    """Nothing was refused for want of memory, and the limit was never reached."""
    memory = stack.redis.client.info("memory")
    assert (memory["maxmemory"], memory["maxmemory_policy"]) == (LIMIT, "noeviction")
    assert memory["used_memory_peak"] < LIMIT
    assert stack.redis.refused_for_memory() == 0
