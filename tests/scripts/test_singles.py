"""The life of a Single: on hold, named, written, resolved, reopened, closed, stale, and superseded by its storm."""

from __future__ import annotations

import pytest

from lua_scripts.leases import Claim, NotClaimed, SingleOutcome, SingleTask
from lua_scripts.records import Taken
from tests.scripts.lab import LEASE_MS, START, STORM, Clock, Lab, firing, many, resolved
from tests.scripts.state import Single

HOLD = 5_000
DEBOUNCE = 5_000


def tasks(claim: Claim | NotClaimed) -> list[SingleTask]:
    assert isinstance(claim, Claim), claim
    assert claim.singles is not None
    return list(claim.singles)


@pytest.fixture
def held(lab: Lab, clock: Clock) -> Lab:
    """One alert, received at START, its Single on hold."""
    lab.deliver(firing("a", severity=3))
    return lab


@pytest.fixture
def written(held: Lab, clock: Clock) -> Lab:
    """The same, written at the end of its hold."""
    clock.at(HOLD)
    assert held.settle(held.claimed()) == "settled"
    return held


@pytest.fixture
def over(written: Lab, clock: Clock) -> Lab:
    """The same, resolved at START + 10 s and written so."""
    clock.at(10_000)
    written.deliver(resolved("a", 10))
    clock.at(10_000 + DEBOUNCE)
    assert written.settle(written.claimed()) == "settled"
    return written


def test_waits_for_its_hold(held: Lab, clock: Clock) -> None:
    clock.at(HOLD - 1)
    assert held.claim() == NotClaimed("idle")
    assert held.opened().singles == {"a": Single("P", START, START, 0, "", 0)}
    assert held.opened().due == START + HOLD


def test_is_named_before_it_is_written(held: Lab, clock: Clock) -> None:
    # Given a Single at the end of its hold
    clock.at(HOLD)
    # When it is claimed
    claim = held.claimed()
    # Then its name is pinned, and the holder learns all that the RR says
    [task] = tasks(claim)
    assert held.opened().singles["a"].state == "N"
    assert (task.fingerprint, task.want, task.opened_ms, task.wrote, task.flaps) == ("a", "Active", START, "", 0)
    assert (task.uid, task.resource_version, task.namespace, task.severity) == ("", "", "", 3)
    assert task.resource is not None
    assert (task.resource.kind, task.resource.name, task.resource.namespace) == ("Pod", "a", "shop")
    assert task.detail is not None
    assert task.detail.labels == {"alertname": "Down", "namespace": "shop", "pod": "a"}
    assert claim.text.key == {"alertname": "Down", "namespace": "shop"}


def test_keeps_what_was_written_and_no_details(written: Lab) -> None:
    state = written.opened()
    assert state.singles == {"a": Single("W", START, START, 0, "A", 0)}
    assert state.details == set()
    assert state.due == state.singles_due["a"] == START + written.rules.stale_after
    [named] = written.leases.singles(STORM)
    assert (named.state, named.opened_ms, named.wrote, named.uid, named.resource_version, named.namespace) == (
        "written", START, "Active", "uid-a", "7", "shop",
    )  # fmt: skip


def test_resolved_after_the_debounce(written: Lab, clock: Clock) -> None:
    clock.at(10_000)
    written.deliver(resolved("a", 10))
    assert written.opened().due == START + 10_000 + DEBOUNCE
    clock.at(10_000 + DEBOUNCE)
    [task] = tasks(written.claimed())
    assert (task.want, task.wrote, task.uid, task.opened_ms, task.detail) == (
        "Resolved",
        "Active",
        "uid-a",
        START,
        None,
    )


def test_alert_that_resolves_within_the_hold_is_written_once(held: Lab, clock: Clock) -> None:
    clock.at(1000)
    held.deliver(resolved("a", 10))
    clock.at(HOLD)
    claim = held.claimed()
    assert [(task.want, task.detail is not None) for task in tasks(claim)] == [("Resolved", True)]
    held.settle(claim)
    assert held.opened().due == START + 1000 + held.rules.reopen_window


def test_duplicate_needs_no_write(written: Lab, clock: Clock) -> None:
    clock.at(60_000)
    written.deliver(firing("a"))
    state = written.opened()
    assert state.singles["a"] == Single("W", START, START + 60_000, 0, "A", 0)
    assert state.due == START + written.rules.stale_after
    # Looked at when it would have gone stale, it goes on from the repeat
    clock.at(written.rules.stale_after)
    assert written.claim() == NotClaimed("idle")
    assert written.opened().due == START + 60_000 + written.rules.stale_after


