"""Asserts all that must hold after a fault: objects, API, ledgers, inbox, keys, dead letters, the order of writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lua_scripts import keys as key_names
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, shard_of
from tasks.content import single_name
from tests.faults.situations import Group, Situation, open_objects
from tests.support import objects
from tests.support.expect import expected, ledger, outcome
from tests.support.stack import Stack
from tests.support.steps import Steps
from tests.support.waiting import wait_until

QUEUES = ("ingest", "aggregate", "maintenance")
BOOKKEEPING = {
    name for name in vars(key_names).values() if isinstance(name, str) and name.startswith(f"{key_names.PREFIX}:")
} | {
    name
    for shard in range(SHARDS)
    for name in (ShardKeys(shard).meta, ShardKeys(shard).due, ShardKeys(shard).published)
}
"""Keys that may be there whatever storms are: counters, when what is due, which tasks are published, periodic jobs."""


def assert_whole_state(steps: Steps, situation: Situation) -> None:
    """The state of a situation in which nothing was forgotten."""
    stack = situation.stack
    for group in situation.groups:
        _assert_objects(stack, group)
        _assert_members(stack, group)
        assert_history(steps.journal(group.key), stack.objects(group.key))
        names = {line["metadata"]["name"] for line in steps.journal(group.key)}
        assert names == {rr["metadata"]["name"] for rr in stack.objects(group.key)}, "an object was renamed"
        _assert_own_keys(stack, group)
    assert_nothing_waits(stack)
    _assert_no_stray_keys(stack)
    assert_totals_balance(stack)


def assert_one_open_rr_each(steps: Steps, situation: Situation) -> None:
    """The state after Redis was emptied: every firing alert is in exactly one open RR, which the storms page knows."""
    stack = situation.stack
    for group in situation.groups:
        found = open_objects(stack, group)
        storm = stack.storm(group.key)
        assert storm is not None
        if group.storm:
            [rr] = found
            pods = {("Pod", one.labels["namespace"], one.labels["pod"]): 1 for one in group.firing}
            assert objects.storm_view(rr)["resources"] == pods
            assert rr["spec"]["stormAggregation"]["alertCount"] == len(group.firing)
            assert rr["metadata"]["name"] == storm["id"]
        else:
            targets = sorted(objects.single_view(rr)["target"] for rr in found)
            assert targets == sorted(("Pod", one.labels["namespace"], one.labels["pod"]) for one in group.firing)
        assert storm["alertCount"] == len(group.firing)
        _assert_members(stack, group)
        assert_history(steps.journal(group.key), stack.objects(group.key), doubles=True)
        counts = storm["ledger"]
        assert counts["received"] == sum(counts.values()) - counts["received"]
    assert_nothing_waits(stack)
    _assert_no_stray_keys(stack, {ShardKeys(shard).orphans for shard in range(SHARDS)})


def _assert_objects(stack: Stack, group: Group) -> None:
    found = stack.objects(group.key)
    storm = stack.storm(group.key)
    assert storm is not None
    received = storm["ledger"]["received"]
    # What is beyond the news are repeats: a sender that had no answer says it again.
    assert group.least <= received <= group.most, (group.least, received, group.most)
    counts = ledger(new=group.new, resolved=group.resolved, duplicate=received - group.new - group.resolved)
    storms, singles = group.rrs([rr["metadata"]["name"] for rr in objects.singles(found)])
    wanted = expected(
        counts, storms=storms, singles=singles, alert_count=len(group.firing),
        phase="RESOLVED" if group.resolved else "",
    )  # fmt: skip
    assert outcome(stack, group.key) == wanted
    for rr in objects.storms(found):
        assert rr["metadata"]["name"] == storm["id"]
        assert rr["status"]["ledger"]["new"] == group.new
    for rr in objects.singles(found):
        notes = rr["metadata"]["annotations"]
        prefix = "remediation.stormfold.io"
        opened = int(notes[f"{prefix}/opened"])
        assert rr["metadata"]["name"] == single_name(notes[f"{prefix}/fingerprint"], opened)
    assert len([rr for rr in objects.storms(found) if rr["status"]["phase"] == "Active"]) <= 1


def _assert_members(stack: Stack, group: Group) -> None:
    """The API names every firing alert, once."""
    storm = stack.storm(group.key)
    assert storm is not None
    members = stack.pages(f"storms/{storm['id']}/members")
    firing = sorted(one["fingerprint"] for one in members if one["status"] == "firing")
    assert firing == sorted(alert.fingerprint for alert in group.firing)


def assert_history(journal: Sequence[Mapping[str, Any]], found: Sequence[objects.RR], *, doubles: bool = False) -> None:
    """No write ever went back, and at no time were there two open storm RRs (``doubles``: but until repaired).

    In a cluster an object comes into being without a status, which counts as open.
    """
    fences: dict[tuple[str, str], tuple[int, int, int]] = {}
    phases: dict[str, str] = {}
    ledgers: dict[str, int] = {}
    for line in journal:
        meta, status = line["metadata"], line["status"]
        uid, version = objects.identity(meta)
        this = (meta["name"], uid)
        now = (int(meta["annotations"][objects.FENCE]), status.get("fence", 0), version)
        before = fences.get(this, (0, 0, 0))
        assert now[0] >= before[0], f"the fence of {this[0]} went back from {before[0]} to {now[0]}"
        assert now[1] >= before[1], f"the fence in the status of {this[0]} went back from {before[1]} to {now[1]}"
        assert now[2] > before[2], f"the version of {this[0]} went from {before[2]} to {now[2]}"
        fences[this] = now
        phase = status.get("phase", "Active")
        received = status.get("ledger", {}).get("received", 0) if not doubles else 0
        if phase != "Superseded":
            assert received >= ledgers.get(meta["name"], 0), f"{meta['name']} went back to older content"
            ledgers[meta["name"]] = received
        if line["type"] == "Storm":
            phases[meta["name"]] = phase
            assert doubles or list(phases.values()).count("Active") <= 1, phases
    for rr in found:
        own = [max(of_it[:2]) for (name, _), of_it in fences.items() if name == rr["metadata"]["name"]]
        assert objects.fence(rr) >= max(own, default=0)


def _assert_own_keys(stack: Stack, group: Group) -> None:
    """Redis keeps of the storm what it needs, and nothing else."""
    keys = StormKeys(group.storm_id)
    wanted = {keys.header, keys.text, keys.members, keys.resources}
    if group.resolved:
        wanted.add(keys.tombstones)
    if not group.storm:
        wanted |= {keys.singles, keys.singles_due, keys.rate, keys.pattern}
    elif group.superseded:
        wanted.add(keys.singles)
    assert {name for name in stack.redis.key_names() if group.storm_id in name} == wanted
    due = {
        shard for shard in range(SHARDS) if stack.redis.client.zscore(ShardKeys(shard).due, group.storm_id) is not None
    }
    assert due == {shard_of(group.storm_id)}
    lease = stack.redis.client.hmget(keys.header, "lk", "lu", "dy", "fd", "fu")
    assert not any(lease), f"a lease or a change is left over: {lease}"


def assert_nothing_waits(stack: Stack) -> None:
    client = stack.redis.client
    for shard in range(SHARDS):
        keys = ShardKeys(shard)
        for name in (keys.inbox, keys.order, keys.dead, keys.dead_order):
            assert not client.exists(name), f"{name} is not empty"
    broker = (stack.broker or stack.redis).client
    wait_until(
        lambda: not any(broker.llen(queue) for queue in QUEUES), "the queues to be empty",
        describe=lambda: {queue: broker.llen(queue) for queue in QUEUES},
    )  # fmt: skip


def _assert_no_stray_keys(stack: Stack, besides: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Every key is a shard's, the broker's, or that of a storm that is open."""
    open_ids = {
        raw.decode() for shard in range(SHARDS) for raw in stack.redis.client.zrange(ShardKeys(shard).due, 0, -1)
    }
    stray = {
        name
        for name in stack.redis.key_names()
        if name not in BOOKKEEPING | besides
        and name.rpartition(":")[2] not in open_ids
        and not name.startswith(("_kombu.", "unacked"))
        and name not in QUEUES
    }
    assert stray == set()


def assert_totals_balance(stack: Stack) -> None:
    """What was ever accepted is in one class each."""
    wait_until(lambda: stack.api("storms")["ledger"]["pending"] == 0, "nothing to be pending")
    totals = stack.api("storms")["ledger"]
    assert totals["received"] == sum(totals.values()) - totals["received"], totals
    assert totals["deadLettered"] == 0
