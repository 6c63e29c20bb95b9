"""What all workers learn of a real API server's answers, and metrics show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.sinks.resource
from lua_scripts.budget import PROBE_MS, Budget, Health
from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, SinkRefused
from tasks.sinks.errors import DefinitionAbsent, NotYet
from tasks.sinks.gate import BudgetGate
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import storm
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


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
        # When somebody writes, and somebody looks through it
        with pytest.raises(DefinitionAbsent):
            sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
        with pytest.raises(DefinitionAbsent):
            list(sink.owned(deadline))
        # Then nobody writes for a while
        with pytest.raises(NotYet):
            sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    # And it is known since when, and how often that was met
    seen = budget.health()
    assert (seen.undefined_since_ms > 0, seen.refused, seen.writes) == (True, 2, 1)
    assert 0 < seen.paused_ms <= PROBE_MS
    # And once it is installed, the first look or write of any worker ends that
    other = open_sink(control_plane, monkeypatch, budget)
    wait_until(lambda: budget.health().paused_ms == 0, "the time to probe")
    other.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    assert budget.health() == Health(refused=2, writes=3)
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
    assert budget.health() == Health(refused=2, writes=1)
