"""The named cases of many senders at once: whatever the order in which they get through, one outcome."""

from __future__ import annotations

from functools import partial

from tests.support.cases import Case
from tests.support.expect import MAX_RESOURCES, expected, ledger, outcome, single_rr, storm_rr
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import at_once
from tests.support.webhook import Alert, at


def fifteen_webhooks(stack: Stack, scene: Scene) -> None:
    # Given fifteen alerts of one storm key
    alerts = scene.pods(15)
    # When each comes in a webhook of its own, all at the same time
    at_once(*(partial(stack.post, [alert]) for alert in alerts))
    stack.wait_received(scene.key(), 15)
    # Then there is one object in all, and it supersedes nothing
    assert outcome(stack, scene.key()) == expected(ledger(new=15), storms=[storm_rr(alerts)])


def fifty_similar(stack: Stack, scene: Scene) -> None:
    # Given fifty similar alerts, of two severities
    alerts = [
        scene.pod_alert(f"web-{number}", severity="critical" if number == 49 else "warning") for number in range(50)
    ]
    # When each comes in a webhook of its own, all at the same time
    at_once(*(partial(stack.post, [alert]) for alert in alerts))
    stack.wait_received(scene.key(), 50)
    # Then there is one object over fifty pods, as bad as its worst
    assert outcome(stack, scene.key()) == expected(ledger(new=50), storms=[storm_rr(alerts)])


def create_duplicate_and_storm(stack: Stack, scene: Scene) -> None:
    # Given four lone alerts, one alert that ten senders report, and a storm of twenty
    lone = {f"Lone{number}": scene.pod_alert("db-0", f"Lone{number}") for number in range(4)}
    repeated = scene.pod_alert("db-1", "Repeated")
    storm = scene.pods(20)
    # When all of it comes at the same time
    at_once(
        *(partial(stack.post, [alert]) for alert in lone.values()),
        *[partial(stack.post, [repeated])] * 10,
        *(partial(stack.post, storm[first : first + 2]) for first in range(0, 20, 2)),
    )
    for kind in lone:
        stack.wait_received(scene.key(kind), 1)
    stack.wait_received(scene.key("Repeated"), 10)
    stack.wait_received(scene.key(), 20)
    # Then each has its own outcome, untouched by the others
    for kind, alert in lone.items():
        assert outcome(stack, scene.key(kind)) == expected(ledger(new=1), singles=[single_rr(alert)])
    assert outcome(stack, scene.key("Repeated")) == expected(ledger(new=1, duplicate=9), singles=[single_rr(repeated)])
    assert outcome(stack, scene.key()) == expected(ledger(new=20), storms=[storm_rr(storm)])


def consistent_state(stack: Stack, scene: Scene) -> None:
    # Given four storms of twenty-five alerts each, every alert sent by two peers at the same time
    kinds = [f"Storm{number}" for number in range(4)]
    fired = {kind: scene.pods(25, kind) for kind in kinds}
    webhooks = [fired[kind][first : first + 5] for kind in kinds for first in range(0, 25, 5)]
    at_once(*(partial(stack.post, alerts) for alerts in webhooks * 2))
    # When ten of each resolve while five more of each fire, again told by two peers
    over: dict[str, list[Alert]] = {kind: [alert.resolved(at(30)) for alert in fired[kind][:10]] for kind in kinds}
    more = {kind: scene.pods(5, kind, first=25, starts=20) for kind in kinds}
    at_once(*(partial(stack.post, alerts) for kind in kinds for alerts in (over[kind], more[kind]) * 2))
    for kind in kinds:
        stack.wait_received(scene.key(kind), 80)
    # Then every storm shows the twenty that fire, its ledger balances, and its members say the same
    for kind in kinds:
        firing = fired[kind][10:] + more[kind]
        everything = fired[kind] + more[kind]
        assert outcome(stack, scene.key(kind)) == expected(
            ledger(new=30, duplicate=40, resolved=10), storms=[storm_rr(firing, all_alerts=everything)]
        )
        storm = stack.storm(scene.key(kind))
        assert storm is not None
        members = stack.pages(f"storms/{storm['id']}/members")
        assert {one["fingerprint"]: one["status"] for one in members} == {
            alert.fingerprint: "firing" if alert in firing else "resolved" for alert in everything
        }
        assert len(members) == 30


def duplicates_within_a_millisecond(stack: Stack, scene: Scene) -> None:
    # Given one alert
    alert = scene.pod_alert("web-0")
    # When twenty senders post it at the same moment
    at_once(*[partial(stack.post, [alert])] * 20)
    stack.wait_received(scene.key(), 20)
    # Then it counts once, and there is one object
    assert outcome(stack, scene.key()) == expected(ledger(new=1, duplicate=19), singles=[single_rr(alert)])


def varying_sizes(stack: Stack, scene: Scene) -> None:
    # Given 916 pods of one storm key in webhooks of 1 to 500 alerts
    sizes = (1, 5, 10, 50, 100, 250, 500)
    webhooks: list[list[Alert]] = []
    first = 0
    for size in sizes:
        webhooks.append(scene.pods(size, first=first))
        first += size
    everything = [alert for webhook in webhooks for alert in webhook]
    # When they come at the same time
    answers = at_once(*(partial(stack.post, webhook) for webhook in webhooks))
    stack.wait_received(scene.key(), len(everything))
    # Then one object counts them all, lists as many as it may, and says how many it leaves out
    assert [answer["accepted"] for answer in answers] == list(sizes)
    found = outcome(stack, scene.key())
    listed = found["storms"][0].pop("resources")
    storm = storm_rr(everything)
    reported = storm.pop("resources")
    assert found == expected(ledger(new=916), storms=[storm])
    assert (storm["listed"], storm["omitted"]) == (MAX_RESOURCES, 416)
    assert listed.items() <= reported.items()
    assert len(listed) == MAX_RESOURCES


CONCURRENT_CASES: dict[str, Case] = {
    "15 concurrent webhooks": fifteen_webhooks,
    "50 concurrent similar alerts": fifty_similar,
    "mixed concurrent create + duplicate + storm": create_duplicate_and_storm,
    "consistent state under concurrent load": consistent_state,
    "concurrent duplicates within 1 ms": duplicates_within_a_millisecond,
    "concurrent requests of varying payload sizes": varying_sizes,
}
