"""The life of a storm: active, resolved, reopened, closed, stale, and the next epoch; at the end Redis is empty."""

from __future__ import annotations

import pytest

from lua_scripts.leases import Claim, NotClaimed
from lua_scripts.records import Ledger, Taken
from tests.scripts.lab import LEASE_MS, OTHER_STORM, START, STORM, Clock, Lab, firing, many, resolved

DEBOUNCE = 5_000
ALL = [f"a{at}" for at in range(10)]


def resolve(lab: Lab, *names: str, ends: int = 10) -> Taken:
    return lab.deliver(*(resolved(name, ends, pod=name.replace("a", "pod-")) for name in names))


@pytest.fixture
def written(lab: Lab, clock: Clock) -> Lab:
    """An active storm of ten, written at START + DEBOUNCE."""
    lab.deliver(*many(10))
    clock.at(DEBOUNCE)
    assert isinstance(lab.write(), Claim)
    return lab


@pytest.fixture
def over(written: Lab, clock: Clock) -> Lab:
    """The same, all resolved at START + 10 s and written so at START + 15 s."""
    clock.at(10_000)
    resolve(written, *ALL)
    clock.at(10_000 + DEBOUNCE)
    claim = written.write()
    assert isinstance(claim, Claim)
    assert claim.storm.phase == "RESOLVED"
    return written


# resolved -------------------------------------------------------------------------------------------------------------


def test_resolved_when_every_member_is_and_the_debounce_is_over(written: Lab, clock: Clock) -> None:
    # Given a storm of which nine resolved, and then the last
    clock.at(10_000)
    resolve(written, *ALL[:9])
    nine = written.opened()
    clock.at(12_000)
    resolve(written, ALL[9])
    ten = written.opened()
    # When it is claimed at the end of the debounce
    clock.at(12_000 + DEBOUNCE)
    claim = written.claimed()
    # Then it has resolved; until then it was active
    assert (nine["ph"], nine["f"], ten["ph"], ten["f"]) == ("A", 1, "A", 0)
    assert (claim.storm.phase, claim.storm.alert_count, claim.storm.total_alerts) == ("RESOLVED", 0, 10)
    assert written.settle(claim) == "settled"
    assert written.opened()["wp"] == "R"
    assert written.opened().due == START + 12_000 + written.rules.reopen_window


def test_firing_before_the_debounce_is_over_is_no_flap(written: Lab, clock: Clock) -> None:
    clock.at(10_000)
    resolve(written, *ALL)
    clock.at(11_000)
    written.deliver(firing("a0", 10_500, pod="pod-0"))
    clock.at(11_000 + DEBOUNCE)
    claim = written.claimed()
    assert (claim.storm.phase, claim.storm.alert_count, claim.storm.flaps) == ("ACTIVE", 1, 0)


def test_active_never_gathers_again(written: Lab, clock: Clock) -> None:
    clock.at(10_000)
    resolve(written, *ALL[1:])
    clock.at(10_000 + DEBOUNCE)
    claim = written.write()
    assert isinstance(claim, Claim)
    assert (claim.storm.phase, claim.storm.alert_count) == ("ACTIVE", 1)


def test_lists_keep_their_last_content_at_resolved(written: Lab, clock: Clock) -> None:
    # Given a storm whose list shrank to three pods, one of them with two alerts
    clock.at(10_000)
    resolve(written, *ALL[3:])
    written.deliver(firing("twin", pod="pod-0"))
    clock.at(10_000 + DEBOUNCE)
    last = written.claimed("last")
    shown = written.listed(last)
    written.settle(last)
    # When the rest resolves, in two steps
    clock.at(20_000)
    resolve(written, "a0", "a1")
    clock.at(21_000)
    resolve(written, "a2")
    written.deliver(resolved("twin", 10, pod="pod-0"))
    clock.at(21_000 + DEBOUNCE)
    claim = written.claimed("resolved")
    # Then the RR says none, and lists what it listed last
    assert shown == {"pod-0": 2, "pod-1": 1, "pod-2": 1}
    assert (claim.storm.phase, claim.storm.alert_count) == ("RESOLVED", 0)
    assert written.listed(claim) == shown
    # And so it does when it is written again
    written.settle(claim, phase="", uid="", retry_ms=100)
    clock.advance(100)
    assert written.listed(written.claimed("again")) == shown


