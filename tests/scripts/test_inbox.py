"""take, split, bury and trim: each alone, over entries and dead letters that a test stored."""

from __future__ import annotations

import pytest

from lua_scripts import inbox as inbox_module
from lua_scripts.inbox import TAKE_BYTES, Depth
from lua_scripts.keys import ShardKeys, shard_of
from lua_scripts.records import DeadLetter, Ledger, NewEntry, StoredEntry
from tests.scripts.lab import START, STORM, Clock, Lab, empty_again, fill
from tests.support.waiting import at_once

SHARD = shard_of(STORM)
KEYS = ShardKeys(SHARD)


def accept(lab: Lab, name: str, alerts: int = 2, payload: bytes = b"payload") -> int:
    return lab.inbox.accept(SHARD, [NewEntry(name, STORM, alerts, payload)]).received_ms


def letter(name: str) -> DeadLetter:
    return DeadLetter(name, "reason", "path", "{}", "delivery")


# take -----------------------------------------------------------------------------------------------------------------


def test_take_gives_the_oldest_first_and_keeps_them(lab: Lab, clock: Clock) -> None:
    # Given three entries, received one after the other
    for at, name in enumerate(("z", "y", "x")):
        clock.at(at)
        accept(lab, name)
    # When two are taken, twice
    first, again = lab.inbox.take(SHARD, 2), lab.inbox.take(SHARD, 2)
    # Then these are the two oldest, and they are still there
    assert first == again == [StoredEntry("z", START, b"payload"), StoredEntry("y", START + 1, b"payload")]
    assert lab.inbox.depth() == Depth(3, START)


def test_take_is_bounded_in_bytes_but_gives_one_whatever_its_size(lab: Lab, clock: Clock) -> None:
    # Given two entries that each fill the bound, and a small one
    for at in range(2):
        clock.at(at)
        accept(lab, f"big{at}", payload=b"x" * (TAKE_BYTES + 1))
    clock.at(2)
    accept(lab, "small")
    # When entries are taken
    taken = lab.inbox.take(SHARD)
    # Then it is the first alone
    assert [one.entry_id for one in taken] == ["big0"]


def test_take_passes_over_what_has_no_payload(lab: Lab) -> None:
    # Given an entry whose payload is gone, before one that is whole
    lab.client.zadd(KEYS.order, {"hollow": 1})
    accept(lab, "whole")
    # When entries are taken
    taken = lab.inbox.take(SHARD)
    # Then the whole one comes and the other is forgotten
    assert [one.entry_id for one in taken] == ["whole"]
    assert lab.client.zrange(KEYS.order, 0, -1) == [b"whole"]


def test_take_of_an_empty_inbox_leaves_nothing(lab: Lab) -> None:
    assert lab.inbox.take(SHARD) == []
    assert lab.dump() == {}


def test_take_goes_on_when_redis_is_full(lab: Lab) -> None:
    # Given an entry in a full Redis
    accept(lab, "e1")
    fill(lab.client)
    # When it is taken, with a mark that somebody drains and without
    with_mark = lab.inbox.take(SHARD)
    lab.client.hdel(KEYS.meta, "wk")
    without = lab.inbox.take(SHARD)
    empty_again(lab.client)
    # Then it comes each time
    assert [one.entry_id for one in with_mark] == [one.entry_id for one in without] == ["e1"]


# split ----------------------------------------------------------------------------------------------------------------


def test_split_keeps_the_time_of_receipt(lab: Lab, clock: Clock) -> None:
    # Given an entry received at START
    accept(lab, "e1", 2)
    clock.at(1000)
    # When it is split
    done = lab.inbox.split(SHARD, "e1", [("e1.0-1", b"one"), ("e1.1-1", b"two")])
    # Then both parts stand for it as of that time, and what is pending has not changed
    assert done
    assert lab.inbox.take(SHARD) == [StoredEntry("e1.0-1", START, b"one"), StoredEntry("e1.1-1", START, b"two")]
    assert lab.inbox.totals() == Ledger(received=2, pending=2)


def test_split_of_an_entry_that_is_gone_does_nothing(lab: Lab) -> None:
    assert not lab.inbox.split(SHARD, "e1", [("e1.0-1", b"one")])
    assert lab.dump() == {}


def test_split_goes_on_when_redis_is_full(lab: Lab) -> None:
    # Given an entry in a full Redis
    accept(lab, "e1", 2)
    fill(lab.client)
    # When it is split
    assert lab.inbox.split(SHARD, "e1", [("e1.0-1", b"one"), ("e1.1-1", b"two")])
    # Then it is
    empty_again(lab.client)
    assert [one.entry_id for one in lab.inbox.take(SHARD)] == ["e1.0-1", "e1.1-1"]


def test_100_concurrent_splits_are_one(lab: Lab) -> None:
    accept(lab, "e1", 2)
    parts = [("e1.0-1", b"one"), ("e1.1-1", b"two")]
    done = at_once(*[lambda: lab.inbox.split(SHARD, "e1", parts)] * 100)
    assert sum(done) == 1
    assert lab.inbox.depth().entries == 2


