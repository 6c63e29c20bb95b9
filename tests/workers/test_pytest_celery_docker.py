"""The shipped worker image against pytest-celery's own Redis container; skipped where no Docker engine answers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryTestSetup, CeleryWorkerContainer, RedisTestBroker
from pytest_docker_tools import build, container, fxtr

from tests.support.expect import ledger
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.scene import new_scene
from tests.support.stack import SHORT, STORMFOLD
from tests.support.waiting import wait_until
from tests.support.webhook import body_of, post, request

ROOT = Path(__file__).resolve().parents[2]


def engine_answers() -> bool:
    # By name: to linters `docker` is the folder of that name in this repository.
    library = importlib.import_module("docker")
    try:
        return bool(library.from_env(timeout=2).ping())
    except library.errors.DockerException:
        return False


pytestmark = [pytest.mark.docker, pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers")]


class StormfoldWorker(CeleryWorkerContainer):  # type: ignore[misc]
    """The worker target of docker/Dockerfile, with a folder of its own to write to."""

    @classmethod
    def initial_env(cls, celery_worker_cluster_config: dict[str, Any], initial: Any = None) -> dict[str, str]:
        [url] = celery_worker_cluster_config["celery_broker_cluster_config"]["urls"]
        own = SHORT | {"REDIS_URL": url, "SINK": "directory:/tmp/manifests"}
        return {f"STORMFOLD_{name}": value for name, value in own.items()}


worker_image = build(path=str(ROOT), dockerfile="docker/Dockerfile", target="worker", tag="stormfold-worker:test")

default_worker_container = container(
    image="{worker_image.id}",
    environment=fxtr("default_worker_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=StormfoldWorker,
    timeout=60,
)


@pytest.fixture
def default_worker_container_cls() -> type[StormfoldWorker]:
    return StormfoldWorker


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_redis_broker)


@pytest.fixture
def celery_backend_cluster() -> None:
    """Results are kept nowhere."""
    return


@pytest.fixture
def web_port(celery_setup: CeleryTestSetup, tmp_path: Path) -> Iterator[int]:
    """A web process outside the containers, over the Redis inside."""
    port = free_port()
    environ = {"STORMFOLD_REDIS_URL": celery_setup.broker.config()["host_url"], "STORMFOLD_PORT": str(port)}
    web = Process("web", [STORMFOLD, "web"], environ=environ, folder=tmp_path).start()

    def ready() -> bool:
        try:
            return request(port, "GET", "/readyz").status == 200
        except OSError:
            return False

    try:
        wait_until(ready, "the web process to be ready", describe=web.log)
        yield port
    finally:
        web.kill()


def test_worker_image_is_killed_and_restarted(celery_setup: CeleryTestSetup, web_port: int) -> None:
    # Given the image's worker
    scene = new_scene()
    alerts = scene.pods(24)
    assert celery_setup.ready()
    assert post(web_port, body_of(alerts[:12]), {}).status == 202
    # When it is killed, more comes, and it is restarted
    celery_setup.worker.kill()
    assert post(web_port, body_of(alerts[12:]), {}).status == 202
    celery_setup.worker.restart()

    # Then every alert counts once, in one object
    def counted() -> bool:
        found = request(web_port, "GET", "/api/v1/storms").json["items"]
        return [storm["ledger"] for storm in found] == [ledger(new=24)]

    def written() -> list[str]:
        exit_code, output = celery_setup.worker.container.exec_run("find /tmp/manifests -name *.yaml")
        return output.decode().split() if exit_code == 0 else []

    wait_until(counted, "24 alerts in one storm")
    wait_until(lambda: len(written()) == 1, "one object", describe=written)
