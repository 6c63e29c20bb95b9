"""Objects that the sink refuses for what is in them: letters outside the ledger, and another try on demand."""

from __future__ import annotations

import pytest

from lua_scripts.errors import StoreFull
from lua_scripts.inbox import LetterCounts
from lua_scripts.leases import SingleOutcome
from lua_scripts.records import DeadLetter
from lua_scripts.refusals import LETTER_MAX, Refusals
from tests.scripts.lab import STORM, Clock, Lab, fill, firing, many, resolved
from tests.scripts.state import read_state


@pytest.fixture
def refusals(lab: Lab) -> Refusals:
    return Refusals(lab.client)


def letters(lab: Lab) -> list[DeadLetter]:
    return lab.inbox.dead_letters()[0]


def refused_storm(lab: Lab, clock: Clock) -> str:
    """A storm whose first RR the sink did not take; its name."""
    lab.deliver(*many(12))
    clock.at(6_000)
    claim = lab.claimed()
    assert lab.settle(claim, uid="", resource_version="", digest="refused") == "settled"
    return claim.storm.name


def test_a_letter_is_kept_in_place_of_an_earlier_one(lab: Lab, clock: Clock, refusals: Refusals) -> None:
    # Given alerts, and an object that was refused for one reason, and then for another
    lab.deliver(*many(12))
    before = lab.inbox.totals()
    refusals.bury("storm-x", STORM, "first", "shop/storm-x", "{}", None)
    clock.advance(1_000)
    refusals.bury("storm-x", STORM, "second", "shop/storm-x", "x" * (LETTER_MAX + 1), ("00000000000000aa", 7))
    # When the letters are read, Then there is one, with the later reason, cut where it was too long
    assert letters(lab) == [
        DeadLetter(
            "storm-x", "second", "shop/storm-x", "x" * LETTER_MAX, "", clock.now, cut=True, storm_id=STORM,
            fingerprint="00000000000000aa", opened_ms=7,
        )
    ]  # fmt: skip
    # And the ledger of alerts is as it was, before and after it is taken away
    assert lab.inbox.totals() == before
    refusals.clear("storm-x", STORM)
    assert (letters(lab), lab.inbox.totals(), lab.inbox.letter_counts()) == ([], before, LetterCounts())


def test_a_letter_is_kept_when_redis_is_full(lab: Lab, refusals: Refusals) -> None:
    # Given a Redis that takes nothing more; When an object is refused, Then that is kept all the same
    fill(lab.client)
    with pytest.raises(StoreFull):
        lab.accept(firing("x"))
    refusals.bury("storm-x", STORM, "reason", "shop/storm-x", "{}", None)
    assert [one.letter_id for one in letters(lab)] == ["storm-x"]


def test_a_refused_storm_waits_for_news(lab: Lab, clock: Clock) -> None:
    # Given a storm whose RR was refused; When time goes by, Then nothing is due
    refused_storm(lab, clock)
    clock.advance(3_600_000)
    assert lab.claim() == lab.claim()
    assert not hasattr(lab.claim(), "storm")
    # And when it changes, Then it is tried again, as one that was never written
    lab.deliver(firing("more"))
    clock.advance(60_000)
    claim = lab.claimed()
    assert (claim.uid, claim.digest, claim.storm.alert_count) == ("", "refused", 13)


def test_a_refused_storm_closes_like_any_other(lab: Lab, clock: Clock) -> None:
    # Given a storm whose RR is refused throughout
    refused_storm(lab, clock)
    lab.deliver(*(resolved(f"a{n}", 7_000) for n in range(12)))
    clock.advance(60_000)
    assert lab.settle(lab.claimed(), uid="", resource_version="", digest="refused, too") == "settled"
    # When its time is over, Then nothing of it is left
    clock.advance(lab.rules.reopen_window + lab.rules.tombstone)
    lab.write()
    assert read_state(lab.client, STORM) is None


def test_another_try_on_demand(lab: Lab, clock: Clock, refusals: Refusals) -> None:
    # Given a storm whose RR was refused
    name = refused_storm(lab, clock)
    letter = DeadLetter(name, "", "", "", "", storm_id=STORM)
    # When somebody asks for another try, Then it is due at once and believes nothing written
    assert refusals.again(letter) == "due"
    assert lab.due.flush_due(STORM) == "storm"
    claim = lab.claimed()
    assert (claim.uid, claim.digest) == ("", "")
    # And while it is written that cannot be asked
    assert refusals.again(letter) == "busy"
    assert lab.settle(claim) == "settled"
    # And a letter of another history of that key changes nothing
    before = read_state(lab.client, STORM)
    assert refusals.again(DeadLetter("storm-of-last-week", "", "", "", "", storm_id=STORM)) == "over"
    assert read_state(lab.client, STORM) == before


def test_another_try_for_a_single(lab: Lab, clock: Clock, refusals: Refusals) -> None:
    # Given a Single that was refused
    lab.deliver(firing("lone"))
    clock.at(6_000)
    claim = lab.claimed()
    assert claim.singles is not None
    [single] = claim.singles
    assert single.detail is not None
    refused = SingleOutcome(single.fingerprint, "Active", refused=True)
    lab.leases.settle_singles(STORM, claim.token, lab.rules, [refused], 500)
    letter = DeadLetter(
        "rr-1", "", "", "", "", storm_id=STORM, fingerprint=single.fingerprint, opened_ms=single.opened_ms
    )
    # When somebody asks for another try, Then it is written once more; not so for one of another time
    other = DeadLetter("rr-1", "", "", "", "", storm_id=STORM, fingerprint=single.fingerprint, opened_ms=1)
    assert refusals.again(other) == "over"
    assert not hasattr(lab.claim("early"), "storm")
    assert refusals.again(letter) == "due"
    claim = lab.claimed("again")
    assert claim.singles is not None
    assert [(one.fingerprint, one.want) for one in claim.singles] == [(single.fingerprint, "Active")]
    # And all that it says is still there
    assert claim.singles[0].detail == single.detail
    # And once it is taken, that is not kept any longer
    lab.settle(claim)
    assert read_state(lab.client, STORM).details == set()  # type: ignore[union-attr]