def test_reopened_within_the_window_is_a_flap(over: Lab, clock: Clock) -> None:
    # Given a resolved Single, in the last ms of its window
    clock.at(10_000 + over.rules.reopen_window - 1)
    assert over.claim() == NotClaimed("idle")
    # When its alert fires again
    assert over.deliver(firing("a", 20)) == Taken("ok", reopened=1, phase="GATHERING")
    # Then it is the same RR, active again
    clock.advance(DEBOUNCE)
    [task] = tasks(over.claimed())
    assert (task.want, task.wrote, task.flaps, task.opened_ms, task.uid) == ("Active", "Resolved", 1, START, "uid-a")


def test_closed_after_the_window_and_then_news(over: Lab, clock: Clock) -> None:
    # Given a resolved Single at the end of its window, and nothing else
    clock.at(10_000 + over.rules.reopen_window)
    # When it is claimed
    assert over.claim() == NotClaimed("closed")
    # Then nothing is left, and its alert is news with an RR of its own
    assert over.key_kinds() == {"meta"}
    assert over.deliver(firing("a", 20)) == Taken("ok", new=1, phase="GATHERING")
    assert over.opened().singles["a"].opened == clock.now


def test_closed_beside_another_that_fires(over: Lab, clock: Clock) -> None:
    # Given a resolved Single beside one that fires
    over.deliver(firing("b"))
    clock.at(10_000 + DEBOUNCE + HOLD)
    over.write()
    clock.at(10_000 + over.rules.reopen_window)
    # When its window is over
    assert over.claim() == NotClaimed("idle")
    # Then it is forgotten, with its member and its resource, and the other stays
    state = over.opened()
    assert (set(state.singles), set(state.members), state.resources, state["f"]) == ({"b"}, {"b"}, {"b": 1}, 1)
    assert over.deliver(firing("a", 20)) == Taken("ok", new=1, phase="GATHERING")


def test_closed_beside_another_about_the_same_pod(lab: Lab, clock: Clock) -> None:
    # Given two Singles about one pod, of which one resolved earlier
    lab.deliver(firing("a", pod="p"), firing("b", pod="p"))
    clock.at(HOLD)
    lab.write()
    lab.deliver(resolved("a", 10, pod="p"))
    clock.at(200_000)
    lab.deliver(resolved("b", 10, pod="p"))
    lab.write()
    clock.advance(DEBOUNCE)
    lab.write()
    # When the first closes
    clock.at(HOLD + lab.rules.reopen_window)
    assert lab.claim() == NotClaimed("idle")
    assert set(lab.opened().singles) == {"b"}
    # Then the other still knows what it is about
    lab.deliver(firing("b", 20, pod="p"))
    clock.advance(DEBOUNCE)
    [task] = tasks(lab.claimed())
    assert task.resource is not None
    assert task.resource.name == "p"


def test_pods_that_come_and_go_leave_nothing_behind(lab: Lab, clock: Clock) -> None:
    # Given one alert that fires all the while, and others whose pods come and go
    lab.deliver(firing("steady"))
    for at in range(30):
        clock.at(at * 400_000)
        lab.deliver(firing("steady"), firing(f"a{at}", at * 400_000))
        clock.advance(HOLD)
        lab.write()
        lab.deliver(resolved(f"a{at}", at * 400_000 + 1))
        clock.advance(DEBOUNCE)
        lab.write()
        clock.advance(lab.rules.reopen_window)
        lab.write()
    # When the tombstones have expired too
    clock.advance(lab.rules.tombstone)
    lab.write()
    # Then the storm that still gathers holds the one that fires
    state = lab.opened()
    assert (state["ph"], set(state.members), state.resources) == ("G", {"steady"}, {"steady": 1})
    assert lab.client.llen("sf:{3}:x:" + STORM) == 0


def test_flapping_alert_is_written_within_the_longest_wait(written: Lab, clock: Clock) -> None:
    # Given an alert that resolves and fires every two seconds, each sooner than the debounce
    first = 10_000
    at = first
    while at <= first + written.rules.max_wait:
        clock.at(at)
        written.deliver(resolved("a", at) if (at - first) % 4_000 == 0 else firing("a", at))
        # Then it is due no later than the longest wait after the first change
        assert written.opened().due == START + min(at + DEBOUNCE, first + written.rules.max_wait)
        at += 2_000
    # And when it is written, the next change waits by its own time
    clock.at(at)
    written.write()
    clock.advance(1000)
    state = written.opened().members["a"].state
    written.deliver(resolved("a", at + 1) if state == "F" else firing("a", at + 1))
    assert written.opened().due == clock.now + DEBOUNCE


