"""Every key of a call lies in one slot, and the Lua touches no key that the call did not declare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

import pytest
from redis.crc import key_slot

from lua_scripts.audit import Audit
from lua_scripts.budget import Budget
from lua_scripts.inbox import Inbox
from lua_scripts.jobs import Jobs
from lua_scripts.keys import SHARDS, ShardKeys, StormKeys, shard_of, storm_key_names
from lua_scripts.leases import Leases, StormOutcome
from lua_scripts.loader import PARTS, Arg, Scripts, sources
from lua_scripts.orphans import OpenObject, Orphans
from lua_scripts.records import DeadLetter, NewEntry
from lua_scripts.refusals import Refusals
from lua_scripts.storms import Storms
from lua_scripts.workers import Workers
from tests.scripts.lab import OTHER_STORM, RULES, STORM, Lab, many


class Recorded:
    """The keys of every call that was made."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Sequence[str], Sequence[Arg]]] = []
        run = Scripts.run

        def recording(scripts: Scripts, name: str, keys: Sequence[str], args: Sequence[Arg]) -> object:
            self.calls.append((name, keys, args))
            return run(scripts, name, keys, args)

        def one_by_one(
            scripts: Scripts, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Arg]]]
        ) -> list[object]:
            return [recording(scripts, name, keys, args) for keys, args in calls]

        patch.setattr(Scripts, "run", recording)
        patch.setattr(Scripts, "run_many", one_by_one)


