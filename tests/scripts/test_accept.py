"""accept: what a delivery leaves in the inbox, and nothing where Redis is full."""

from __future__ import annotations

import pytest
import redis

from lua_scripts.errors import StoreFull, StoreTimeout
from lua_scripts.inbox import Depth, Inbox
from lua_scripts.keys import shard_of
from lua_scripts.records import DeadLetter, Ledger, NewEntry
from tests.scripts.lab import STORM, Lab, empty_again, fill, firing
from tests.support.waiting import at_once

SHARD = shard_of(STORM)


def new_entry(name: str, alerts: int = 2, payload: bytes = b"payload") -> NewEntry:
    return NewEntry(name, STORM, alerts, payload)


LETTER = DeadLetter("letter-1", "label value is no text", "alerts/0", "{}", "delivery-1")


def test_stores_entries_letters_and_counts(lab: Lab) -> None:
    # Given an empty inbox
    # When a delivery of two entries, a dead letter and three ignored alerts is accepted
    accepted = lab.inbox.accept(SHARD, [new_entry("e1"), new_entry("e2", 3)], [LETTER], ignored=3)
    # Then all of it is there under one time of receipt, and the first to come is told to wake a worker
    seconds, _ = lab.client.time()
    assert abs(accepted.received_ms - seconds * 1000) < 5000
    assert accepted.wake
    stored = lab.inbox.take(SHARD)
    assert [(one.entry_id, one.received_ms, one.payload) for one in stored] == [
        ("e1", accepted.received_ms, b"payload"), ("e2", accepted.received_ms, b"payload"),
    ]  # fmt: skip
    [letter], cursor = lab.inbox.dead_letters()
    assert cursor is None
    assert (letter.letter_id, letter.reason, letter.path, letter.alert, letter.delivery_id, letter.buried_ms) == (
        "letter-1", "label value is no text", "alerts/0", "{}", "delivery-1", accepted.received_ms,
    )  # fmt: skip
    assert lab.inbox.totals() == Ledger(received=9, pending=5, ignored=3, dead_lettered=1)
    assert lab.inbox.totals().balanced
    assert lab.inbox.depth() == Depth(2, accepted.received_ms)


def test_wakes_once_until_somebody_takes(lab: Lab) -> None:
    # Given an entry for which a wake-up was asked
    assert lab.inbox.accept(SHARD, [new_entry("e1")]).wake
    # When more come before and after a worker took, then again once a worker found the inbox empty
    before = lab.inbox.accept(SHARD, [new_entry("e2")]).wake
    lab.inbox.take(SHARD)
    while_draining = lab.inbox.accept(SHARD, [new_entry("e3")]).wake
    for one in lab.inbox.take(SHARD):
        lab.inbox.bury(SHARD, one.entry_id, 2, LETTER)
    assert lab.inbox.take(SHARD) == []
    after = lab.inbox.accept(SHARD, [new_entry("e4")]).wake
    # Then a wake-up is asked for only where none is outstanding and nobody drains
    assert (before, while_draining, after) == (False, False, True)


def test_ignored_and_dead_alone_need_no_worker(lab: Lab) -> None:
    # Given nothing
    # When a delivery holds only ignored and malformed alerts
    accepted = lab.inbox.accept(SHARD, [], [LETTER], ignored=2)
    # Then it is counted and nobody is woken
    assert not accepted.wake
    assert lab.inbox.totals() == Ledger(received=3, ignored=2, dead_lettered=1)
    assert lab.inbox.depth() == Depth(0, 0)


def test_same_entry_twice_counts_once(lab: Lab) -> None:
    # Given an entry whose confirmation got lost
    first = lab.inbox.accept(SHARD, [new_entry("e1")])
    # When the same call comes once more
    lab.inbox.accept(SHARD, [new_entry("e1", payload=b"other")])
    # Then the first stands alone
    [stored] = lab.inbox.take(SHARD)
    assert (stored.payload, stored.received_ms) == (b"payload", first.received_ms)
    assert lab.inbox.totals() == Ledger(received=2, pending=2)


def test_entry_of_another_shard_is_an_error_of_the_caller(lab: Lab) -> None:
    with pytest.raises(ValueError, match="does not belong"):
        lab.inbox.accept(SHARD + 1, [new_entry("e1")])
    assert lab.dump() == {}


@pytest.mark.parametrize(
    ("entries", "dead", "ignored"), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 1)],
    ids=["entry", "dead", "ignored", "all"],
)  # fmt: skip
def test_full_redis_refuses_without_a_trace(lab: Lab, entries: int, dead: int, ignored: int) -> None:
    # Given a Redis with something in it that is full
    lab.accept(firing("a"))
    lab.deliver(firing("b"))
    before = lab.dump()
    fill(lab.client)
    # When a delivery comes
    with pytest.raises(StoreFull):
        lab.inbox.accept(
            SHARD,
            [new_entry(f"e{at}") for at in range(entries)],
            [DeadLetter(f"l{at}", "", "", "", "") for at in range(dead)],
            ignored,
        )
    # Then every key is as it was, and after memory is freed the same delivery is taken
    assert lab.dump() == before
    empty_again(lab.client)
    assert lab.inbox.accept(SHARD, [new_entry("e0")]).received_ms > 0


def test_confirmation_of_replicas_that_are_not_there_is_refused(lab: Lab, client: redis.Redis) -> None:
    # Given an inbox that wants one replica's confirmation, and none is there
    inbox = Inbox(client, wait_replicas=1)
    # When a delivery is accepted, the scripts not loaded yet
    with pytest.raises(StoreTimeout, match="only 0 of 1"):
        inbox.accept(SHARD, [new_entry("e1")])
    # Then it was stored all the same, once: what is refused may be there, and is never half there
    assert [one.entry_id for one in lab.inbox.take(SHARD)] == ["e1"]
    assert lab.inbox.totals() == Ledger(received=2, pending=2)


def test_100_concurrent_deliveries(lab: Lab) -> None:
    # Given an empty inbox
    def accept(number: int) -> bool:
        return lab.inbox.accept(SHARD, [new_entry(f"e{number}", 3)], ignored=1).wake

    # When 100 threads deliver at once
    woken = at_once(*(lambda number=number: accept(number) for number in range(100)))
    # Then all of it is there, and exactly one was told to wake a worker
    assert sum(woken) == 1
    assert lab.inbox.totals() == Ledger(received=400, pending=300, ignored=100)
    assert {one.entry_id for one in lab.inbox.take(SHARD, 200)} == {f"e{number}" for number in range(100)}


def test_100_concurrent_repeats_of_one_delivery(lab: Lab) -> None:
    # Given one delivery
    # When 100 threads send it at once
    at_once(*[lambda: lab.inbox.accept(SHARD, [new_entry("e1")]).wake] * 100)
    # Then it is there once
    assert lab.inbox.totals() == Ledger(received=2, pending=2)
    assert lab.inbox.depth().entries == 1
