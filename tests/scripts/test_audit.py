"""The check that the ledger balances finds what a hand has corrupted, goes round, and is bounded."""

from __future__ import annotations

import pytest

from lua_scripts import audit as audit_module
from lua_scripts.audit import Audit, Audited
from lua_scripts.inbox import Inbox
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, shard_of
from lua_scripts.records import DeadLetter
from lua_scripts.workers import FORGOTTEN_MS, Workers
from tests.scripts.lab import OTHER_STORM, START, STORM, Clock, Lab, fill, many, resolved

KEYS = ShardKeys(shard_of(STORM))


def round_of(lab: Lab) -> list[str]:
    """What a look at each shard finds."""
    audit = Audit(lab.client)
    return [finding for _ in range(SHARDS) for finding in audit.look()]


def found(lab: Lab) -> tuple[int, int]:
    seen = Audit(lab.client).seen()
    return seen.shards, seen.storms


@pytest.fixture
def busy(lab: Lab) -> Lab:
    """A storm with every class, entries that wait, dead letters, ignored alerts."""
    lab.deliver(*many(12))
    lab.deliver(*many(3), resolved("a0", 5), resolved("stranger", 5))
    lab.deliver(*many(2), storm=OTHER_STORM)
    lab.accept(*many(4))
    lab.inbox.accept(3, [], [DeadLetter("l", "", "", "", "")], ignored=2)
    return lab


def test_nothing_is_wrong_with_what_the_scripts_do(busy: Lab) -> None:
    assert Audit(busy.client).seen() == Audited(0, 0, 0)
    assert round_of(busy) == []
    assert found(busy) == (0, 0)
    assert Audit(busy.client).seen().oldest_ms > 0


@pytest.mark.parametrize("counter", ["rc", "nw", "du", "rs", "od", "ig", "pd", "dl"])
def test_a_corrupted_counter_of_a_shard_is_found_and_its_repair_too(busy: Lab, counter: str) -> None:
    # Given a counter that a hand has changed
    busy.client.hincrby(KEYS.meta, counter, 1)
    # When all shards were looked at
    findings = round_of(busy)
    # Then it is known, whoever asks
    assert findings == [f"shard {KEYS.shard}"]
    assert found(busy) == (1, 0)
    # And when it is mended, that is known after another round
    busy.client.hincrby(KEYS.meta, counter, -1)
    assert round_of(busy) == []
    assert found(busy) == (0, 0)


@pytest.mark.parametrize("counter", ["rc", "nw", "du", "ro", "rs", "od"])
def test_a_corrupted_counter_of_a_storm_is_found(busy: Lab, counter: str) -> None:
    busy.client.hincrby(StormKeys(STORM).header, counter, -1)
    assert round_of(busy) == [f"storm {STORM}"]
    assert found(busy) == (0, 1)


def test_an_entry_that_vanished_is_found(busy: Lab) -> None:
    # Given an entry of four alerts that somebody deleted
    [entry] = busy.inbox.take(KEYS.shard)
    busy.client.hdel(KEYS.inbox, entry.entry_id)
    busy.client.zrem(KEYS.order, entry.entry_id)
    # Then counters that add up do not hide it: they say it is pending
    assert busy.inbox.totals().balanced
    assert round_of(busy) == [f"shard {KEYS.shard}"]


def test_a_look_is_bounded_and_a_round_names_every_storm(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given 25 storms of one shard, all corrupted, of which a look takes ten
    monkeypatch.setattr(audit_module, "STORMS_A_LOOK", 10)
    storms = [f"{KEYS.shard:x}{at:015x}" for at in range(25)]
    for storm in storms:
        lab.deliver(*many(1), storm=storm)
        lab.client.hincrby(StormKeys(storm).header, "rc", 5)
    # When every shard is looked at, and again
    rounds = []
    for _ in range(4):
        findings = round_of(lab)
        rounds.append((len(findings), found(lab)))
    # Then each look found its ten, and they add up over a round, which the next does not forget
    assert rounds == [(10, (0, 10)), (10, (0, 20)), (5, (0, 25)), (10, (0, 25))]


def test_the_look_goes_on_when_redis_is_full(busy: Lab) -> None:
    busy.client.hincrby(KEYS.meta, "rc", 1)
    busy.client.script_flush()
    fill(busy.client)
    assert round_of(busy) == [f"shard {KEYS.shard}"]
    assert found(busy) == (1, 0)


def test_the_shard_seen_to_longest_ago_comes_first(lab: Lab, clock: Clock) -> None:
    # Given looks at different times
    audit = Audit(lab.client)
    for at in range(SHARDS):
        clock.at(at)
        audit.look()
    # Then each shard was seen once, and the first is next
    assert audit.seen() == Audited(0, 0, START)
    clock.at(100)
    audit.look()
    assert audit.seen().oldest_ms == START + 1


def test_dropping_and_replaying_letters_keeps_the_balance(busy: Lab) -> None:
    inbox = Inbox(busy.client)
    inbox.accept(5, [], [DeadLetter("m", "", "", "", "")])
    inbox.drop("l")
    busy.accept(*many(1, first=90))
    inbox.replayed("m")
    assert round_of(busy) == []


def test_beats_of_workers_are_kept_for_a_while(lab: Lab, clock: Clock) -> None:
    # Given two workers, of which one falls silent
    workers = Workers(lab.client)
    workers.beat("a")
    clock.at(1000)
    workers.beat("b")
    assert workers.last_beats() == {"a": START, "b": START + 1000}
    # When the other goes on beyond what is kept, in a full Redis too
    clock.at(FORGOTTEN_MS + 1)
    fill(lab.client)
    workers.beat("b")
    # Then it is there alone, and would be gone with the last
    assert workers.last_beats() == {"b": START + FORGOTTEN_MS + 1}
    assert 0 < lab.client.pttl("sf:{0}:workers") <= FORGOTTEN_MS
