"""What doctor makes of what it is told: Redis, clocks, several Alertmanagers, an older definition."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from app.settings import load
from lua_scripts.memory import Memory
from lua_scripts.server import ServerFacts
from tasks.doctor.alertmanagers import View, judge_together
from tasks.doctor.clocks import compare
from tasks.doctor.findings import duration_text
from tasks.doctor.stores import judge_server
from tasks.sinks.probe import lacking, packaged_schema

MIB = 1 << 20
GOOD = ServerFacts("Redis", "7.0.15", "master", 0, "noeviction", True, False, "always", Memory(10 * MIB, 100 * MIB))


def levels(server: ServerFacts, **settings: str) -> list[str]:
    environ = {f"STORMFOLD_{name}": value for name, value in settings.items()}
    found = list(judge_server(server, load(environ)))
    assert all(bool(finding.mend) is (finding.level != "ok") for finding in found)
    return [f"{finding.level} {finding.about}" for finding in found if finding.level != "ok"]


@pytest.mark.parametrize(
    ("changes", "settings", "wanted"),
    [
        ({}, {}, []),
        ({"version": "6.2.14"}, {}, []),
        ({"version": "6.0.16"}, {}, ["fail redis version"]),
        ({"version": "5.0"}, {}, ["fail redis version"]),
        ({"role": "slave"}, {}, ["fail redis role"]),
        ({"policy": "allkeys-lru"}, {}, ["fail redis eviction"]),
        ({"policy": ""}, {}, ["warn redis eviction"]),
        ({"fsync": "everysec"}, {}, ["warn redis persistence"]),
        ({"fsync": ""}, {}, []),
        ({"appends": False}, {}, ["fail redis persistence"]),
        ({"appends": False, "replicas": 1}, {"REDIS_WAIT_REPLICAS": "1"}, ["warn redis persistence"]),
        ({"append_fails": True}, {}, ["fail redis persistence"]),
        ({"memory": Memory(0, 0)}, {}, ["warn redis memory"]),
        ({"memory": Memory(59 * MIB, 100 * MIB)}, {}, []),
        ({"memory": Memory(60 * MIB, 100 * MIB)}, {}, ["warn redis memory"]),
        ({"memory": Memory(80 * MIB, 100 * MIB)}, {}, ["fail redis memory"]),
        ({}, {"REDIS_WAIT_REPLICAS": "1"}, ["fail redis replicas"]),
    ],
)
def test_a_redis_that_may_lose_alerts_is_told(changes: Any, settings: dict[str, str], wanted: list[str]) -> None:
    # Given what a Redis says of itself; Then what is wrong with it is told, with the mend, and nothing else
    assert levels(replace(GOOD, **changes), **settings) == wanted


def test_clocks_are_held_against_the_one_that_decides() -> None:
    # Given a machine whose clock is 60 s behind the two others
    found = [f"{one.level} {one.text}" for one in compare({"Redis": 60_000, "the API server": 60_400})]
    # Then it is the one that is named
    assert found == ["warn this machine is 60 s behind Redis", "ok the API server and Redis agree"]
    # And without Redis there is nothing to hold a clock against
    assert list(compare({"the API server": 60_400})) == []


def view(peer: str, *members: str, alerts: int = 3, unnamed: int = 0) -> View:
    return View(peer, "", frozenset(members), unnamed, alerts, 0)


@pytest.mark.parametrize(
    ("views", "group_by", "wanted"),
    [
        ([view("a")], "cluster,namespace", []),
        ([view("a", "1", "2"), view("b", "2", "1", unnamed=3)], "cluster,namespace", []),
        ([view("a", "1"), view("c", "3"), view("b", "1", "3", unnamed=1)], "cluster,namespace", []),
        ([view("a"), view("b")], "cluster,namespace", ["ok"]),
        ([view("a"), view("b", unnamed=1)], "cluster,namespace", ["warn"]),
        ([view("a"), view("b", alerts=0)], "cluster,namespace", ["warn"]),
        ([view("a"), view("b")], "namespace", ["warn"]),
    ],
)
def test_several_clusters_must_tell_themselves_apart(views: list[View], group_by: str, wanted: list[str]) -> None:
    # Given Alertmanagers, some of which gossip; Then only strangers whose alerts do not say whence they are are a worry
    settings = load({"STORMFOLD_GROUP_BY": group_by})
    assert [finding.level for finding in judge_together(views, settings)] == wanted


def test_an_older_definition_lacks_fields_at_any_depth() -> None:
    # Given the definition of this version and one without two of its fields
    wanted = packaged_schema()
    served = copy.deepcopy(wanted)
    del served["properties"]["status"]["properties"]["flaps"]
    aggregation = served["properties"]["spec"]["properties"]["stormAggregation"]["properties"]
    del aggregation["affectedResources"]["items"]["properties"]["firstSeen"]
    # Then both are named, in that direction alone
    assert sorted(lacking(wanted, served)) == [
        "spec.stormAggregation.affectedResources[].firstSeen", "status.flaps",
    ]  # fmt: skip
    assert list(lacking(served, wanted)) == list(lacking(wanted, wanted)) == []


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0"), (1500, "1500ms"), (90_000, "90s"), (300_000, "5m"), (6 * 3_600_000, "6h")]
)
def test_durations_are_told_as_settings_are_written(ms: int, text: str) -> None:
    assert duration_text(ms) == text
