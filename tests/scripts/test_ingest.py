"""ingest: one entry into its storm, once, whole or not at all, and also where Redis is full."""

from __future__ import annotations

import pytest

from lua_scripts.errors import StoreBroken, StoreError
from lua_scripts.keys import StormKeys, shard_of
from lua_scripts.leases import Claim
from lua_scripts.packing import unpack_text
from lua_scripts.records import DeadLetter, Ledger, NewEntry, Taken
from tests.scripts.lab import OTHER_STORM, START, STORM, Clock, Lab, empty_again, fill, firing, many, resolved
from tests.scripts.state import Member, Single
from tests.support.waiting import at_once, wait_until

SHARD = shard_of(STORM)


def test_takes_an_entry_into_a_new_storm(lab: Lab, clock: Clock) -> None:
    # Given an entry of two alerts on one pod, received at START
    entry = lab.accept(firing("a", -5, pod="p", severity=3), firing("b", -3, pod="p"))
    clock.at(70)
    # When it is taken in 70 ms later
    taken = lab.ingest(entry)
    # Then the whole state says so
    assert taken == Taken("ok", new=2, phase="GATHERING")
    state = lab.opened()
    [rid] = {member.resource for member in state.members.values()}
    assert state.members == {"a": Member("F", START - 5, 3, rid), "b": Member("F", START - 3, 2, rid)}
    assert state.resources == {"p": 2}
    assert state.singles == {name: Single("P", START, START, 0, "", 0) for name in ("a", "b")}
    assert state.singles_due == {"a": START + 5070, "b": START + 5070}
    assert state.details == {"a", "b"}
    assert state.rate == {"a": START, "b": START}
    assert (state.pattern_size, state.due) == (1, START + 5070)
    filled = {field: value for field, value in state.header.items() if value not in (0, "")}
    name = filled.pop("n")
    assert name.startswith("storm-down-")
    assert name.endswith(STORM[0])
    assert filled == {
        "ph": "G", "e": START + 70, "ns": "shop", "f": 2, "rc": 2, "nw": 2, "s2": 1, "s3": 1, "fs": START, "ls": START,
        "fn": 1,
    }  # fmt: skip
    # And the inbox is empty and the ledger balances
    assert lab.inbox.depth().entries == 0
    assert lab.inbox.totals() == Ledger(received=2, new=2)
    text = unpack_text(lab.client.get(StormKeys(STORM).text))
    assert (text.key, text.common) == (
        {"alertname": "Down", "namespace": "shop"}, {"alertname": "Down", "namespace": "shop"},
    )  # fmt: skip
    assert text.sample is not None
    assert text.sample.labels == {"alertname": "Down", "namespace": "shop", "pod": "p"}


def test_replay_of_an_entry_does_nothing(lab: Lab) -> None:
    # Given an entry that was taken in
    entry = lab.accept(firing("a"))
    lab.ingest(entry)
    before = lab.dump()
    # When it is taken in again
    taken = lab.ingest(entry)
    # Then nothing at all happens
    assert taken == Taken("gone")
    assert lab.dump() == before


def test_100_threads_with_one_entry_have_one_effect(lab: Lab) -> None:
    # Given an entry
    entry = lab.accept(*many(3))
    # When 100 threads take it in at once
    taken = at_once(*[lambda: lab.ingest(entry)] * 100)
    # Then it took effect once
    assert sorted(one.status for one in taken) == ["gone"] * 99 + ["ok"]
    assert lab.inbox.totals() == Ledger(received=3, new=3)
    assert (lab.opened()["f"], lab.opened()["rc"]) == (3, 3)


def test_100_threads_with_an_entry_each_make_one_storm(lab: Lab) -> None:
    # Given 100 entries of the same two alerts and one of its own each
    entries = [lab.accept(firing("x"), firing("y"), firing(f"a{at}")) for at in range(100)]
    # When 100 threads take them in at once
    taken = at_once(*(lambda entry=entry: lab.ingest(entry) for entry in entries))
    # Then there is one storm with exact counts
    state = lab.opened()
    assert {one.status for one in taken} == {"ok"}
    assert (state["ph"], state["ty"], state["f"], len(state.members)) == ("A", "r", 102, 102)
    assert (state["rc"], state["nw"], state["du"]) == (300, 102, 198)
    assert lab.inbox.totals() == Ledger(received=300, new=102, duplicate=198)
    assert lab.storms.page()[0] == [lab.storms.find(state["n"])]