def test_lists_of_a_storm_that_resolved_before_it_was_written(lab: Lab, clock: Clock) -> None:
    # Given a storm that is over before its first RR is due
    lab.deliver(*many(10))
    clock.at(1000)
    resolve(lab, *ALL)
    clock.at(DEBOUNCE)
    # When it is written
    claim = lab.claimed()
    # Then the RR shows what it was
    assert (claim.storm.phase, claim.storm.alert_count, claim.storm.total_alerts) == ("RESOLVED", 0, 10)
    assert lab.listed(claim) == {f"pod-{at}": 1 for at in range(10)}


def test_resources_that_nothing_refers_to_are_dropped(written: Lab, clock: Clock) -> None:
    # Given members on three pods that resolved
    clock.at(10_000)
    resolve(written, *ALL[:3])
    assert len(written.opened().resources) == 10
    # When that was written, and the next change too
    clock.at(10_000 + DEBOUNCE)
    written.write()
    written.deliver(firing("more"))
    clock.advance(DEBOUNCE)
    written.write()
    # Then only pods with an alert are kept
    assert set(written.opened().resources) == {f"pod-{at}" for at in range(3, 10)} | {"more"}


@pytest.mark.parametrize("pod", ["pod-0", "another"])
def test_member_reopens_after_its_resource_was_dropped(written: Lab, clock: Clock, pod: str) -> None:
    # Given a member that resolved, and whose pod is no longer kept
    clock.at(10_000)
    resolve(written, "a0")
    clock.at(10_000 + DEBOUNCE)
    written.write()
    written.deliver(firing("more"))
    clock.advance(DEBOUNCE)
    written.write()
    assert "pod-0" not in written.opened().resources
    # When it fires again, as before or, by a sender whose fingerprints are not of the labels, about another pod
    clock.advance(1000)
    assert written.deliver(firing("a0", 20, pod=pod)) == Taken("ok", reopened=1, phase="ACTIVE")
    # Then the list names the pod
    clock.advance(DEBOUNCE)
    assert written.listed(written.claimed("next")) == {f"pod-{at}": 1 for at in range(1, 10)} | {"more": 1, pod: 1}


def test_resolved_storm_that_was_never_written_is_written_before_it_closes(lab: Lab, clock: Clock) -> None:
    # Given a storm that resolved, and a sink that fails for longer than the reopen window
    lab.deliver(*many(10))
    resolve(lab, *ALL)
    clock.at(DEBOUNCE)
    for _ in range(10):
        claim = lab.claimed()
        lab.settle(claim, phase="", uid="", retry_ms=60_000)
        clock.advance(60_000)
    # When the sink works again
    assert clock.now > START + lab.rules.reopen_window
    claim = lab.write()
    # Then it is written, and only then closed
    assert isinstance(claim, Claim)
    assert lab.claim() == NotClaimed("closed")
    assert lab.state() is None


# reopened and closed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a3", "stranger"])
def test_any_firing_reopens_within_the_window(over: Lab, clock: Clock, name: str) -> None:
    # Given a resolved storm, in the last ms of its reopen window
    before = over.opened()
    clock.at(10_000 + over.rules.reopen_window - 1)
    assert over.claim() == NotClaimed("idle")
    # When a member fires again, or another
    taken = over.deliver(firing(name, 20_000))
    # Then the same storm is active again
    after = over.opened()
    assert taken.phase == "ACTIVE"
    assert (after["ph"], after["fl"], after["f"], after["e"], after["n"], after["uid"]) == (
        "A", 1, 1, before["e"], before["n"], before["uid"],
    )  # fmt: skip
    assert after["fd"] == clock.now + DEBOUNCE
    clock.advance(DEBOUNCE)
    claim = over.claimed()
    assert (claim.storm.phase, claim.storm.flaps, claim.uid) == ("ACTIVE", 1, "uid-storm")
    assert len(over.listed(claim)) == 1


def test_duplicate_and_outdated_do_not_reopen(over: Lab, clock: Clock) -> None:
    clock.at(20_000)
    late = over.deliver(resolved("a0", 10), resolved("a1", 9), resolved("stranger", 5))
    assert late == Taken("ok", duplicate=1, outdated=2, phase="RESOLVED")
    assert over.opened()["fl"] == 0


