"""What an alert means for a member: classes, and their order by what the alert says, then by when it was received."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lua_scripts.records import Ledger, StormAlert, Taken
from tests.scripts.lab import START, STORM, Clock, Lab, firing, many, resolved
from tests.scripts.state import Member, read_unknown
from tests.support.waiting import wait_until

Say = Callable[[StormAlert], str]
MINUTE = 60_000


@pytest.fixture
def say(lab: Lab, clock: Clock) -> Say:
    """Delivers one alert, a second after the one before, and returns its class."""

    def deliver(alert: StormAlert) -> str:
        clock.advance(1000)
        return class_of(lab.deliver(alert))

    return deliver


def class_of(taken: Taken) -> str:
    names = ("new", "duplicate", "reopened", "resolved", "outdated")
    [name] = [name for name in names if getattr(taken, name)]
    return name


def member(lab: Lab, name: str = "a") -> tuple[str, int, int]:
    """(state, startsAt, endsAt), both after START."""
    found = lab.opened().members[name]
    return found.state, found.starts - START, found.ends - START if found.ends else 0


def test_new(lab: Lab, say: Say) -> None:
    assert say(firing("a", 5)) == "new"
    assert member(lab) == ("F", 5, 0)
    assert lab.opened()["f"] == 1


def test_duplicate_changes_nothing_but_last_seen(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    before = lab.opened()
    assert say(firing("a", 5)) == "duplicate"
    after = lab.opened()
    changed = {name for name in before.header if before.header[name] != after.header[name]}
    assert changed == {"du", "rc", "ls"}
    assert (after.members, after.singles_due, after.due) == (before.members, before.singles_due, before.due)
    assert after["ls"] == START + 2000


def test_resolved(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    assert say(resolved("a", 10)) == "resolved"
    assert member(lab) == ("R", 5, 10)
    state = lab.opened()
    assert (state["f"], state["rs"], state["lr"], state.resources) == (0, 1, START + 2000, {"a": 0})


def test_resolved_with_the_end_last_applied_is_a_duplicate(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    say(resolved("a", 10))
    assert say(resolved("a", 10)) == "duplicate"
    assert lab.opened()["lr"] == START + 2000


def test_resolved_with_a_later_end_applies_to_a_resolved_member(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    say(resolved("a", 10))
    assert say(resolved("a", 20)) == "resolved"
    assert member(lab) == ("R", 5, 20)
    assert lab.opened()["f"] == 0


def test_resolved_with_an_earlier_end_is_outdated(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    say(resolved("a", 10))
    say(firing("a", 15))
    assert say(resolved("a", 9)) == "outdated"
    assert member(lab) == ("F", 15, 10)


def test_resolved_that_ends_before_the_recorded_start_is_outdated(lab: Lab, say: Say) -> None:
    # Given a firing that started after what the resolve says
    say(firing("a", 30))
    # When an older resolve arrives late
    assert say(resolved("a", 29)) == "outdated"
    # Then the alert still fires
    assert member(lab) == ("F", 30, 0)


def test_resolved_that_ends_at_the_recorded_start_applies(lab: Lab, say: Say) -> None:
    say(firing("a", 30))
    assert say(resolved("a", 30)) == "resolved"


def test_replicas_that_disagree_on_the_start(lab: Lab, say: Say) -> None:
    # Given a firing since :35, as one Prometheus says
    say(firing("a", 35_000))
    # When the other says that it was resolved, firing since :28, at :50
    assert say(resolved("a", 50_000, starts=28_000)) == "resolved"
    # Then it is
    assert member(lab) == ("R", 35_000, 50_000)


def test_later_start_of_a_firing_member_stands(lab: Lab, say: Say) -> None:
    # Given a member that fires since 5, and a repeat that says since 20
    say(firing("a", 5))
    assert say(firing("a", 20)) == "duplicate"
    # When the resolve of the first of them arrives
    assert say(resolved("a", 10)) == "outdated"
    # Then the second still fires, and an earlier start takes nothing back
    assert say(firing("a", 5)) == "duplicate"
    assert member(lab) == ("F", 20, 0)


def test_reopened_by_a_later_start(lab: Lab, clock: Clock) -> None:
    # Given a firing that was received before the resolve, but started after its end
    lab.deliver(firing("a", 5))
    clock.at(1000)
    late = lab.accept(firing("a", 11))
    clock.at(2000)
    lab.deliver(resolved("a", 10))
    # When a worker gets to it last
    taken = lab.ingest(late)
    # Then what the alerts say counts
    assert class_of(taken) == "reopened"
    assert member(lab) == ("F", 11, 10)
    assert lab.opened()["f"] == 1


def test_firing_with_the_start_at_the_end_and_received_before_is_outdated(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a", 5))
    clock.at(1000)
    late = lab.accept(firing("a", 10))
    clock.at(2000)
    lab.deliver(resolved("a", 10))
    assert class_of(lab.ingest(late)) == "outdated"


def test_reopened_by_receipt(lab: Lab, say: Say) -> None:
    # Given a resolved member
    say(firing("a", 5))
    say(resolved("a", 10))
    # When the same firing is received after the resolve, as after a partition
    assert say(firing("a", 5)) == "reopened"
    # Then it fires again
    assert member(lab) == ("F", 5, 10)
    assert (lab.opened()["f"], lab.opened()["ro"]) == (1, 1)


def test_firing_received_before_the_resolve_is_outdated_whenever_a_worker_gets_to_it(lab: Lab, clock: Clock) -> None:
    # Given a repeat of the firing, received before the resolve
    lab.deliver(firing("a", 5))
    clock.at(1000)
    late = lab.accept(firing("a", 5))
    clock.at(2000)
    lab.deliver(resolved("a", 10))
    # When a worker gets to it last
    assert class_of(lab.ingest(late)) == "outdated"
    # Then the member stays resolved
    assert member(lab) == ("R", 5, 10)


def test_firing_received_in_the_same_ms_as_the_resolve_is_outdated(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a", 5))
    late = lab.accept(firing("a", 5))
    lab.deliver(resolved("a", 10))
    assert class_of(lab.ingest(late)) == "outdated"


def test_same_end_applies_again_after_a_partition(lab: Lab, say: Say) -> None:
    # Given firing, resolved and firing with the same start
    say(firing("a", 5))
    say(resolved("a", 10))
    assert say(firing("a", 5)) == "reopened"
    # When the same resolve comes once more, and then again
    assert say(resolved("a", 10)) == "resolved"
    assert say(resolved("a", 10)) == "duplicate"
    # Then the member is resolved, twice in all
    assert member(lab) == ("R", 5, 10)
    assert lab.opened()["rs"] == 2


def test_same_end_received_before_the_reopening_does_not_apply_again(lab: Lab, clock: Clock) -> None:
    # Given a repeat of the resolve that was received before the firing that reopened
    lab.deliver(firing("a", 5))
    clock.at(1000)
    lab.deliver(resolved("a", 10))
    clock.at(2000)
    late = lab.accept(resolved("a", 10))
    clock.at(3000)
    assert class_of(lab.deliver(firing("a", 5))) == "reopened"
    # When a worker gets to it last
    assert class_of(lab.ingest(late)) == "duplicate"
    # Then the alert fires
    assert member(lab)[0] == "F"


def test_same_end_after_a_reopening_by_a_later_start_is_a_duplicate(lab: Lab, say: Say) -> None:
    say(firing("a", 5))
    say(resolved("a", 10))
    assert say(firing("a", 20)) == "reopened"
    assert say(resolved("a", 10)) == "duplicate"
    assert member(lab)[0] == "F"


def test_firing_and_resolved_in_one_entry_count_in_their_order(lab: Lab, clock: Clock) -> None:
    # Given an entry that says all of it about one alert
    taken = lab.deliver(
        firing("a", 5),
        firing("a", 5),
        resolved("a", 10),
        resolved("a", 10),
        firing("a", 7),
        firing("a", 11),
        firing("b"),
    )
    # Then each has its class
    assert taken == Taken("ok", new=2, duplicate=2, reopened=1, resolved=1, outdated=1, phase="GATHERING")
    assert lab.opened().firing == {"a", "b"}
    assert lab.opened()["f"] == 2


def test_resolved_without_an_end_is_outdated(lab: Lab, say: Say) -> None:
    say(firing("a", -START))
    assert say(resolved("a", -START)) == "outdated"
    assert lab.opened().firing == {"a"}


# tombstones -----------------------------------------------------------------------------------------------------------


def test_unknown_resolved_opens_nothing_and_leaves_a_tombstone(lab: Lab, say: Say) -> None:
    # Given nothing
    # When a resolved arrives
    assert say(resolved("a", 10)) == "outdated"
    # Then no storm is open, and the tombstone is all there is
    assert lab.state() is None
    assert read_unknown(lab.client, STORM) == {"a": (START + 10, START + 1000 + lab.rules.tombstone)}
    assert lab.key_kinds() == {"meta", "b"}
    assert lab.inbox.totals() == Ledger(received=1, outdated=1, unmatched=1)
    assert lab.inbox.totals().balanced


def test_unknown_resolved_in_an_open_storm_leaves_a_tombstone(lab: Lab, say: Say) -> None:
    say(firing("x"))
    assert say(resolved("a", 10)) == "outdated"
    assert set(lab.opened().members) == {"x"}
    assert (lab.opened()["od"], lab.inbox.totals().unmatched) == (1, 0)
    assert set(read_unknown(lab.client, STORM)) == {"a"}


def test_resolved_that_overtook_its_firing(lab: Lab, say: Say) -> None:
    # Given a resolve that arrived first, from the other peer
    say(resolved("a", 10))
    # When its firing arrives
    assert say(firing("a", 5)) == "outdated"
    # Then nothing is open
    assert lab.state() is None


def test_firing_since_the_end_of_a_tombstone_is_new(lab: Lab, say: Say) -> None:
    say(resolved("a", 10))
    assert say(firing("a", 10)) == "new"
    assert lab.opened().firing == {"a"}
    assert read_unknown(lab.client, STORM) == {}


def test_unknown_resolved_twice(lab: Lab, say: Say) -> None:
    say(resolved("a", 10))
    assert say(resolved("a", 10)) == "duplicate"
    assert say(resolved("a", 9)) == "outdated"
    assert say(resolved("a", 20)) == "outdated"
    assert read_unknown(lab.client, STORM)["a"][0] == START + 20


def test_tombstone_expires(lab: Lab, clock: Clock) -> None:
    # Given a tombstone
    lab.deliver(resolved("a", 10))
    # When its firing arrives in its last ms, and after that
    clock.at(lab.rules.tombstone - 1)
    last = class_of(lab.deliver(firing("a", 5)))
    clock.at(lab.rules.tombstone)
    after = class_of(lab.deliver(firing("a", 5)))
    # Then it holds for its time and no longer
    assert (last, after) == ("outdated", "new")


def test_tombstones_of_unknown_members_expire_by_themselves(lab: Lab) -> None:
    # Given a tombstone, in the server's own time
    lab.change_rules(tombstone=200)
    lab.deliver(resolved("a", 10))
    before = lab.key_kinds()
    # When its time has passed
    wait_until(lambda: lab.key_kinds() == {"meta"}, "the tombstone to expire")
    # Then it is gone
    assert before == {"meta", "b"}


def test_tombstones_that_are_refreshed_all_the_time_stay_few(lab: Lab, clock: Clock) -> None:
    # Given a resolve of a stranger every tenth of a tombstone's life
    lab.change_rules(tombstone=1000)
    for at in range(200):
        clock.at(at * 100)
        lab.deliver(resolved(f"stranger-{at}", 10))
    # Then what has expired does not pile up
    assert len(read_unknown(lab.client, STORM)) <= 30


def test_tombstones_are_bounded(lab: Lab, clock: Clock) -> None:
    lab.change_rules(max_members=5)
    lab.deliver(*(resolved(f"stranger-{at}", 10) for at in range(10)))
    assert len(read_unknown(lab.client, STORM)) == 5


def test_resolved_member_turns_into_a_count_when_its_tombstone_expires(lab: Lab, clock: Clock) -> None:
    # Given a written storm in which one member resolved
    lab.change_rules(stale_after=10**9)
    lab.deliver(*many(10))
    clock.at(5_000)
    lab.write()
    lab.deliver(resolved("a3", 10))
    clock.advance(5_000)
    lab.write()
    # When its tombstone's last ms begins, and passes
    clock.at(5_000 + lab.rules.tombstone - 1)
    lab.write()
    kept = lab.opened()
    clock.at(5_000 + lab.rules.tombstone)
    assert kept.due == clock.now
    lab.write()
    # Then only the count is left of it, and its resource goes with the next flush
    state = lab.opened()
    assert "a3" in kept.members
    assert set(state.members) == {f"a{at}" for at in range(10)} - {"a3"}
    assert (state["rs"], state["f"], state["nw"]) == (1, 9, 10)
    # And when it fires again it is news
    assert class_of(lab.deliver(firing("a3", 5))) == "new"


def test_reopened_member_is_kept_when_an_older_tombstone_expires(lab: Lab, clock: Clock) -> None:
    # Given a member that resolved at 5 s, fired again and resolved again at 100 s
    lab.deliver(*many(10))
    clock.at(5_000)
    lab.write()
    lab.deliver(resolved("a3", 10))
    clock.at(6_000)
    lab.deliver(firing("a3", 20))
    clock.at(100_000)
    lab.deliver(resolved("a3", 30))
    lab.write()
    # When the first tombstone expires, and the second
    clock.at(5_000 + lab.rules.tombstone)
    lab.write()
    between = lab.opened()
    clock.at(100_000 + lab.rules.tombstone)
    lab.write()
    # Then the second counts
    assert between.members["a3"].state == "R"
    assert "a3" not in lab.opened().members


def test_every_alert_has_one_class(lab: Lab, clock: Clock) -> None:
    # Given an entry with all classes
    lab.deliver(firing("a", 5), firing("b", 5), firing("c", 5))
    clock.at(1000)
    lab.deliver(resolved("b", 10), resolved("c", 10))
    clock.at(2000)
    taken = lab.deliver(
        firing("new"), firing("a", 5), firing("b", 5), resolved("a", 20), resolved("c", 9), resolved("unknown", 5)
    )
    # Then the counts of the call, the storm and the shard agree
    assert taken == Taken("ok", new=1, duplicate=1, reopened=1, resolved=1, outdated=2, phase="GATHERING")
    state = lab.opened()
    assert [state[name] for name in ("rc", "nw", "du", "ro", "rs", "od")] == [11, 4, 1, 1, 3, 2]
    assert lab.inbox.totals() == Ledger(received=11, new=4, duplicate=1, reopened=1, resolved=3, outdated=2)
    assert state.members["c"] == Member("R", START + 5, 2, state.members["c"].resource, START + 10, START + 1000)


def test_worst_severity_follows_who_fires(lab: Lab, clock: Clock) -> None:
    # Given a storm of warnings with one critical alert
    lab.deliver(*many(10), firing("bad", severity=4))
    clock.at(5_000)
    worst = [lab.claimed("t0").worst_severity]
    lab.settle(lab.claimed("t0"))
    # When the critical one resolves, and the rest
    for step, gone in enumerate((["bad"], [f"a{at}" for at in range(10)])):
        lab.deliver(*(resolved(name, 10) for name in gone))
        clock.advance(5_000)
        claim = lab.claimed(f"t{step + 1}")
        worst.append(claim.worst_severity)
        lab.settle(claim)
    # Then it is that of those who fire, and at the end that of those who did last
    assert worst == [4, 2, 2]
