"""Objects under a name that the state has, but not the very ones: creates of workers that slept past their lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lua_scripts.leases import Claim
from lua_scripts.orphans import Match, OpenObject, Orphans
from tests.scripts.lab import STORM, Clock, Lab, firing, many, resolved
from tests.scripts.state import read_state

GRACE_MS = 60_000


@pytest.fixture
def orphans(lab: Lab) -> Orphans:
    return Orphans(lab.client)


def written_storm(lab: Lab, clock: Clock) -> OpenObject:
    """A storm whose RR was written; the object as a look through the sink finds it."""
    lab.deliver(*many(12))
    clock.at(6_000)
    claim = lab.write()
    assert isinstance(claim, Claim)
    clock.advance(1_000)
    return OpenObject("storm", STORM, claim.storm.name, "shop", "uid-storm", "9", claim.storm.fence)


def test_the_very_object_is_known(lab: Lab, clock: Clock, orphans: Orphans) -> None:
    # Given a storm that was written; When its object is met, Then it is known and nothing is due
    rr = written_storm(lab, clock)
    before = read_state(lab.client, STORM)
    assert orphans.match([rr], GRACE_MS, clock.now) == [Match("known")]
    assert read_state(lab.client, STORM) == before


@pytest.mark.parametrize("phase", ["firing", "resolved"])
def test_a_stray_is_written_as_what_it_stands_for(lab: Lab, clock: Clock, orphans: Orphans, phase: str) -> None:
    # Given a storm that was written, goes on or is resolved, and whose object is another one now
    rr = written_storm(lab, clock)
    if phase == "resolved":
        lab.deliver(*(resolved(f"a{n}", 7_000, 0) for n in range(12)))
        clock.advance(40_000)
        lab.write()
        clock.advance(1_000)
    stray = replace(rr, uid="uid-late", fence=500)
    # When a look meets it
    assert orphans.match([stray], GRACE_MS, clock.now) == [Match("stray")]
    # Then the storm is due at once, believes nothing of its RR, and writes above the fence that was met
    claim = lab.claimed("next")
    assert (claim.uid, claim.resource_version, claim.digest) == ("", "", "")
    assert claim.storm.fence > 500
    assert claim.storm.phase == ("ACTIVE" if phase == "firing" else "RESOLVED")
    assert lab.settle(claim, uid="uid-late") == "settled"
    clock.advance(1_000)
    assert orphans.match([stray], GRACE_MS, clock.now) == [Match("known")]


def test_what_was_written_since_the_look_began_is_left_alone(lab: Lab, clock: Clock, orphans: Orphans) -> None:
    # Given a look that began before the storm was written (again); When it meets what stood there then
    rr = written_storm(lab, clock)
    before = read_state(lab.client, STORM)
    found = orphans.match([replace(rr, uid="uid-before")], GRACE_MS, clock.now - 2_000)
    # Then that is old news
    assert found == [Match("known")]
    assert read_state(lab.client, STORM) == before


def test_a_holder_of_the_lease_settles_it_itself(lab: Lab, clock: Clock, orphans: Orphans) -> None:
    # Given a storm that somebody writes; When a stray of it is met
    rr = written_storm(lab, clock)
    lab.deliver(firing("more"))
    clock.advance(6_000)
    claim = lab.claimed("holder")
    found = orphans.match([replace(rr, uid="uid-late")], GRACE_MS, clock.now)
    # Then it is left to him: he meets another object than he knows
    assert found == [Match("known")]
    assert lab.settle(claim) == "settled"


def test_a_stray_in_another_namespace_is_a_double(lab: Lab, clock: Clock, orphans: Orphans) -> None:
    # Given a storm whose object had to go into the fallback; When its name turns up in its own namespace
    rr = written_storm(lab, clock)
    found = orphans.match([replace(rr, uid="uid-late", namespace="elsewhere")], GRACE_MS, clock.now)
    # Then both can stand there, and one is too many
    assert found == [Match("double", rr.name)]


def written_single(lab: Lab, clock: Clock) -> OpenObject:
    lab.deliver(firing("lone"))
    clock.at(6_000)
    claim = lab.write()
    assert isinstance(claim, Claim)
    assert claim.singles is not None
    [single] = claim.singles
    clock.advance(1_000)
    return OpenObject(
        "single", STORM, "rr-1", "shop", f"uid-{single.fingerprint}", "7", claim.storm.fence,
        fingerprint=single.fingerprint, opened_ms=single.opened_ms,
    )  # fmt: skip


@pytest.mark.parametrize("phase", ["Active", "Resolved"])
def test_a_stray_single_is_written_again(lab: Lab, clock: Clock, orphans: Orphans, phase: str) -> None:
    # Given a Single that was written, and whose object is another one now
    rr = written_single(lab, clock)
    assert orphans.match([rr], GRACE_MS, clock.now) == [Match("known")]
    if phase == "Resolved":
        lab.deliver(resolved("lone", 7_000))
        clock.advance(40_000)
        lab.write()
        clock.advance(1_000)
    # When a look meets it
    assert orphans.match([replace(rr, uid="uid-late", fence=500)], GRACE_MS, clock.now) == [Match("stray")]
    # Then it is due, in its phase, above the fence that was met, for an object that is to be met first
    claim = lab.claimed("next")
    assert claim.singles is not None
    [single] = claim.singles
    assert (single.want, single.uid, single.opened_ms) == (phase, "", rr.opened_ms)
    assert claim.storm.fence > 500


def test_a_stray_single_of_a_storm_is_superseded_again(lab: Lab, clock: Clock, orphans: Orphans) -> None:
    # Given a Single that a storm superseded
    rr = written_single(lab, clock)
    lab.deliver(*many(12))
    clock.advance(40_000)
    lab.write()
    clock.advance(1_000)
    # When it turns up open, as another object
    assert orphans.match([replace(rr, uid="uid-late", resource_version="3")], GRACE_MS, clock.now) == [Match("stray")]
    # Then the storm is due, and has this very object to supersede
    claim = lab.claimed("next")
    assert claim.singles is None
    [named] = lab.leases.singles(STORM)
    assert (named.fingerprint, named.state, named.uid) == (rr.fingerprint, "written", "uid-late")
    assert lab.settle(claim) == "settled"
    [named] = lab.leases.singles(STORM)
    assert named.state == "superseded"