def test_flaps_of_a_single_count_only_what_was_shown(written: Lab, clock: Clock) -> None:
    # Given an alert that resolves and fires before that was written
    clock.at(10_000)
    written.deliver(resolved("a", 10))
    written.deliver(firing("a", 20))
    # Then it is no flap
    assert written.opened().singles["a"].flaps == 0


def test_changed_while_its_rr_is_written(written: Lab, clock: Clock) -> None:
    # Given a holder that writes the resolve, and a firing meanwhile
    clock.at(10_000)
    written.deliver(resolved("a", 10))
    clock.at(10_000 + DEBOUNCE)
    claim = written.claimed()
    clock.advance(100)
    written.deliver(firing("a", 20))
    # When it settles
    assert written.settle(claim) == "dirty"
    # Then the firing is written next
    clock.advance(DEBOUNCE)
    [task] = tasks(written.claimed("next"))
    assert (task.want, task.wrote) == ("Active", "Resolved")


def test_dead_holder_of_a_single(held: Lab, clock: Clock) -> None:
    # Given a holder that dies with the lease
    clock.at(HOLD)
    dead = held.claimed("dead")
    clock.advance(LEASE_MS - 1)
    assert held.claim("next") == NotClaimed("busy")
    # When the lease is over
    clock.advance(1)
    claim = held.claimed("next")
    # Then the next one has the same to write, under the same name
    [task] = tasks(claim)
    assert (task.want, task.opened_ms, task.uid) == ("Active", START, "")
    assert task.detail is not None
    assert held.settle(dead) == "lost"
    assert held.settle(claim) == "settled"


def test_what_a_dead_holder_may_have_written_is_written_over(over: Lab, clock: Clock) -> None:
    # Given a holder that writes a Single as active again, and dies before it tells
    over.deliver(firing("a", 20))
    clock.advance(DEBOUNCE)
    assert [task.want for task in tasks(over.claimed("dead"))] == ["Active"]
    # When its alert resolves, which is what was told last
    over.deliver(resolved("a", 30))
    clock.advance(max(LEASE_MS, DEBOUNCE))
    # Then the next one writes that all the same
    claim = over.claimed("next")
    assert [(task.want, task.wrote) for task in tasks(claim)] == [("Resolved", "Resolved")]
    assert over.settle(claim) == "settled"


def test_new_one_while_another_is_written(held: Lab, clock: Clock) -> None:
    clock.at(HOLD)
    claim = held.claimed()
    held.deliver(firing("b"))
    held.settle(claim)
    assert held.opened().due == START + 2 * HOLD
    clock.at(2 * HOLD)
    assert [task.fingerprint for task in tasks(held.claimed("next"))] == ["b"]


# stale ----------------------------------------------------------------------------------------------------------------


def test_stale_without_news(written: Lab, clock: Clock) -> None:
    # Given a written Single without news for STALE_AFTER
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    # When it is written as Stale
    assert [(task.want, task.wrote) for task in tasks(claim)] == [("Stale", "Active")]
    written.settle(claim)
    assert written.claim() == NotClaimed("closed")
    # Then it is forgotten, and its repeat is news
    assert written.key_kinds() == {"meta"}
    assert written.deliver(firing("a")) == Taken("ok", new=1, phase="GATHERING")


def test_stale_beside_another_with_news(lab: Lab, clock: Clock) -> None:
    # Given two Singles, of which one repeats
    lab.deliver(firing("a"), firing("b"))
    clock.at(HOLD)
    lab.write()
    clock.at(3_600_000)
    lab.deliver(firing("b"))
    # When the other goes stale
    clock.at(lab.rules.stale_after)
    claim = lab.claimed()
    assert [task.fingerprint for task in tasks(claim)] == ["a"]
    lab.settle(claim)
    # Then only what repeats is left
    state = lab.opened()
    assert (set(state.singles), set(state.members), state.resources, state["f"], state["s2"]) == (
        {"b"}, {"b"}, {"b": 1}, 1, 1,
    )  # fmt: skip


def test_repeat_while_the_stale_rr_is_written(written: Lab, clock: Clock) -> None:
    # Given a holder that writes a Single as Stale, and a repeat meanwhile
    clock.at(written.rules.stale_after)
    claim = written.claimed()
    clock.advance(100)
    written.deliver(firing("a"))
    # When it settles
    written.settle(claim)
    # Then the Single lives, and is written as Active again
    clock.advance(DEBOUNCE)
    [task] = tasks(written.claimed("next"))
    assert (task.want, task.wrote) == ("Active", "Stale")


# superseded -----------------------------------------------------------------------------------------------------------