def test_flaps_count_each_reopening(over: Lab, clock: Clock) -> None:
    for flap in range(1, 4):
        clock.advance(1000)
        over.deliver(firing("a0", flap * 1_000_000, pod="pod-0"))
        clock.advance(DEBOUNCE)
        over.write()
        clock.advance(1000)
        resolve(over, "a0", ends=flap * 1_000_000 + 1)
        clock.advance(DEBOUNCE)
        over.write()
        state = over.opened()
        assert (state["ph"], state["fl"]) == ("R", flap)


def test_window_begins_with_the_last_resolve_received(written: Lab, clock: Clock) -> None:
    # Given a storm of which the last alert resolved at 60 s, taken in by a worker at 100 s
    clock.at(10_000)
    resolve(written, *ALL[:9])
    clock.at(60_000)
    entry = written.accept(resolved("a9", 10, pod="pod-9"))
    clock.at(100_000)
    written.ingest(entry)
    clock.at(100_000 + DEBOUNCE)
    written.write()
    # Then it closes a window after 60 s
    assert written.opened().due == START + 60_000 + written.rules.reopen_window


def test_closes_when_the_window_has_passed(over: Lab, clock: Clock) -> None:
    # Given a resolved storm at the end of its window
    clock.at(10_000 + over.rules.reopen_window)
    # When it is claimed
    assert over.claim() == NotClaimed("closed")
    # Then nothing is left but the counters
    assert over.state() is None
    assert over.key_kinds() == {"meta"}
    assert over.claim() == NotClaimed("gone")
    assert over.inbox.totals() == Ledger(received=20, new=10, resolved=10)


def test_late_holder_settles_after_the_storm_closed(written: Lab, clock: Clock) -> None:
    # Given a holder frozen with the resolved storm, whose successor wrote and closed it
    clock.at(10_000)
    resolve(written, *ALL)
    clock.at(10_000 + DEBOUNCE)
    frozen = written.claimed("frozen")
    clock.advance(LEASE_MS)
    assert isinstance(written.write(), Claim)
    clock.at(10_000 + written.rules.reopen_window)
    assert written.claim() == NotClaimed("closed")
    # When it settles, with nothing there and with the next epoch there
    assert written.settle(frozen) == "lost"
    written.deliver(firing("next"))
    before = written.dump()
    # Then nothing happens
    assert written.settle(frozen) == "lost"
    assert written.dump() == before


def test_next_epoch_is_another_storm(over: Lab, clock: Clock) -> None:
    # Given a storm that closed
    first = over.opened()
    clock.at(10_000 + over.rules.reopen_window)
    over.write()
    # When its alerts fire again
    over.deliver(*many(10, starts=1_000_000))
    # Then they are new, in an epoch that is later, under another name, with nothing of the old
    second = over.opened()
    assert second["e"] > first["e"]
    assert second["n"] != first["n"]
    assert (second["nw"], second["rc"], second["fl"], second["uid"], second["wp"], second["gn"]) == (
        10,
        10,
        0,
        "",
        "",
        0,
    )


def test_next_epoch_is_later_even_within_the_same_ms(lab: Lab, clock: Clock) -> None:
    # Given windows of no length, and time that stands still
    lab.change_rules(debounce=0, reopen_window=0, rate_threshold=1)
    epochs, names = [], []
    for at in range(3):
        # When a storm opens, resolves and closes
        lab.deliver(firing("a", at * 10))
        epochs.append(lab.opened()["e"])
        names.append(lab.opened()["n"])
        lab.deliver(resolved("a", at * 10 + 5))
        assert isinstance(lab.write(), Claim)
        assert lab.write() == NotClaimed("closed")
    # Then each epoch is later than the one before
    assert epochs == [START, START + 1, START + 2]
    assert len(set(names)) == 3