def test_100_threads_over_two_storms_of_a_shard_keep_them_apart(lab: Lab) -> None:
    entries = [lab.accept(firing(f"a{at}"), storm=STORM if at % 2 else OTHER_STORM) for at in range(100)]
    at_once(*(lambda entry=entry: lab.ingest(entry) for entry in entries))
    assert [lab.opened(storm)["f"] for storm in (STORM, OTHER_STORM)] == [50, 50]
    assert lab.opened(STORM)["n"] != lab.opened(OTHER_STORM)["n"]


def test_asks_for_details_while_the_storm_gathers(lab: Lab) -> None:
    # Given an entry without details
    entry = lab.accept(firing("a"), details=False)
    before = lab.dump()
    # When it would open a storm, and again while that gathers
    opening = lab.ingest(entry)
    assert lab.dump() == before
    lab.deliver(firing("b"))
    gathering = lab.ingest(entry)
    lab.deliver(*many(10))
    active = lab.ingest(entry)
    # Then it is not taken in before the storm is active, where nobody needs them
    assert (opening, gathering) == (Taken("detail"), Taken("detail"))
    assert active == Taken("ok", new=1, phase="ACTIVE")


def test_goes_on_when_redis_is_full(lab: Lab) -> None:
    # Given entries in a Redis that is full
    entries = [lab.accept(*many(5, first=at * 5)) for at in range(20)]
    entries.append(lab.accept(resolved("a3", 5), resolved("stranger", 5)))
    fill(lab.client)
    # When they are taken in
    taken = [lab.ingest(entry) for entry in entries]
    empty_again(lab.client)
    # Then all of it was
    assert {one.status for one in taken} == {"ok"}
    state = lab.opened()
    assert (state["ph"], state["f"], len(state.members)) == ("A", 99, 100)
    assert lab.inbox.totals() == Ledger(received=102, new=100, resolved=1, outdated=1)


def test_detail_is_asked_for_in_a_full_redis_too(lab: Lab) -> None:
    entry = lab.accept(firing("a"), details=False)
    fill(lab.client)
    assert lab.ingest(entry) == Taken("detail")


def test_scripts_that_redis_forgot_are_loaded_again(lab: Lab) -> None:
    # Given a Redis whose scripts are flushed before every call
    def flushed() -> None:
        lab.client.script_flush()

    # When an alert goes all the way, in a storm and out of it
    lab.change_rules(debounce=0, reopen_window=0)
    flushed()
    entries = [lab.accept(*many(5, first=at * 5)) for at in range(2)]
    flushed()
    assert len(lab.inbox.take(SHARD)) == 2
    flushed()
    taken = lab.storms.ingest(entries, lab.rules)
    flushed()
    assert len(lab.due.sweep([SHARD], 1000)) == 1
    flushed()
    lab.deliver(*(resolved(f"a{at}", 5) for at in range(10)))
    flushed()
    claim = wait_until(lambda: isinstance(claim := lab.claim(), Claim) and claim, "the storm to be due")
    flushed()
    assert lab.settle(claim) == "settled"
    flushed()
    assert not isinstance(lab.claim(), Claim)
    flushed()
    assert not lab.inbox.split(SHARD, "none", [])
    flushed()
    assert not lab.inbox.bury(SHARD, "none", 1, DeadLetter("l", "", "", "", ""))
    flushed()
    assert lab.inbox.trim(SHARD) == 0
    # Then each call had its effect, once
    assert taken == [Taken("ok", new=5, phase="ACTIVE"), Taken("ok", new=5, phase="ACTIVE")]
    assert lab.inbox.totals() == Ledger(received=20, new=10, resolved=10)
    assert lab.state() is None