def test_threshold_within_the_hold_names_no_single(lab: Lab, clock: Clock) -> None:
    lab.deliver(*many(9, pods=4))
    clock.at(1000)
    lab.deliver(firing("a9", pod="pod-0"))
    clock.at(1000 + DEBOUNCE)
    claim = lab.claimed()
    assert claim.singles is None
    assert {single.state for single in lab.leases.singles(STORM)} == {"pending"}
    lab.settle(claim)
    assert list(lab.leases.singles(STORM)) == []


def test_written_singles_are_superseded(lab: Lab, clock: Clock) -> None:
    # Given four Singles, three written, one of these resolved, one only named; and a fifth on hold
    lab.deliver(*many(4))
    clock.at(HOLD)
    claim = lab.claimed()
    outcomes = [
        SingleOutcome(
            task.fingerprint, "" if task.fingerprint == "a3" else "Active", f"uid-{task.fingerprint}", "1", "shop"
        )
        for task in tasks(claim)
    ]
    lab.leases.settle_singles(STORM, claim.token, lab.rules, outcomes, 500)
    lab.deliver(resolved("a0", 10, pod="pod-0"))
    clock.advance(DEBOUNCE)
    claim = lab.claimed("resolve")
    lab.leases.settle_singles(
        STORM, "resolve", lab.rules,
        [SingleOutcome(task.fingerprint, "" if task.fingerprint == "a3" else task.want, "u", "2", "shop")
         for task in tasks(claim)], 500,
    )  # fmt: skip
    # When a storm begins
    lab.deliver(*many(10, first=4))
    clock.advance(DEBOUNCE)
    claim = lab.claimed("storm")
    # Then its holder finds each as it is
    found = {single.fingerprint: (single.state, single.wrote) for single in lab.leases.singles(STORM)}
    assert found == {
        "a0": ("written", "Resolved"), "a1": ("written", "Active"), "a2": ("written", "Active"), "a3": ("named", ""),
    }  # fmt: skip
    assert lab.settle(claim) == "settled"
    # And afterwards knows which it has marked, what is Resolved having been left alone
    found = {single.fingerprint: (single.state, single.wrote) for single in lab.leases.singles(STORM)}
    assert found == {"a1": ("superseded", ""), "a2": ("superseded", ""), "a3": ("superseded", "")}


def test_threshold_falls_while_singles_are_written(held: Lab, clock: Clock) -> None:
    # Given a holder that writes a Single
    clock.at(HOLD)
    claim = held.claimed("single")
    # When the storm begins meanwhile
    clock.advance(100)
    held.deliver(*many(9))
    assert held.opened()["ph"] == "A"
    assert held.claim("other") == NotClaimed("busy")
    # Then the Single is known as written, and the storm's RR is due after the debounce
    clock.advance(100)
    assert held.settle(claim) == "dirty"
    state = held.opened()
    assert (state.singles["a"].state, state["fd"], state.due) == ("W", clock.now + DEBOUNCE, clock.now + DEBOUNCE)
    clock.advance(DEBOUNCE)
    storm = held.claimed("storm")
    assert storm.singles is None
    assert storm.storm.alert_count == 10
    [named] = [single for single in held.leases.singles(STORM) if single.state != "pending"]
    assert (named.fingerprint, named.uid) == ("a", "uid-a")


def test_threshold_falls_while_a_holder_of_singles_is_dead(held: Lab, clock: Clock) -> None:
    # Given a holder that died after it named a Single, and a storm that begins
    clock.at(HOLD)
    dead = held.claimed("dead")
    held.deliver(*many(9))
    # When the lease is over
    clock.advance(LEASE_MS)
    storm = held.claimed("storm")
    # Then the storm's RR names the Single, which may or may not have been written
    assert storm.singles is None
    assert [s.fingerprint for s in held.leases.singles(STORM) if s.state == "named"] == ["a"]
    assert held.settle(dead) == "lost"
    assert held.settle(storm) == "settled"


def test_holder_of_singles_that_raises_its_fence_after_the_threshold_fell(held: Lab, clock: Clock) -> None:
    # Given a holder of a Single, and a storm that begins meanwhile
    clock.at(HOLD)
    claim = held.claimed("single")
    held.deliver(*many(9))
    # When it meets a higher fence and claims again with its token, then settles
    again = held.claim("single", above_fence=1000)
    assert isinstance(again, Claim)
    assert again.storm.fence == 1001
    held.settle(claim)
    # Then the storm's RR is written all the same, with all of it
    clock.advance(DEBOUNCE)
    storm = held.claimed("storm")
    assert storm.singles is None
    assert (storm.storm.phase, storm.storm.alert_count, storm.uid) == ("ACTIVE", 10, "")
