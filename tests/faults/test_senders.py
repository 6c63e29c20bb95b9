"""Senders that repeat, lag behind each other or speak at once: one outcome, each alert counted where it belongs."""

from __future__ import annotations

from functools import partial

import pytest

from tests.faults.benches import Benches
from tests.faults.situations import new_storm
from tests.faults.whole_state import assert_history, assert_nothing_waits, assert_totals_balance, assert_whole_state
from tests.support.expect import expected, ledger, outcome, storm_rr
from tests.support.scene import new_scene
from tests.support.waiting import at_once, wait_until
from tests.support.webhook import at


def test_the_same_delivery_twice(benches: Benches) -> None:
    with benches("plain") as steps:
        # Given a delivery that is written
        situation = new_storm(steps.stack)
        situation.given(situation.sending)
        before = steps.stack.objects(situation.groups[0].key)
        # When it comes again
        situation.given(situation.sending)
        # Then it is counted as a repeat, and the object was not written again
        assert_whole_state(steps, situation)
        assert steps.stack.objects(situation.groups[0].key) == before
        assert len(steps.journal(situation.groups[0].key)) == 1


@pytest.mark.slow
def test_two_alertmanagers_at_once(benches: Benches) -> None:
    with benches("plain") as steps:
        # Given a storm
        situation = new_storm(steps.stack)
        situation.given(situation.sending)
        [group] = situation.groups
        # When two Alertmanagers tell of each further alert, with the whole group, at the same instant
        for number in range(12, 20):
            situation.sending = situation.scene.pods(number + 1)
            group.firing, group.new = situation.sending, number + 1
            for answer in at_once(*[partial(steps.stack.post, situation.sending)] * 2):
                assert answer["accepted"] == number + 1
            group.least += 2 * (number + 1)
            group.most += 2 * (number + 1)
        situation.wait_settled()
        # Then all of it is one storm, and everything said twice a duplicate
        assert_whole_state(steps, situation)


@pytest.mark.slow
def test_an_alertmanager_that_lags_a_whole_storm_behind(benches: Benches) -> None:
    with benches("plain") as steps:
        stack, scene = steps.stack, new_scene()
        alerts = scene.pods(12)
        ended = [alert.resolved(at(60)) for alert in alerts]
        # Given one Alertmanager that told of a storm and of its end
        stack.post(alerts)
        stack.wait_received(scene.key(), 12)
        stack.post(ended)
        stack.wait_received(scene.key(), 24)
        # When the other one, until now cut off, tells of the beginning only now, and then of the end
        stack.post(alerts)
        stack.wait_received(scene.key(), 36)
        again = outcome(stack, scene.key())
        stack.post(ended)
        stack.wait_received(scene.key(), 48)
        # Then it was believed both times, for nobody can tell a lag from a relapse; and it is over in the end
        assert again == expected(ledger(new=12, resolved=12, reopened=12), storms=[storm_rr(alerts, total=24, flaps=1)])
        rr = storm_rr(alerts, total=24, flaps=1, phase="Resolved", alert_count=0)
        counts = ledger(new=12, resolved=24, reopened=12)
        assert outcome(stack, scene.key()) == expected(counts, storms=[rr], phase="RESOLVED", alert_count=0)
        assert_history(steps.journal(scene.key()), stack.objects(scene.key()))
        assert_nothing_waits(stack)
        assert_totals_balance(stack)


@pytest.mark.slow
def test_the_end_overtakes_the_beginning(benches: Benches) -> None:
    with benches("plain") as steps:
        stack, scene = steps.stack, new_scene()
        alerts = scene.pods(12)
        outdated = stack.api("storms")["ledger"]["outdated"]
        # Given the end of a storm that nobody has told of yet
        stack.post([alert.resolved(at(60)) for alert in alerts])
        wait_until(lambda: stack.pending() == 0, "it to be taken in")
        # When its beginning comes, twice
        stack.post(alerts)
        stack.post(alerts)
        wait_until(lambda: stack.pending() == 0, "it to be taken in")
        # Then there is no storm and no object, and all of it is counted as outdated
        assert outcome(stack, scene.key()) == expected(None)
        assert steps.journal(scene.key()) == []
        assert_nothing_waits(stack)
        assert_totals_balance(stack)
        assert stack.api("storms")["ledger"]["outdated"] == outdated + 36