def test_next_epoch_is_later_when_the_servers_clock_was_set_back(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a"))
    clock.at(-3_600_000)
    lab.deliver(firing("a"), storm=OTHER_STORM)
    assert lab.opened(OTHER_STORM)["e"] > lab.opened(STORM)["e"]


# stale ----------------------------------------------------------------------------------------------------------------


def test_stale_when_there_is_no_news(written: Lab, clock: Clock) -> None:
    # Given an active storm, silent for just under STALE_AFTER, and then for that long
    clock.at(written.rules.stale_after - 1)
    assert written.claim() == NotClaimed("idle")
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    # When its last RR is written
    assert (claim.stale, claim.storm.phase, claim.storm.alert_count) == (True, "ACTIVE", 10)
    assert written.settle(claim) == "closed"
    # Then it is forgotten, and a repeat is news
    assert written.key_kinds() == {"meta"}
    assert written.deliver(*many(10)) == Taken("ok", new=10, phase="ACTIVE")


def test_duplicates_keep_a_storm_from_going_stale(written: Lab, clock: Clock) -> None:
    # Given a repeat an hour before the storm would go stale
    clock.at(written.rules.stale_after - 3_600_000)
    written.deliver(firing("a0", pod="pod-0"))
    # When that time comes
    clock.at(written.rules.stale_after)
    # Then it goes on for STALE_AFTER from the repeat
    assert written.claim() == NotClaimed("idle")
    assert written.opened().due == START + 2 * written.rules.stale_after - 3_600_000


def test_duplicate_while_the_stale_rr_is_written_is_news(written: Lab, clock: Clock) -> None:
    # Given a storm leased to be written as stale
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    assert claim.stale
    # When its alerts turn out to fire still
    clock.advance(100)
    assert written.deliver(*many(10)) == Taken("ok", duplicate=10, phase="ACTIVE")
    # Then it is not closed, and its RR is written as active again
    assert written.settle(claim) == "dirty"
    clock.advance(DEBOUNCE)
    again = written.claimed("again")
    assert (again.stale, again.wrote, again.storm.alert_count) == (False, "Stale", 10)
    assert written.settle(again) == "settled"
    assert written.opened()["wp"] == "A"


def test_change_while_the_stale_rr_is_written_is_news(written: Lab, clock: Clock) -> None:
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    written.deliver(firing("new one"))
    assert written.settle(claim) == "dirty"
    clock.advance(DEBOUNCE)
    again = written.claimed("again")
    assert (again.stale, again.storm.alert_count) == (False, 11)


def test_stale_write_that_fails_is_tried_again(written: Lab, clock: Clock) -> None:
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    assert written.settle(claim, phase="", uid="", retry_ms=500) == "dirty"
    clock.advance(500)
    again = written.claimed("again")
    assert again.stale
    assert written.settle(again) == "closed"


def test_resolved_storm_does_not_go_stale(over: Lab, clock: Clock) -> None:
    clock.at(over.rules.stale_after + 60_000)
    assert over.claim() == NotClaimed("closed")


def test_stale_beyond_the_bound_of_members(lab: Lab, clock: Clock) -> None:
    # Given a storm with more alerts than members
    lab.change_rules(max_members=5)
    lab.deliver(*many(10))
    lab.deliver(*many(10, first=10))
    clock.at(DEBOUNCE)
    lab.write()
    clock.at(lab.rules.stale_after)
    # When it goes stale
    lab.write()
    # Then nothing of it is left
    assert lab.key_kinds() == {"meta"}


# everything closed ----------------------------------------------------------------------------------------------------


def test_redis_is_as_empty_as_before_when_everything_has_closed(lab: Lab, clock: Clock) -> None:
    # Given storms that resolve, go stale, never become one, shrink, flap and overflow
    lab.change_rules(max_members=15)
    storms = [f"3{at:015x}" for at in range(6)]
    for storm in storms[:3]:
        lab.deliver(*many(20), storm=storm)
    lab.deliver(*many(10, first=20), storm=storms[0])
    lab.deliver(*many(4), storm=storms[3])
    lab.deliver(*many(4), storm=storms[4])
    lab.deliver(resolved("unknown", 5), storm=storms[5])
    clock.at(DEBOUNCE)
    for storm in storms:
        lab.write(storm)
    for storm in (storms[0], storms[3]):
        for first in (0, 10, 20):
            lab.deliver(*(resolved(f"a{at}", 10) for at in range(first, first + 10)), storm=storm)
    clock.advance(1000)
    lab.deliver(firing("a1", 20), storm=storms[3])
    lab.deliver(resolved("a1", 30), storm=storms[3])
    # When every due time is seen to until none is left
    for _ in range(100):
        due = lab.client.zrange("sf:{3}:due", 0, 0, withscores=True)
        if not due:
            break
        storm, at = due[0]
        clock.set(max(clock.now, int(at)))
        lab.write(storm.decode())
    # Then all that is left are counters, and tombstones of unknown members that expire by themselves
    left = lab.dump()
    assert {name: expires for name, (_, expires) in left.items() if not expires} == {"sf:{3}:meta": False}
    assert {name.split(":")[2] for name in left} <= {"meta", "b"}
    assert lab.inbox.totals().balanced
