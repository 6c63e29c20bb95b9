"""claim and settle: one holder at a time, and no change lost between its reading and its settling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lua_scripts.leases import Claim, NotClaimed, SingleOutcome, StormOutcome
from lua_scripts.records import ResourceRecord
from tests.scripts.lab import LEASE_MS, START, STORM, Clock, Lab, empty_again, fill, firing, many, resolved
from tests.support.waiting import at_once, wait_until

DEBOUNCE = 5_000
HOLD = 5_000


@pytest.fixture
def storm(lab: Lab, clock: Clock) -> Lab:
    """An active storm of ten whose first RR is due now, at START + DEBOUNCE."""
    lab.deliver(*many(10))
    clock.at(DEBOUNCE)
    return lab


@pytest.fixture
def written(storm: Lab) -> Lab:
    """The same, written."""
    assert storm.settle(storm.claimed()) == "settled"
    return storm


# claim ----------------------------------------------------------------------------------------------------------------


def test_claim_of_no_storm(lab: Lab) -> None:
    assert lab.claim() == NotClaimed("gone")
    assert lab.dump() == {}


def test_claim_before_the_time(lab: Lab, clock: Clock) -> None:
    # Given a storm that is due later
    lab.deliver(*many(10))
    clock.at(DEBOUNCE - 1)
    before = lab.opened()
    # When it is claimed
    assert lab.claim() == NotClaimed("idle")
    # Then nothing is leased, and it is due as before
    after = lab.opened()
    assert (after["lk"], after["lu"], after["fn"], after.due) == ("", 0, before["fn"], START + DEBOUNCE)


def test_claim_says_what_to_write(storm: Lab) -> None:
    # Given a due storm
    before = storm.opened()
    # When it is claimed
    claim = storm.claimed("t")
    # Then the holder learns all of it, under a fence of its own
    assert claim.singles is None
    assert (claim.token, claim.now_ms, claim.stale, claim.failures) == ("t", START + DEBOUNCE, False, 0)
    assert (claim.uid, claim.resource_version, claim.digest, claim.wrote) == ("", "", "", "")
    assert claim.storm == replace(storm.storms.page()[0][0], fence=before["fn"] + 1)
    assert (claim.generation, claim.overflow, claim.worst_severity) == (1, 0, 2)
    assert storm.listed(claim) == {f"pod-{at}": 1 for at in range(10)}
    after = storm.opened()
    assert (after["lk"], after["lu"], after.due) == ("t", claim.now_ms + LEASE_MS, claim.now_ms + LEASE_MS)


def test_claim_of_a_leased_storm_is_refused(storm: Lab) -> None:
    storm.claimed("one")
    before = storm.dump()
    assert storm.claim("two") == NotClaimed("busy")
    assert storm.dump() == before


def test_100_threads_claim_and_one_gets_it(storm: Lab) -> None:
    claims = at_once(*(lambda at=at: storm.claim(f"token-{at}") for at in range(100)))
    assert sorted(type(claim).__name__ for claim in claims) == ["Claim"] + ["NotClaimed"] * 99
    assert {claim.reason for claim in claims if isinstance(claim, NotClaimed)} == {"busy"}
    [won] = [claim for claim in claims if isinstance(claim, Claim)]
    assert storm.opened()["lk"] == won.token


def test_100_threads_claim_singles_and_one_gets_them(lab: Lab, clock: Clock) -> None:
    lab.deliver(firing("a"))
    clock.at(HOLD)
    claims = at_once(*(lambda at=at: lab.claim(f"token-{at}") for at in range(100)))
    assert sum(isinstance(claim, Claim) for claim in claims) == 1


def test_same_token_renews_lease_and_fence(storm: Lab, clock: Clock) -> None:
    # Given a claim, and a change meanwhile
    first = storm.claimed("t")
    storm.deliver(firing("late"))
    clock.advance(1000)
    # When the same token claims again, above a fence that it met outside
    second = storm.claim("t", above_fence=first.storm.fence + 1000)
    # Then the lease and the fence are renewed, and the change is still to be written
    assert isinstance(second, Claim)
    assert second.storm.fence == first.storm.fence + 1001
    assert second.generation == first.generation
    assert (storm.opened()["lu"], storm.opened()["dy"]) == (START + DEBOUNCE + 1000 + LEASE_MS, 1)
    assert storm.settle(second) == "dirty"


def test_fence_grows_with_every_change_and_every_claim(storm: Lab, clock: Clock) -> None:
    fences = [storm.opened()["fn"]]
    for step in range(5):
        claim = storm.claimed(f"t{step}")
        fences.append(claim.storm.fence)
        storm.settle(claim)
        storm.deliver(firing(f"more-{step}"))
        fences.append(storm.opened()["fn"])
        clock.advance(DEBOUNCE)
    assert fences == sorted(set(fences))


def test_dead_holder_delays_a_storm_by_its_lease(storm: Lab, clock: Clock) -> None:
    # Given a holder that dies with the lease
    dead = storm.claimed("dead")
    # When another asks until the lease is over
    clock.advance(LEASE_MS - 1)
    early = storm.claim("next")
    clock.advance(1)
    following = storm.claimed("next")
    # Then it gets the same work, and what the dead one settles is lost
    assert early == NotClaimed("busy")
    assert following.storm.fence > dead.storm.fence
    assert storm.listed(following) == {f"pod-{at}": 1 for at in range(10)}
    before = storm.dump()
    assert storm.settle(dead) == "lost"
    assert storm.dump() == before
    assert storm.settle(following) == "settled"


def test_dead_holder_of_a_storm_that_changed_meanwhile(written: Lab, clock: Clock) -> None:
    # Given a change, a holder that dies with it, and another change meanwhile
    written.deliver(firing("second"))
    clock.advance(DEBOUNCE)
    written.claimed("dead")
    written.deliver(firing("third"))
    # When the lease is over
    clock.advance(LEASE_MS)
    following = written.claimed("next")
    # Then the next holder shows all of it
    assert following.storm.alert_count == 12
    assert written.settle(following) == "settled"


def test_what_a_dead_holder_may_have_written_is_written_over(written: Lab, clock: Clock) -> None:
    # Given a storm that was written, and a holder that writes something else and dies before it tells
    assert written.opened()["dg"] == "digest"
    written.deliver(firing("more"))
    clock.advance(DEBOUNCE)
    assert written.claimed("dead").digest == "digest"
    # When the lease is over, Then the next one takes nothing for written, though it knows the object
    clock.advance(LEASE_MS)
    claim = written.claimed("next")
    assert (claim.digest, claim.uid) == ("", "uid-storm")


def test_claims_race_ingests(lab: Lab) -> None:
    # Given a storm without debounce, while 50 threads bring alerts and 50 write
    lab.change_rules(debounce=0, max_wait=0)
    lab.deliver(*many(10))
    entries = [lab.accept(firing(f"late-{at}")) for at in range(50)]
    shown: list[int] = []

    def write() -> None:
        claim = lab.write()
        if isinstance(claim, Claim):
            shown.append(claim.storm.alert_count)

    calls = [lambda entry=entry: lab.ingest(entry) for entry in entries]
    at_once(*calls, *[write] * 50)
    # When nothing is due any more
    wait_until(lambda: isinstance(lab.write(), NotClaimed) and lab.opened()["lk"] == "", "the storm to be settled")
    # Then what was written last shows every alert
    state = lab.opened()
    assert (state["f"], state["fd"], state["fu"], state["dy"]) == (60, 0, 0, 0)
    assert int(state["rv"]) >= state["fn"] - 1


# settle ---------------------------------------------------------------------------------------------------------------


def test_settle_keeps_what_was_written(storm: Lab) -> None:
    # Given a claim
    claim = storm.claimed()
    # When it is settled
    assert storm.settle(claim, uid="u", resource_version="9", digest="d", namespace="elsewhere") == "settled"
    # Then the lease is over, what was written is known, and the next thing due is that it goes stale
    state = storm.opened()
    assert (state["uid"], state["rv"], state["dg"], state["ns"], state["wp"]) == ("u", "9", "d", "elsewhere", "A")
    assert (state["lk"], state["lu"], state["fd"], state["fu"], state["dy"], state["fa"]) == ("", 0, 0, 0, 0, 0)
    assert state.due == START + storm.rules.stale_after


def test_settle_of_nobodys_lease_does_nothing(written: Lab) -> None:
    # Given a storm that is not leased
    before = written.dump()
    # When somebody settles, one with a token of old and one with none
    lost = [
        written.leases.settle_storm(STORM, token, written.rules, StormOutcome("Active", "other"))
        for token in ("old", "")
    ]
    # Then nothing happens
    assert lost == ["lost", "lost"]
    assert written.dump() == before


def test_settle_of_a_storm_that_is_gone(lab: Lab) -> None:
    assert lab.leases.settle_storm(STORM, "t", lab.rules, StormOutcome("Active")) == "lost"
    assert lab.leases.settle_singles(STORM, "t", lab.rules, [SingleOutcome("a", "Active")], 0) == "lost"
    assert lab.dump() == {}


def test_settle_twice_is_lost_the_second_time(storm: Lab) -> None:
    claim = storm.claimed()
    assert [storm.settle(claim), storm.settle(claim)] == ["settled", "lost"]


def test_change_while_leased_is_due_again(written: Lab, clock: Clock) -> None:
    # Given a claim of a first change
    written.deliver(firing("second"))
    clock.advance(DEBOUNCE)
    claim = written.claimed()
    # When another comes while it is leased
    clock.advance(100)
    written.deliver(firing("third"))
    assert written.opened().due == claim.now_ms + LEASE_MS
    clock.advance(100)
    # Then settle finds it dirty and sets when it is due
    assert written.settle(claim) == "dirty"
    state = written.opened()
    assert (state["fd"], state["fu"], state.due) == (claim.now_ms + 200 + DEBOUNCE,) * 1 + (
        claim.now_ms + 100, claim.now_ms + 200 + DEBOUNCE,
    )  # fmt: skip


def test_duplicates_while_leased_need_no_flush(storm: Lab) -> None:
    claim = storm.claimed()
    storm.deliver(*many(10))
    assert storm.settle(claim) == "settled"
    assert storm.opened()["fd"] == 0


def test_change_after_the_lease_ran_out_is_not_lost_when_its_holder_settles_late(written: Lab, clock: Clock) -> None:
    # Given a holder frozen past its lease, and a change that comes then
    written.deliver(firing("second"))
    clock.advance(DEBOUNCE)
    claim = written.claimed("frozen")
    clock.advance(LEASE_MS + 1)
    written.deliver(firing("third"))
    # When it settles before anybody else has claimed
    ended = written.settle(claim)
    # Then what it wrote is known, and the change is due
    assert ended == "dirty"
    clock.advance(DEBOUNCE)
    following = written.claimed("next")
    assert following.storm.alert_count == 12
    assert following.uid == "uid-storm"


def test_single_changed_after_the_lease_ran_out_is_not_lost(lab: Lab, clock: Clock) -> None:
    # Given a holder of a Single frozen past its lease, and a resolve that comes then
    lab.deliver(firing("a"))
    clock.at(HOLD)
    claim = lab.claimed("frozen")
    clock.advance(LEASE_MS + 1)
    lab.deliver(resolved("a", 10))
    # When it settles before anybody else has claimed
    lab.settle(claim)
    # Then the resolve is written next
    clock.advance(DEBOUNCE)
    following = lab.claimed("next")
    assert following.singles is not None
    assert [(task.fingerprint, task.want, task.wrote) for task in following.singles] == [("a", "Resolved", "Active")]


def test_threshold_met_after_the_lease_on_singles_ran_out(lab: Lab, clock: Clock) -> None:
    # Given a holder of a Single frozen past its lease, and a storm that begins then
    lab.deliver(firing("x"))
    clock.at(HOLD)
    claim = lab.claimed("frozen")
    clock.advance(LEASE_MS + 1)
    lab.deliver(*many(9))
    # When it settles before anybody else has claimed
    lab.settle(claim)
    # Then the storm's RR is due, and the Single that was written is to be superseded
    clock.advance(DEBOUNCE)
    following = lab.claimed("next")
    assert following.singles is None
    assert following.storm.alert_count == 10
    assert [(single.fingerprint, single.state) for single in lab.leases.singles(STORM)] == [("x", "written")]


def test_failed_write_is_tried_again_after_its_time(storm: Lab, clock: Clock) -> None:
    # Given a claim whose write failed twice
    for failures in (0, 1):
        claim = storm.claimed()
        assert claim.failures == failures
        assert storm.settle(claim, phase="", uid="", retry_ms=700) == "dirty"
        assert storm.opened().due == claim.now_ms + 700
        clock.advance(699)
        assert storm.claim() == NotClaimed("idle")
        clock.advance(1)
    # When it succeeds
    assert storm.settle(storm.claimed()) == "settled"
    # Then the failures are forgotten
    assert storm.opened()["fa"] == 0


def test_more_to_supersede_is_due_at_once(storm: Lab, clock: Clock) -> None:
    claim = storm.claimed()
    assert storm.settle(claim, more=True) == "dirty"
    assert isinstance(storm.claim("next"), Claim)


def test_claim_and_settle_go_on_when_redis_is_full(storm: Lab, clock: Clock) -> None:
    # Given a due storm in a full Redis
    storm.deliver(firing("single"), storm="3" + "c" * 15)
    clock.advance(HOLD)
    fill(storm.client)
    # When it is claimed and settled, and so are Singles
    ends = [storm.settle(storm.claimed()), storm.settle(storm.claimed(storm="3" + "c" * 15))]
    # And it resolves and closes
    empty_again(storm.client)
    entry = storm.accept(*(resolved(f"a{at}", 9) for at in range(10)))
    fill(storm.client)
    storm.ingest(entry)
    clock.advance(DEBOUNCE)
    ends.append(storm.settle(storm.claimed()))
    clock.advance(storm.rules.reopen_window)
    closed = storm.claim()
    empty_again(storm.client)
    # Then all of it went through
    assert ends == ["settled", "settled", "settled"]
    assert closed == NotClaimed("closed")


# resources and Singles under a lease ----------------------------------------------------------------------------------


def test_resources_come_in_pages_each_once(lab: Lab, clock: Clock) -> None:
    # Given more resources than a page holds
    for first in range(0, 1500, 100):
        lab.deliver(*many(100, first=first))
    # When they are read
    found = list(lab.leases.resources(STORM))
    # Then each comes once, as it is
    assert len(found) == len({rid for rid, _ in found}) == 1500
    assert {state.record.name for _, state in found} == {f"pod-{at}" for at in range(1500)}
    assert {replace(state.record, name="") for _, state in found} == {ResourceRecord("Pod", "", "shop", "", START, 1)}


@pytest.mark.parametrize("count", [1, 255, 256, 300])
def test_resource_with_many_alerts(lab: Lab, clock: Clock, count: int) -> None:
    # Given as many alerts on one pod
    for first in range(0, count, 100):
        lab.deliver(*many(min(100, count - first), first=first, pods=1))
    assert lab.opened().resources == {"pod-0": count}
    clock.advance(DEBOUNCE)
    # When the pod is listed, and then up to fifty of them resolve
    claim = lab.claim()
    assert not isinstance(claim, Claim) or claim.singles or lab.listed(claim) == {"pod-0": count}
    gone = min(count, 50)
    lab.deliver(*(resolved(f"a{at}", 5, pod="pod-0") for at in range(gone)))
    # Then the rest is left
    assert lab.opened().resources == {"pod-0": count - gone}


def test_node_and_foreign_namespace_of_a_resource_come_back(lab: Lab) -> None:
    # Given resources on a node, in another namespace, in none, and plain
    plain = firing("a", pod="p")
    variants = [
        plain, replace(plain, fingerprint="b", name="q", node="n1"), replace(plain, fingerprint="c", namespace="else"),
        replace(plain, fingerprint="d", namespace="else", node="n2", name="r"),
        replace(plain, fingerprint="e", namespace="", kind="Node"),
    ]  # fmt: skip
    lab.deliver(*variants)
    # Then each is read back whole
    read = {(r.record.kind, r.record.name, r.record.namespace, r.record.node) for _, r in lab.leases.resources(STORM)}
    assert read == {(one.kind, one.name, one.namespace, one.node) for one in variants}


def test_singles_come_at_most_so_many_a_claim(lab: Lab, clock: Clock) -> None:
    # Given eight due Singles
    lab.change_rules(pattern_threshold=0)
    lab.deliver(*many(8))
    clock.at(HOLD)
    # When three at most are claimed at a time
    seen: list[str] = []
    for size in (3, 3, 2):
        claim = lab.claim(f"t{size}{len(seen)}", max_singles=3)
        assert isinstance(claim, Claim)
        assert claim.singles is not None
        assert len(claim.singles) == size
        seen += [task.fingerprint for task in claim.singles]
        assert lab.settle(claim) == "settled"
    # Then each came once
    assert sorted(seen) == sorted(f"a{at}" for at in range(8))
    assert lab.claim() == NotClaimed("idle")


def test_single_whose_write_failed_waits_alone(lab: Lab, clock: Clock) -> None:
    # Given two Singles of which one is refused
    lab.deliver(firing("good"), firing("bad"))
    clock.at(HOLD)
    claim = lab.claimed()
    outcomes = [SingleOutcome("good", "Active", "u", "1", "shop"), SingleOutcome("bad", "")]
    lab.leases.settle_singles(STORM, claim.token, lab.rules, outcomes, 700)
    # When the retry is due
    assert lab.opened().due == START + HOLD + 700
    clock.advance(700)
    following = lab.claimed()
    # Then it is the one that failed, and its name had been pinned
    assert following.singles is not None
    assert [(task.fingerprint, task.want, task.uid) for task in following.singles] == [("bad", "Active", "")]
    assert following.failures == 1
    assert lab.opened().singles["bad"].state == "N"