def test_scripts_flushed_while_100_threads_work(lab: Lab) -> None:
    # Given entries of one storm
    entries = [lab.accept(firing(f"a{at}")) for at in range(100)]

    # When 100 threads take them in, each after it flushed the scripts
    def flush_and_ingest(at: int) -> Taken:
        lab.client.script_flush()
        return lab.ingest(entries[at])

    at_once(*(lambda at=at: flush_and_ingest(at) for at in range(100)))
    # Then each took effect once
    assert lab.inbox.totals() == Ledger(received=100, new=100)
    assert lab.opened()["f"] == 100


def test_entry_that_cannot_be_read_fails_alone_and_changes_nothing(lab: Lab) -> None:
    # Given a storm whose text is spoilt, and an entry for it and one for another
    lab.deliver(firing("a"))
    lab.client.set(StormKeys(STORM).text, b"\xc1")
    bad, good = lab.accept(firing("b")), lab.accept(firing("c"), storm=OTHER_STORM)
    before = lab.dump()
    # When both are taken in with one call
    failed, taken = lab.storms.ingest([bad, good], lab.rules)
    # Then the one failed without a trace, the other is in
    assert isinstance(failed, StoreBroken)
    assert taken == Taken("ok", new=1, phase="GATHERING")
    after = lab.dump()
    assert {name: after[name] for name in before if STORM in name} == {
        name: value for name, value in before.items() if STORM in name
    }
    assert [one.entry_id for one in lab.inbox.take(SHARD)] == [bad.entry_id]


def test_wrong_types_are_an_error_of_that_call(lab: Lab) -> None:
    lab.inbox.accept(SHARD, [NewEntry("e", STORM, 1, b"")])
    lab.client.set(StormKeys(STORM).header, "no hash")
    [failed] = lab.storms.ingest([lab.accept(firing("a"))], lab.rules)
    assert isinstance(failed, StoreError)


@pytest.mark.parametrize("name", ["d1c89d48d69aefe7", "x", "1234567", "12345678", "ü" * 64, "a" * 128])
def test_every_form_of_fingerprint_comes_back(lab: Lab, name: str) -> None:
    # Given a fingerprint of Alertmanager's form, or of another
    lab.deliver(firing(name, pod="p"))
    # Then the listing says what the sender said
    [member], _ = lab.storms.members(STORM)
    assert (member.fingerprint, member.status, member.starts_at_ms) == (name, "firing", START)
    assert member.resource is not None
    assert (member.resource.kind, member.resource.name, member.resource.namespace) == ("Pod", "p", "shop")


def test_storm_record_is_what_the_state_says(lab: Lab, clock: Clock) -> None:
    # Given an active storm with some of everything
    lab.deliver(*many(12))
    clock.at(10)
    lab.deliver(*many(3), resolved("a5", 5), resolved("stranger", 5))
    # When its record is read, by page and by name
    [record], cursor = lab.storms.page()
    # Then it is typed and complete
    assert cursor is None
    assert lab.storms.find(record.name) == record
    assert lab.storms.phases([STORM, OTHER_STORM]) == ["ACTIVE", None]
    assert (record.storm_id, record.namespace, record.phase, record.storm_type) == (STORM, "shop", "ACTIVE", "rate")
    assert record.key == {"alertname": "Down", "namespace": "shop"}
    assert (record.epoch_ms, record.alert_count, record.total_alerts) == (START, 11, 12)
    assert (record.first_seen_ms, record.last_seen_ms, record.flaps) == (START, START + 10, 0)
    assert record.ledger == Ledger(received=17, new=12, duplicate=3, resolved=1, outdated=1)
    assert record.ledger.balanced


def test_pages_of_storms_name_each_once(lab: Lab) -> None:
    # Given storms in several shards
    storms = sorted(f"{shard:x}{at:015x}" for shard in (0, 3, 15) for at in range(5))
    for storm in storms:
        lab.deliver(firing("a"), storm=storm)
    # When they are read four at a time
    found: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor = lab.storms.page(cursor, 4)
        found += [record.storm_id for record in page]
        if cursor is None:
            break
    # Then each came once
    assert found == storms
