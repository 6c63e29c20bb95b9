"""Dead letters: bounded when they come, found, dropped and replayed, and the ledger balances throughout."""

from __future__ import annotations

import pytest

from lua_scripts import inbox as inbox_module
from lua_scripts.errors import StoreFull
from lua_scripts.inbox import LetterCounts, Waiting
from lua_scripts.keys import ShardKeys, shard_of
from lua_scripts.records import DeadLetter, Ledger, NewEntry
from tests.scripts.lab import STORM, Clock, Lab, fill
from tests.support.waiting import at_once

SHARD = shard_of(STORM)
OTHER = (SHARD + 1) % 16


def letter(name: str, alert: str = "{}", *, cut: bool = False) -> DeadLetter:
    return DeadLetter(name, "reason", "path", alert, "delivery", cut=cut)


def names(lab: Lab) -> list[str]:
    return [one.letter_id for one in lab.inbox.dead_letters()[0]]


def bytes_held(lab: Lab) -> tuple[int, int]:
    """What the meta says the letters of SHARD take, and what they take."""
    noted = int(lab.client.hget(ShardKeys(SHARD).meta, "lb") or 0)
    return noted, sum(len(raw) for raw in lab.client.hvals(ShardKeys(SHARD).dead))


def test_a_burst_sheds_the_oldest_when_it_comes(lab: Lab, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given room for ten letters
    monkeypatch.setattr(inbox_module, "MAX_DEAD_LETTERS", 10)
    # When 60 come in deliveries of 6, and nobody trims
    held = []
    for delivery in range(10):
        clock.at(delivery)
        lab.inbox.accept(SHARD, [], [letter(f"{delivery:02}-{at}") for at in range(6)])
        held.append(lab.inbox.letter_counts().held)
    # Then never more than ten were held, the newest stay, and what went is counted
    assert max(held) == 10
    assert names(lab) == ["08-2", "08-3", "08-4", "08-5", *(f"09-{at}" for at in range(6))]
    assert lab.inbox.letter_counts() == LetterCounts(held=10, shed=50)
    assert lab.inbox.totals() == Ledger(received=60, dead_lettered=60)
    assert bytes_held(lab)[0] == bytes_held(lab)[1]


def test_large_letters_are_bounded_by_their_bytes(lab: Lab, clock: Clock) -> None:
    # Given nothing
    # When letters of 16 KiB come until they would be 4 MiB
    for delivery in range(64):
        clock.at(delivery)
        lab.inbox.accept(SHARD, [], [letter(f"{delivery:02}-{at}", "x" * 16_384) for at in range(4)])
    # Then they take no more than the bound, the newest ones
    noted, taken = bytes_held(lab)
    assert noted == taken <= inbox_module.MAX_DEAD_BYTES
    assert noted > inbox_module.MAX_DEAD_BYTES - 17_000
    counts = lab.inbox.letter_counts()
    assert counts.held + counts.shed == 256
    assert names(lab)[-1] == "63-3"


def test_buried_entries_keep_the_bound_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given three entries and room for two letters
    monkeypatch.setattr(inbox_module, "MAX_DEAD_LETTERS", 2)
    for at in range(3):
        lab.inbox.accept(SHARD, [NewEntry(f"e-{at}-1", STORM, 1, b"payload")])
    # When all are buried
    assert all(lab.inbox.bury(SHARD, f"e-{at}-1", 1, letter(f"l{at}")) for at in range(3))
    # Then
    assert lab.inbox.letter_counts() == LetterCounts(held=2, shed=1)
    assert lab.inbox.totals() == Ledger(received=3, dead_lettered=3)


def test_letters_that_are_not_kept_are_counted_as_shed(lab: Lab) -> None:
    lab.inbox.accept(SHARD, [], [letter("l")], unkept=5)
    assert lab.inbox.letter_counts() == LetterCounts(held=1, shed=5)
    assert lab.inbox.totals() == Ledger(received=6, dead_lettered=6)


def test_one_letter_is_found_wherever_it_lies(lab: Lab) -> None:
    accepted = lab.inbox.accept(OTHER, [], [letter("l", '{"labels"', cut=True)])
    assert lab.inbox.dead_letter("l") == DeadLetter(
        "l", "reason", "path", '{"labels"', "delivery", accepted.received_ms, cut=True
    )
    assert lab.inbox.dead_letter("m") is None


def test_dropped_letters_stay_counted(lab: Lab) -> None:
    # Given two letters
    lab.inbox.accept(SHARD, [], [letter("l"), letter("m")])
    # When one is dropped, twice
    assert (lab.inbox.drop("l"), lab.inbox.drop("l")) == (True, False)
    # Then
    assert names(lab) == ["m"]
    assert lab.inbox.totals() == Ledger(received=2, dead_lettered=2)
    assert lab.inbox.letter_counts() == LetterCounts(held=1)
    assert bytes_held(lab)[0] == bytes_held(lab)[1]


def test_a_replayed_letter_moves_to_what_is_pending(lab: Lab) -> None:
    # Given a letter in one shard, whose alert belongs to another
    lab.inbox.accept(OTHER, [], [letter("l"), letter("m")])
    # When its alert is accepted, and it is taken away
    lab.inbox.accept(SHARD, [NewEntry("l-replayed-1", STORM, 1, b"payload")])
    between = lab.inbox.totals()
    done = lab.inbox.replayed("l"), lab.inbox.replayed("l")
    # Then the ledger balanced in between and does now, and the alert counts once
    assert between == Ledger(received=3, pending=1, dead_lettered=2)
    assert done == (True, False)
    assert lab.inbox.totals() == Ledger(received=2, pending=1, dead_lettered=1)
    assert lab.inbox.letter_counts() == LetterCounts(held=1, replayed=1)
    assert names(lab) == ["m"]


def test_100_concurrent_replays_are_one(lab: Lab) -> None:
    lab.inbox.accept(SHARD, [], [letter("l")])

    def replay() -> bool:
        lab.inbox.accept(SHARD, [NewEntry("l-replayed-1", STORM, 1, b"payload")])
        return lab.inbox.replayed("l")

    assert sum(at_once(*[replay] * 100)) == 1
    assert lab.inbox.totals() == Ledger(received=1, pending=1)


def test_removing_goes_on_when_redis_is_full_and_accepting_does_not(lab: Lab) -> None:
    # Given two letters in a full Redis
    lab.inbox.accept(SHARD, [], [letter("l"), letter("m")])
    fill(lab.client)
    # When
    with pytest.raises(StoreFull):
        lab.inbox.accept(SHARD, [], [letter("n")], unkept=1)
    # Then
    assert (lab.inbox.drop("l"), lab.inbox.replayed("m")) == (True, True)
    assert lab.inbox.letter_counts() == LetterCounts(replayed=1)


def test_what_waits_as_admission_sees_it(lab: Lab) -> None:
    # Given entries in two shards
    assert lab.inbox.waiting() == Waiting()
    first = lab.inbox.accept(SHARD, [NewEntry("e-0-3", STORM, 3, b"payload")])
    other = f"{OTHER:x}" + "0" * 15
    lab.inbox.accept(OTHER, [NewEntry("e-1-2", other, 2, b"payload")])
    # When
    waiting = lab.inbox.waiting()
    # Then
    seconds, micros = lab.client.time()
    age = seconds * 1000 + micros // 1000 - first.received_ms
    assert (waiting.entries, waiting.alerts) == (2, 5)
    assert age - 1000 < waiting.age_ms <= age