def test_every_key_of_a_call_shares_one_slot(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given what every callable script was called with by its typed method
    recorded = Recorded(monkeypatch)
    letter = DeadLetter("l", "", "", "", "")
    inbox, storms, leases = Inbox(lab.client), Storms(lab.client), Leases(lab.client)
    inbox.accept(3, [NewEntry("e", STORM, 1, b"")], [letter])
    inbox.take(3)
    inbox.split(3, "none", [])
    inbox.bury(3, "none", 1, letter)
    inbox.trim(3)
    inbox.drop("l")
    refusals = Refusals(lab.client)
    refusals.bury("storm-x", STORM, "", "", "", None)
    refusals.again(DeadLetter("storm-x", "", "", "", "", storm_id=STORM))
    refusals.clear("storm-x", STORM)
    Audit(lab.client).look()
    Workers(lab.client).beat("worker")
    storms.ingest([lab.accept(*many(10))], RULES)
    leases.claim(STORM, "t", 1000, RULES)
    leases.settle_storm(STORM, "t", RULES, StormOutcome("Active"))
    lab.due.sweep(range(SHARDS), 1000)
    orphans = Orphans(lab.client)
    orphans.match([OpenObject("storm", STORM, "storm-x-0123456780", "ns", "u", "1", 1)], 1000, 0)
    orphans.missing(STORM, "storm-x-0123456780", 0)
    orphans.match([OpenObject("storm", OTHER_STORM, "storm-y-0123456780", "ns", "u", "1", 1)], 1000, 0)
    orphans.unseen(0)
    lab.due.postpone(STORM, 1000)
    budget = Budget(lab.client, 1)
    for _ in range(3):
        budget.take(1, urgent=True, storm_id=STORM)
    budget.failed()
    Jobs(lab.client).my_turn("trim", 1000)
    # When the slots of their keys are computed
    slots = [(name, {key_slot(key.encode()) for key in keys}) for name, keys, _ in recorded.calls]
    # Then each call has one, and no script was left out
    assert {name for name, _ in slots} >= {
        "accept", "take", "split", "bury", "trim", "unbury", "audit", "beat", "ingest", "claim", "settle", "sweep",
        "match", "missing", "turn", "unseen", "postpone", "budget", "outcome",
    }  # fmt: skip
    assert [name for name, of_call in slots if len(of_call) != 1] == []


def test_shards_spread_over_slots_and_storms_stay_in_theirs() -> None:
    # Given the keys of all shards, and of a storm in each
    slots = [{key_slot(key.encode()) for key in ShardKeys(shard).all()} for shard in range(SHARDS)]
    for shard in range(SHARDS):
        storm = f"{shard:x}0123456789abcde"
        assert shard_of(storm) == shard
        slots[shard] |= {key_slot(key.encode()) for key in (*StormKeys(storm).all(), *storm_key_names(storm))}
    # Then every shard has one slot of its own
    assert all(len(of_shard) == 1 for of_shard in slots)
    assert len(set.union(*slots)) == SHARDS


def test_key_names_are_distinct() -> None:
    names = storm_key_names(STORM) + ShardKeys(shard_of(STORM)).all()
    assert len(set(storm_key_names(STORM))) == 17
    # meta, inbox, order, due and published are in both, and nothing else is
    assert len(names) - len(set(names)) == 5


def lua_texts() -> dict[str, str]:
    """The Lua files without comments."""
    folder = files("lua_scripts")
    names = sorted({part for parts in PARTS.values() for part in parts})
    return {name: re.sub(r"--.*", "", (folder / f"{name}.lua").read_text(encoding="utf-8")) for name in names}


KEYLESS = {"TIME"}
# Functions that are given their key: each call of theirs is checked like a call of Redis.
PASSING = {"window_met": "key", "write_all": "key", "drop": "key", "drop_lost": "key", "last_of": "key"}


def test_lua_uses_declared_keys_only() -> None:
    # Given the sources
    undeclared = []
    for name, text in lua_texts().items():
        # When each call of Redis is looked at, and each call of a function that passes its key on
        calls = re.findall(r"redis\.p?call\(\s*'([A-Z]+)'\s*(?:,\s*([^,)]+))?", text)
        assert len(calls) == len(re.findall(r"redis\.p?call\(", text)), f"{name}: a command that is no literal"
        undeclared += [
            f"{name}: {command} {key}"
            for command, key in calls
            if command not in KEYLESS and not re.fullmatch(r"KEYS\[\d+\]", key) and key not in PASSING.values()
        ]
        for function in PASSING:
            uses = re.findall(rf"(?<!function )\b{function}\(([^,)]+)", text)
            undeclared += [f"{name}: {function} {key}" for key in uses if not re.fullmatch(r"KEYS\[\d+\]", key)]
    # Then the key is always one of KEYS
    assert undeclared == []


def test_commands_with_several_keys_name_declared_ones_only() -> None:
    for name, text in lua_texts().items():
        for arguments in re.findall(r"redis\.call\('(?:UNLINK|DEL|EXISTS)',([^)]*)\)", text):
            for argument in arguments.replace("\n", " ").split(","):
                assert re.fullmatch(r"KEYS\[\d+\]|key", argument.strip()), f"{name}: {argument}"


def keys_stated(head: str) -> int:
    """The highest number in the line that names the keys; storm.lua names those of a storm."""
    [line] = re.findall(r"^-- KEYS (.*)$", head, re.MULTILINE)
    numbers = [int(number) for number in re.findall(r"\b(\d+)\b", line)]
    return max(numbers + [len(storm_key_names(STORM))] * ("see storm.lua" in line))


def test_every_key_index_is_one_that_callers_pass() -> None:
    # Given how many keys the header of each script states
    folder = files("lua_scripts")
    heads = {name: (folder / f"{name}.lua").read_text(encoding="utf-8") for name in PARTS}
    expected = {name: keys_stated(head) for name, head in heads.items()}
    # Then no source refers to more
    for name, source in sources().items():
        text = re.sub(r"--.*", "", source.text)
        indexes = {int(number) for number in re.findall(r"KEYS\[(\d+)\]", text)}
        assert 1 <= max(indexes) <= expected[name], name
        assert not re.search(r"KEYS\[[^\d]", text), f"{name}: an index that is computed"


def test_scripts_open_with_purpose_keys_arguments_and_returns() -> None:
    folder = files("lua_scripts")
    for name in PARTS:
        head = (folder / f"{name}.lua").read_text(encoding="utf-8")
        comment = head[: head.index("\nlocal ")]
        assert comment.startswith(f"-- {name}: "), name
        for part in ("KEYS", "ARGV", "Returns"):
            assert f"-- {part}" in comment, f"{name} does not state its {part}"


def test_scripts_ask_the_server_for_the_time_and_no_global_is_written() -> None:
    for name, text in lua_texts().items():
        assert "os.time" not in text, name
        assert "math.random" not in text, name
