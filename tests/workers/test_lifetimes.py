"""How storms end: closed after the reopen window, stale without news, and Redis as empty as before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from lua_scripts.keys import JOBS, SHARDS, WORKERS, ShardKeys
from tests.support import objects
from tests.support.expect import expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at

WINDOWS = {
    "DEBOUNCE": "200ms", "SINGLE_HOLD": "300ms", "REOPEN_WINDOW": "1s", "STALE_AFTER": "4s", "TOMBSTONE": "2s",
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("lifetimes"), WINDOWS) as stack:
        yield stack


def wait_closed(stack: Stack, key: Mapping[str, str]) -> None:
    wait_until(lambda: stack.pending() == 0 and stack.storm(key) is None, f"{key} to be closed", poll_s=0.1)


def wait_phase(stack: Stack, key: Mapping[str, str], phase: str, count: int) -> None:
    def phases() -> list[str]:
        return [rr["status"]["phase"] for rr in stack.objects(key)]

    wait_until(lambda: phases().count(phase) == count, f"{count} objects {phase}", describe=phases, poll_s=0.02)


def fire_and_resolve(stack: Stack, scene: Scene, alerts: list[Alert], *, ends: float) -> None:
    stack.post(alerts)
    wait_phase(stack, scene.key(), "Active", 1)
    stack.post([alert.resolved(at(ends)) for alert in alerts])
    wait_closed(stack, scene.key())


def test_next_epoch_has_a_new_object(stack: Stack) -> None:
    # Given a storm that is over and closed
    scene = new_scene()
    alerts = scene.pods(12)
    fire_and_resolve(stack, scene, alerts, ends=10)
    assert outcome(stack, scene.key()) == expected(None, storms=[storm_rr(alerts, phase="Resolved", alert_count=0)])
    [old] = stack.objects(scene.key())
    # When the same alerts fire again
    again = [alert.fired_again(at(20)) for alert in alerts]
    fire_and_resolve(stack, scene, again, ends=30)
    # Then there is a second object, and the first is as it was
    both = stack.objects(scene.key())
    assert [rr for rr in both if rr["metadata"]["name"] == old["metadata"]["name"]] == [old]
    assert outcome(stack, scene.key()) == expected(None, storms=[storm_rr(alerts, phase="Resolved", alert_count=0)] * 2)


def test_storm_without_news_goes_stale_and_a_repeat_is_news(stack: Stack) -> None:
    # Given a storm
    scene = new_scene()
    alerts = scene.pods(12)
    stack.post(alerts)
    wait_phase(stack, scene.key(), "Active", 1)
    # When nobody speaks of it any more
    wait_closed(stack, scene.key())
    # Then its object says so
    [stale] = stack.objects(scene.key())
    assert outcome(stack, scene.key()) == expected(None, storms=[storm_rr(alerts, phase="Stale")])
    # And when the same alerts are repeated, they are a storm of their own
    stack.post(alerts)
    wait_phase(stack, scene.key(), "Active", 1)
    storm = stack.storm(scene.key())
    assert storm is not None
    assert storm["ledger"] == ledger(new=12)
    by_phase = {rr["status"]["phase"]: rr for rr in objects.storms(stack.objects(scene.key()))}
    assert by_phase["Stale"] == stale
    assert objects.storm_view(by_phase["Active"]) == storm_rr(alerts)
    wait_closed(stack, scene.key())


def test_single_without_news_goes_stale(stack: Stack) -> None:
    # Given a Single
    scene = new_scene()
    alert = scene.pod_alert("web-0")
    stack.post([alert])
    # When nobody speaks of it any more
    wait_phase(stack, scene.key(), "Active", 1)
    wait_closed(stack, scene.key())
    # Then its object says so
    assert outcome(stack, scene.key()) == expected(None, singles=[single_rr(alert, phase="Stale")])


def test_single_closes_and_its_next_firing_has_a_new_object(stack: Stack) -> None:
    # Given a Single that is over and closed
    scene = new_scene()
    alert = scene.pod_alert("web-0")
    fire_and_resolve(stack, scene, [alert], ends=10)
    # When the alert fires again
    fire_and_resolve(stack, scene, [alert.fired_again(at(20))], ends=30)
    # Then there are two objects, both resolved
    assert outcome(stack, scene.key()) == expected(None, singles=[single_rr(alert, phase="Resolved")] * 2)


def test_redis_is_as_empty_as_before_when_everything_is_closed(stack: Stack) -> None:
    # Given what Redis holds when nothing is open
    def nothing_open() -> bool:
        return stack.pending() == 0 and stack.pages("storms") == []

    def left() -> set[str]:
        return {key for key in stack.redis.key_names() if not bookkeeping(key)}

    wait_until(nothing_open, "every storm of the tests before to be closed", poll_s=0.1)
    wait_until(lambda: left() == set(), "Redis to be empty before", describe=left)
    wait_until(
        lambda: len(kept(stack)) == SHARDS, "the counters of all shards to be there", describe=lambda: kept(stack)
    )
    before = kept(stack)
    # When storms, Singles, superseded Singles, resolved strangers and stale ones have come and gone
    scene = new_scene()
    storm, lone = scene.pods(30), scene.pod_alert("db-0", "Lone")
    stack.post(storm[:3])
    wait_phase(stack, scene.key(), "Active", 3)
    stack.post([*storm[3:], lone, scene.pod_alert("db-1", "Stranger", ends=5)])
    wait_phase(stack, scene.key(), "Superseded", 3)
    stack.post([alert.resolved(at(10)) for alert in storm])
    wait_until(nothing_open, "everything to be closed", poll_s=0.1)
    # Then nothing of them is left
    wait_until(lambda: left() == set(), "Redis to be as empty as before", describe=left)
    # And what stays are the same keys, with a digit more here and there
    after = kept(stack)
    assert after.keys() == before.keys()
    assert sum(after.values()) - sum(before.values()) < 1024


def kept(stack: Stack) -> dict[str, int]:
    """The bytes of every shard's counters: what stays when everything is closed."""
    metas = [ShardKeys(shard).meta for shard in range(SHARDS)]
    sizes = {key: stack.redis.client.memory_usage(key) for key in metas}
    return {key: size for key, size in sizes.items() if size}


def bookkeeping(key: str) -> bool:
    """Whether a key is one that stays: a shard's counters, turns of jobs, workers' beats, what the broker has."""
    return (
        key.startswith(("_kombu.", "unacked_mutex"))
        or key in (JOBS, WORKERS)
        or key in {ShardKeys(shard).meta for shard in range(SHARDS)}
    )
