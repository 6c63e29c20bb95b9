"""What all workers learn of a real API server's answers, and metrics show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.sinks.resource
from lua_scripts.budget import Budget, Health
from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, SinkRefused
from tasks.sinks.errors import DefinitionAbsent
from tasks.sinks.gate import BudgetGate
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import storm
from tests.support.redis_server import RedisServer


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    server = RedisServer(tmp_path).start()
    yield Budget(server.client, 20)
    server.stop()


def open_sink(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, budget: Budget, user: str = WORKER
) -> KubernetesSink:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(user)))
    return KubernetesSink(connect(), "stormfold-system", 5.0, gate=BudgetGate(budget))


def test_a_missing_definition_shows_until_it_is_installed(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a server that does not know our kind (its name is changed on our side, so the worker's rights do not fit)
    sink = open_sink(control_plane, monkeypatch, budget, "admin")
    with monkeypatch.context() as patch:
        patch.setattr(tasks.sinks.resource, "PLURAL", "unheardofs")
        # When somebody looks through it, and somebody writes
        with pytest.raises(DefinitionAbsent):
            list(sink.owned(deadline))
        with pytest.raises(DefinitionAbsent):
            sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    # Then it is known since when, and how often that was met
    seen = budget.health()
    assert seen.undefined_since_ms > 0
    assert seen == Health(undefined_since_ms=seen.undefined_since_ms, refused=2)
    # And once it is installed, the first look or write of any worker ends that
    other = open_sink(control_plane, monkeypatch, budget)
    other.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    assert budget.health() == Health(refused=2)
    sink.close()
    other.close()


def test_missing_rights_are_counted(
    control_plane: ControlPlane, namespace: str, deadline: Deadline, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given somebody without rights; When he reads and writes, Then both refusals are counted, and nobody pauses
    sink = open_sink(control_plane, monkeypatch, budget, "nobody")
    with pytest.raises(SinkRefused):
        list(sink.owned(deadline))
    with pytest.raises(SinkRefused):
        sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    sink.close()
    assert budget.health() == Health(refused=2)
