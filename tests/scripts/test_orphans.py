"""Open RRs that an emptied Redis forgot: kept until their alerts come again, and no longer than the sink has them."""

from __future__ import annotations

import redis

from lua_scripts.keys import ShardKeys, shard_of
from lua_scripts.orphans import Match, OpenObject, Orphans
from tests.scripts.lab import OTHER_STORM, START, STORM, Clock

GRACE_MS = 60_000
STORM_RR = OpenObject("storm", STORM, "storm-x-0123456783", "shop", "u1", "7", 5, storm_type="rate")
SINGLE_RR = OpenObject("single", STORM, "rr-1", "shop", "u2", "3", 2, fingerprint="00000000000000aa", opened_ms=START)
OTHER_RR = OpenObject("storm", OTHER_STORM, "storm-y-0123456783", "shop", "u3", "1", 1)


def kept(client: redis.Redis) -> set[bytes]:
    return set(client.hkeys(ShardKeys(shard_of(STORM)).orphans))


def test_orphan_is_given_up_when_its_alerts_stay_away(client: redis.Redis, clock: Clock) -> None:
    # Given two open RRs of a storm that nobody knows
    orphans = Orphans(client)
    assert orphans.match([STORM_RR, SINGLE_RR], GRACE_MS, START) == [Match("orphan"), Match("orphan")]
    # When they are met again within the grace, and after it
    clock.advance(GRACE_MS - 1)
    within = orphans.match([STORM_RR, SINGLE_RR], GRACE_MS, START)
    clock.advance(1)
    after = orphans.match([STORM_RR, SINGLE_RR], GRACE_MS, START)
    # Then they wait, and then they are lost, and nothing is kept of them
    assert within == [Match("orphan"), Match("orphan")]
    assert after == [Match("lost"), Match("lost")]
    assert kept(client) == set()


def test_orphan_that_is_not_open_any_more_is_forgotten(client: redis.Redis, clock: Clock) -> None:
    # Given orphans of two storms
    orphans = Orphans(client)
    orphans.match([STORM_RR, SINGLE_RR, OTHER_RR], GRACE_MS, START)
    # When a later look meets those of one storm only
    clock.advance(1000)
    orphans.match([STORM_RR, SINGLE_RR], GRACE_MS, START)
    assert orphans.unseen(START + 1000) == 1
    # Then the other is forgotten
    assert kept(client) == {STORM.encode()}
    # And one that lost its Single keeps the rest
    clock.advance(1000)
    orphans.match([STORM_RR], GRACE_MS, START)
    assert orphans.unseen(START + 2000) == 1
    assert kept(client) == {STORM.encode()}
    assert orphans.unseen(START + 2000) == 0
