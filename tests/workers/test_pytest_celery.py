"""Kills and restarts by pytest-celery, over local processes instead of containers; then the whole state is asserted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
    RedisTestBroker,
)

from tests.support.celery_nodes import LocalRedis, LocalWorker
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import body_of


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The processes that the nodes below stand for."""
    # The hold outlasts a killed worker's lost wake-up, so that no alert becomes a Single while one is killed.
    with Stack(tmp_path_factory.mktemp("nodes"), {"SINGLE_HOLD": "8s"}) as stack:
        yield stack


@pytest.fixture(scope="module")
def default_redis_broker(stack: Stack) -> LocalRedis:
    return LocalRedis(stack.redis)


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_redis_broker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """Results are kept nowhere."""
    return


@pytest.fixture
def celery_worker_cluster(stack: Stack, celery_setup_app: Celery) -> CeleryWorkerCluster:
    return CeleryWorkerCluster(*(CeleryTestWorker(LocalWorker(one), celery_setup_app) for one in stack.workers))


def test_nodes_are_ready_and_answer(celery_setup: CeleryTestSetup) -> None:
    # Given two workers and a broker
    assert len(celery_setup) == 3
    # When they are asked
    assert celery_setup.ready(control=True)
    # Then each of the workers answers, under its own name
    answers = [name for answer in celery_setup.app.control.ping(timeout=10, limit=2) for name in answer]
    assert len(answers) == len(set(answers)) == 2


def test_worker_is_killed_with_work_at_hand(stack: Stack, celery_setup: CeleryTestSetup) -> None:
    # Given a storm that is being posted
    scene = new_scene()
    alerts = scene.pods(40)
    lone = scene.pod_alert("db-0", "Lone")
    for alert in alerts[:20]:
        stack.post([alert])
    # When one worker is killed in the middle of it, and restarted when all is posted
    first, second = celery_setup.worker_cluster
    first.kill()
    assert first.container.status == "exited"
    for alert in [*alerts[20:], lone]:
        stack.post([alert])
    first.restart()
    stack.wait_received(scene.key(), 40)
    stack.wait_received(scene.key("Lone"), 1)
    # Then both run, and every alert counts once
    assert [node.container.status for node in (first, second)] == ["running", "running"]
    assert celery_setup.worker_cluster.ready()
    assert outcome(stack, scene.key()) == expected(ledger(new=40), storms=[storm_rr(alerts)])
    assert outcome(stack, scene.key("Lone")) == expected(ledger(new=1), singles=[single_rr(lone)])


def test_every_worker_is_restarted_in_turn(stack: Stack, celery_setup: CeleryTestSetup) -> None:
    # Given a storm that grows
    scene = new_scene()
    alerts = scene.pods(30)
    stack.post(alerts[:10])
    # When each worker is told to leave in order and started again, while the rest comes
    for number, worker in enumerate(celery_setup.worker_cluster, start=1):
        worker.restart(force=True)
        stack.post(alerts[10 * number : 10 * number + 10])
    stack.wait_received(scene.key(), 30)
    # Then every alert counts once, in one object
    assert celery_setup.worker_cluster.ready()
    assert outcome(stack, scene.key()) == expected(ledger(new=30), storms=[storm_rr(alerts)])


def test_broker_is_killed_and_restarted(stack: Stack, celery_setup: CeleryTestSetup) -> None:
    # Given a storm in a Redis that is broker and state at once
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    stack.wait_received(scene.key(), 12)
    # When it is killed
    celery_setup.broker.kill()
    refused = stack.post_raw(body_of(alerts))
    # Then a webhook is refused in the way that makes Alertmanager try again
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json["type"] == "urn:stormfold:problem:redis-unreachable"
    # And when it is back, the storm is as it was, and the workers go on with it
    celery_setup.broker.restart()
    wait_until(lambda: stack.get("/readyz").status == 200, "the web process to be ready again")
    assert outcome(stack, scene.key()) == expected(ledger(new=12), storms=[storm_rr(alerts)])
    more = scene.pods(3, first=12)
    stack.post(more)
    stack.wait_received(scene.key(), 15)
    assert outcome(stack, scene.key()) == expected(ledger(new=15), storms=[storm_rr([*alerts, *more])])
    assert all(node.container.status == "running" for node in celery_setup.worker_cluster)
