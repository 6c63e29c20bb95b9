"""What is going on when a fault strikes: what stood before, what is sent, and what must stand in the end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.alerts import storm_id
from lua_scripts.keys import shard_of
from tests.faults.senders import Sender
from tests.support import objects
from tests.support.expect import single_rr, storm_rr
from tests.support.scene import Scene, new_scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, at


@dataclass(slots=True)
class Group:
    """The alerts of one storm key: what was posted of them, and what must have become of them."""

    key: dict[str, str]
    firing: list[Alert]
    new: int
    resolved: int = 0
    storm: bool = True
    everything: list[Alert] = field(default_factory=list)
    superseded: list[Alert] = field(default_factory=list)
    least: int = 0
    """Alerts that were answered 202: so many at least must be in the ledger."""
    most: int = 0
    """Alerts that were sent, answered or not."""

    @property
    def storm_id(self) -> str:
        return storm_id(tuple(self.key.items()))

    def rrs(self, supersedes: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The storm RRs and the Singles that there must be, in any phase."""
        if not self.storm:
            return [], [single_rr(alert) for alert in self.firing]
        done = self.resolved > 0
        shown = self.everything if done else self.firing
        storm = storm_rr(shown, total=self.new, phase="Resolved" if done else "Active", supersedes=supersedes,
                         alert_count=0 if done else None)  # fmt: skip
        return [storm], [single_rr(alert, phase="Superseded") for alert in self.superseded]


class Situation:
    """One run of a cell: its own scene on a shared stack."""

    def __init__(self, stack: Stack, scene: Scene, groups: list[Group]) -> None:
        self.stack = stack
        self.scene = scene
        self.groups = groups
        self.sending: list[Alert] = []
        self._heard: set[Sender] = set()

    @property
    def storm_id(self) -> str:
        """That of the delivery's last storm key, the only one in most cases."""
        return self.groups[-1].storm_id

    def given(self, alerts: list[Alert]) -> None:
        """Before the fault: posted, taken in and written."""
        self.stack.post(alerts)
        self._count(alerts, 1, 1)
        self.wait_settled()

    def send(self) -> Sender:
        """As Alertmanager does: in the background, again and again until it is answered 202."""
        return Sender(self.stack, self.sending)

    def sent(self, sender: Sender) -> None:
        """Waits for the 202, and notes what was sent."""
        sender.wait_accepted()
        if sender not in self._heard:
            self._heard.add(sender)
            self._count(self.sending, sender.accepted, sender.attempts)

    def repeat(self) -> None:
        """The sender says again all that fires, as after its repeat_interval."""
        firing = [alert for group in self.groups for alert in group.firing]
        sender = Sender(self.stack, firing)
        sender.wait_accepted()
        self._count(firing, sender.accepted, sender.attempts)

    def more(self, count: int = 3) -> None:
        """News while the fault lasts: further alerts of the last storm key."""
        group = self.groups[-1]
        first = len(group.firing) + len(group.everything) + 100
        alerts = [self._like(group, number) for number in range(first, first + count)]
        group.firing += alerts
        group.new += count
        self.stack.post(alerts)
        self._count(alerts, 1, 1)

    def become_a_storm(self) -> None:
        """Nine more alerts: what stood are Singles of its first alerts."""
        [group] = self.groups
        group.storm, group.superseded = True, list(group.firing)
        self.more(9)

    def _like(self, group: Group, number: int) -> Alert:
        kind = group.key["alertname"].removesuffix(f"-{self.scene.tag}")
        return self.scene.pod_alert(f"web-{number:05d}", kind)

    def _count(self, alerts: list[Alert], accepted: int, attempts: int) -> None:
        for group in self.groups:
            own = sum(alert.labels["alertname"] == group.key["alertname"] for alert in alerts)
            group.least += own * accepted
            group.most += own * attempts

    def wait_taken_in(self) -> None:
        """Until workers have taken in all news, written or not."""

        def taken_in() -> bool:
            storms = [self.stack.storm(group.key) for group in self.groups]
            return all(
                storm is not None and storm["ledger"]["new"] >= group.new
                for storm, group in zip(storms, self.groups, strict=True)
            )

        wait_until(taken_in, "all news to be taken in", describe=self.stack.pending)

    def settled(self) -> bool:
        """Whether everything that was accepted is taken in, and written."""
        if not self.stack.quiet(*(group.key for group in self.groups)):
            return False
        for group in self.groups:
            storm = self.stack.storm(group.key)
            if storm is None or storm["ledger"]["received"] < group.least:
                return False
            if storm["ledger"]["new"] < group.new:
                return False
        return self.stack.pending() == 0 and self.stack.quiet(*(group.key for group in self.groups))

    def wait_settled(self, deadline_s: float = 30.0) -> None:
        wait_until(
            self.settled, "all that was accepted to be written", deadline_s=deadline_s,
            describe=lambda: [
                (self.stack.storm(group.key), group.least, self.stack.quiet(group.key)) for group in self.groups
            ],
        )  # fmt: skip