# bury -----------------------------------------------------------------------------------------------------------------


def test_bury_turns_an_entry_into_a_letter(lab: Lab, clock: Clock) -> None:
    # Given an entry of one alert
    accept(lab, "e1", 1)
    clock.at(1000)
    # When it is buried, and once more
    done = lab.inbox.bury(SHARD, "e1", 1, letter("l1")), lab.inbox.bury(SHARD, "e1", 1, letter("l2"))
    # Then it is one letter, once, and the ledger balances
    assert done == (True, False)
    letters, _ = lab.inbox.dead_letters()
    assert letters == [DeadLetter("l1", "reason", "path", "{}", "delivery", START + 1000)]
    assert lab.inbox.depth() == Depth(0, 0)
    assert lab.inbox.totals() == Ledger(received=1, dead_lettered=1)


def test_bury_goes_on_when_redis_is_full(lab: Lab) -> None:
    # Given an entry in a full Redis
    accept(lab, "e1", 1)
    fill(lab.client)
    # When it is buried
    assert lab.inbox.bury(SHARD, "e1", 1, letter("l1"))
    # Then it is a letter
    empty_again(lab.client)
    assert lab.inbox.totals() == Ledger(received=1, dead_lettered=1)
    assert [one.letter_id for one in lab.inbox.dead_letters()[0]] == ["l1"]


def test_100_concurrent_burials_are_one(lab: Lab) -> None:
    accept(lab, "e1", 1)
    done = at_once(*(lambda at=at: lab.inbox.bury(SHARD, "e1", 1, letter(f"l{at}")) for at in range(100)))
    assert sum(done) == 1
    assert lab.inbox.totals() == Ledger(received=1, dead_lettered=1)
    assert len(lab.inbox.dead_letters()[0]) == 1


# trim and the listing -------------------------------------------------------------------------------------------------


def bury_many(lab: Lab, count: int, first: int = 0) -> None:
    lab.inbox.accept(SHARD, [], [letter(f"l{at:04}") for at in range(first, first + count)])


def test_trim_sheds_by_count_the_oldest_first(lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given five letters where only three may stay from now on
    for at in range(5):
        clock.at(at)
        bury_many(lab, 1, first=at)
    monkeypatch.setattr(inbox_module, "MAX_DEAD_LETTERS", 3)
    # When the shard is trimmed, and again
    shed = lab.inbox.trim(SHARD), lab.inbox.trim(SHARD)
    # Then the two oldest went, and how many did is counted
    assert shed == (2, 0)
    assert [one.letter_id for one in lab.inbox.dead_letters()[0]] == ["l0002", "l0003", "l0004"]
    assert lab.client.hget(KEYS.meta, "sh") == b"2"
    assert lab.inbox.totals() == Ledger(received=5, dead_lettered=5)


def test_trim_sheds_by_age(lab: Lab, clock: Clock) -> None:
    # Given a letter that has just reached the age, and one that is younger
    bury_many(lab, 1)
    clock.at(1)
    bury_many(lab, 1, first=1)
    clock.at(1000)
    # When the shard is trimmed
    shed = lab.inbox.trim(SHARD, age_ms=1000)
    # Then the old one went
    assert shed == 1
    assert [one.letter_id for one in lab.inbox.dead_letters()[0]] == ["l0001"]


def test_trim_is_bounded_a_call(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bury_many(lab, 150)
    monkeypatch.setattr(inbox_module, "MAX_DEAD_LETTERS", 0)
    assert [lab.inbox.trim(SHARD), lab.inbox.trim(SHARD), lab.inbox.trim(SHARD)] == [100, 50, 0]
    assert lab.key_kinds() == {"meta"}


def test_trim_goes_on_when_redis_is_full(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bury_many(lab, 3)
    monkeypatch.setattr(inbox_module, "MAX_DEAD_LETTERS", 0)
    fill(lab.client)
    assert lab.inbox.trim(SHARD) == 3


def test_letters_are_listed_page_by_page_over_shards_and_dropped(lab: Lab) -> None:
    # Given letters in three shards
    for shard in (0, 7, 15):
        lab.inbox.accept(shard, [], [letter(f"{shard}-{at}") for at in range(3)])
    # When they are read two at a time, then one is dropped, and once more
    names: list[str] = []
    page, cursor = lab.inbox.dead_letters(None, 2)
    names += [one.letter_id for one in page]
    while cursor:
        page, cursor = lab.inbox.dead_letters(cursor, 2)
        names += [one.letter_id for one in page]
    dropped = lab.inbox.drop("7-1"), lab.inbox.drop("7-1")
    # Then each was named once, and it went once
    assert names == [f"{shard}-{at}" for shard in (0, 7, 15) for at in range(3)]
    assert dropped == (True, False)
    assert "7-1" not in [one.letter_id for one in lab.inbox.dead_letters()[0]]