def new_storm(stack: Stack) -> Situation:
    """Nothing stands; twelve pods fail at once."""
    scene = new_scene()
    situation = Situation(stack, scene, [Group(scene.key(), scene.pods(12), 12)])
    situation.sending = scene.pods(12)
    return situation


def growing_storm(stack: Stack) -> Situation:
    """A storm of twelve has its RR; five more fail."""
    scene = new_scene()
    situation = Situation(stack, scene, [Group(scene.key(), scene.pods(12), 12)])
    situation.given(scene.pods(12))
    situation.sending = scene.pods(5, first=12)
    situation.groups[0].firing += situation.sending
    situation.groups[0].new = 17
    return situation


def lone_alerts(stack: Stack) -> Situation:
    """Nothing stands; three pods fail, which is no storm."""
    scene = new_scene()
    situation = Situation(stack, scene, [Group(scene.key(), scene.pods(3), 3, storm=False)])
    situation.sending = scene.pods(3)
    return situation


def superseding_storm(stack: Stack) -> Situation:
    """Three Singles stand; nine more pods fail, so that it is a storm."""
    situation = lone_alerts(stack)
    [group] = situation.groups
    situation.given(situation.sending)
    situation.sending = situation.scene.pods(9, first=3)
    group.storm, group.new, group.superseded = True, 12, list(group.firing)
    group.firing = [*group.firing, *situation.sending]
    return situation


def resolving_storm(stack: Stack) -> Situation:
    """A storm of twelve has its RR; all of it resolves."""
    scene = new_scene()
    situation = Situation(stack, scene, [Group(scene.key(), scene.pods(12), 12)])
    situation.given(scene.pods(12))
    [group] = situation.groups
    situation.sending = [alert.resolved(at(60)) for alert in scene.pods(12)]
    group.everything, group.firing, group.resolved = group.firing, [], 12
    return situation


def two_keys(stack: Stack) -> Situation:
    """Nothing stands; one delivery brings a storm for each of two shards."""
    scene = new_scene()
    kinds = (f"Kind{number}" for number in itertools.count())
    first = Group(scene.key(next(kinds)), [], 12)
    second = next(
        group
        for group in (Group(scene.key(kind), [], 12) for kind in kinds)
        if shard_of(group.storm_id) != shard_of(first.storm_id)
    )
    situation = Situation(stack, scene, [first, second])
    for group in (first, second):
        kind = group.key["alertname"].removesuffix(f"-{scene.tag}")
        group.firing = scene.pods(12, kind)
        situation.sending += group.firing
    return situation


SITUATIONS: dict[str, Callable[[Stack], Situation]] = {
    "new storm": new_storm,
    "growing storm": growing_storm,
    "lone alerts": lone_alerts,
    "superseding storm": superseding_storm,
    "resolving storm": resolving_storm,
    "two keys": two_keys,
}


def open_objects(stack: Stack, group: Group) -> list[objects.RR]:
    return [rr for rr in stack.objects(group.key) if rr["status"]["phase"] == "Active"]
