"""What really is the case behind the alerts of one sender, and what its Alertmanagers still have to say of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from app.cli.payloads import NEVER, fingerprint, timestamp

Kind = Literal["storm", "small", "grower", "lone"]
Resource = tuple[str, str, str]

KINDS: Final[Sequence[Kind]] = (*["storm"] * 4, *["grower"] * 2, *["small"] * 3, *["lone"] * 5)
"""Of the groups that a sender has."""
NAMESPACES: Final = tuple(f"shop-{number}" for number in range(len(KINDS)))

APART_MS: Final = 20
"""An alert fires again this much after it resolved, at least: two states of one alert never bear the same time."""


@dataclass(slots=True)
class Condition:
    """Something that may be wrong with one container. ``ends_ms`` is 0 while it never resolved since it last fired."""

    fingerprint: str
    resource: Resource
    text: bytes
    firing: bool = False
    starts_ms: int = 0
    ends_ms: int = 0
    told: bool = False
    """Whether the receiver has accepted it as firing since ``starts_ms``."""

    def fire(self, now_ms: int) -> None:
        self.firing, self.told = True, False
        self.starts_ms, self.ends_ms = max(now_ms, self.ends_ms + APART_MS), 0

    def fire_as_before(self) -> None:
        """After a partition Alertmanager says the same startsAt once more, although it had said that it resolved."""
        self.firing, self.ends_ms = True, 0

    def resolve(self, now_ms: int) -> None:
        self.firing, self.ends_ms = False, max(now_ms, self.starts_ms + APART_MS)

    def as_json(self) -> bytes:
        status = b'{"status":"firing","startsAt":"' if self.firing else b'{"status":"resolved","startsAt":"'
        ends = NEVER if self.firing else _time(self.ends_ms)
        return status + f'{_time(self.starts_ms)}","endsAt":"{ends}",'.encode() + self.text


@dataclass(frozen=True, slots=True)
class Said:
    """One alert as a delivery told it."""

    fingerprint: str
    resource: Resource
    firing: bool
    starts_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook body: the whole group as it was when one of the sender's Alertmanagers flushed it."""

    group: Group
    peer: int
    said: Sequence[Said]
    body: bytes


@dataclass(slots=True)
class Group:
    """All alerts of one storm key; ``owed`` holds for each Alertmanager what resolved and was not delivered yet."""

    kind: Kind
    key: Mapping[str, str]
    peers: int
    chance: random.Random
    conditions: dict[str, Condition] = field(default_factory=dict)
    present: list[Condition] = field(default_factory=list)
    """Those that still come and go; the others have resolved for good."""
    owed: list[set[str]] = field(default_factory=list)
    rests_until_ms: int = 0
    _made: int = 0

    def __post_init__(self) -> None:
        self.owed = [set() for _ in range(self.peers)]
        self._renew()

    def change(self, now_ms: int) -> None:
        """What happens between two looks at the group."""
        if now_ms < self.rests_until_ms:
            return
        firing = [one for one in self.present if one.firing]
        quiet = [one for one in self.present if not one.firing]
        if not firing:
            if self.chance.random() < 0.5:
                self._renew()
            self._fire(self.present, now_ms)
            return
        match self.kind:
            case "storm":
                self._change_storm(firing, quiet, now_ms)
            case "grower":
                self._grow(firing, now_ms)
            case _:
                self._fire(self._some(quiet, 1), now_ms)
                self._resolve(self._some(firing, 1), now_ms)
                self._rest_if_quiet(now_ms)

    def deliver(self, peer: int) -> Delivery | None:
        """What an Alertmanager says at its next flush: all that fires, and what resolved since it last got through."""
        owed = self.owed[peer]
        told = [one for one in self.conditions.values() if one.firing or one.fingerprint in owed]
        if not told:
            return None
        said = [Said(one.fingerprint, one.resource, one.firing, one.starts_ms, one.ends_ms) for one in told]
        return Delivery(self, peer, said, self._body(told))

    def accepted(self, delivery: Delivery) -> None:
        """The receiver took a delivery in: what it called resolved is no more owed, unless it changed meanwhile."""
        for said in delivery.said:
            condition = self.conditions[said.fingerprint]
            if said.firing:
                condition.told = condition.told or said.starts_ms == condition.starts_ms
            elif condition.ends_ms == said.ends_ms:
                self.owed[delivery.peer].discard(said.fingerprint)

    def _change_storm(self, firing: Sequence[Condition], quiet: Sequence[Condition], now_ms: int) -> None:
        what = self.chance.random()
        if what < 0.65:
            self._fire(self._some(quiet, 6), now_ms)
            self._resolve(self._some(firing, 4), now_ms)
        elif what < 0.75:
            self._resolve(firing[:: self.chance.choice((1, 2))], now_ms)
        elif what < 0.9:
            self._fire(quiet, now_ms)
        elif len(self.present) < 100:
            self._fire(self._make(min(10, 100 - len(self.present))), now_ms)
        self._rest_if_quiet(now_ms)

    def _grow(self, firing: Sequence[Condition], now_ms: int) -> None:
        """From a few Singles over the threshold into a storm, and then gone."""
        if len(self.present) < 15:
            self._fire(self._make(self.chance.randint(1, 3)), now_ms)
        else:
            self._resolve(firing, now_ms)
            self._rest_if_quiet(now_ms)

    def _rest_if_quiet(self, now_ms: int) -> None:
        if not any(one.firing for one in self.present):
            # From shorter than the reopen window to long enough for the storm to close.
            self.rests_until_ms = now_ms + self.chance.randint(1_000, 40_000)

    def _renew(self) -> None:
        """Other pods than before."""
        self.present = []
        size = {"storm": self.chance.randint(50, 100), "small": self.chance.randint(2, 4), "grower": 3, "lone": 1}
        self._make(size[self.kind])

    def _make(self, count: int) -> list[Condition]:
        made = []
        for _ in range(count):
            self._made += 1
            # Every tenth shares a pod with its neighbour.
            pod = f"web-{self._made - (self._made % 10 == 0):05d}"
            labels = dict(self.key) | {
                "pod": pod, "container": f"app-{self._made}", "severity": self.chance.choice(("warning", "critical")),
                "job": "kube-state-metrics", "prometheus": "monitoring/k8s",
            }  # fmt: skip
            if self.kind == "small" and self._made % 2:
                del labels["container"]
            text = json.dumps({
                "labels": dict(sorted(labels.items())),
                "annotations": {"summary": f"{pod} needs attention.", "runbook_url": "https://runbooks.example/pod"},
                "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up&g0.tab=1",
                "fingerprint": fingerprint(labels),
            })  # fmt: skip
            one = Condition(fingerprint(labels), ("Pod", self.key["namespace"], pod), text[1:].encode())
            self.conditions[one.fingerprint] = one
            made.append(one)
        self.present += made
        return made

    def _some(self, conditions: Sequence[Condition], most: int) -> list[Condition]:
        return self.chance.sample(conditions, min(len(conditions), self.chance.randint(0, most)))

    def _fire(self, conditions: Iterable[Condition], now_ms: int) -> None:
        for one in conditions:
            if one.firing:
                continue
            # Only where there is one Alertmanager and the receiver knows both sides of it: else the order is not
            # decided by what was accepted last.
            heard = one.told and self.peers == 1 and one.fingerprint not in self.owed[0]
            if heard and self.chance.random() < 0.1:
                one.fire_as_before()
            else:
                one.fire(now_ms)
            for owed in self.owed:
                owed.discard(one.fingerprint)

    def _resolve(self, conditions: Iterable[Condition], now_ms: int) -> None:
        for one in conditions:
            one.resolve(now_ms)
            for owed in self.owed:
                owed.add(one.fingerprint)

    def _body(self, told: Sequence[Condition]) -> bytes:
        labels = json.dumps(dict(sorted(self.key.items()))).encode()
        status = b"firing" if any(one.firing for one in told) else b"resolved"
        key = ", ".join(f'{name}=\\"{value}\\"' for name, value in sorted(self.key.items())).encode()
        return (
            b'{"receiver":"stormfold","status":"' + status + b'","alerts":['
            + b",".join(one.as_json() for one in told)
            + b'],"groupLabels":' + labels + b',"commonLabels":' + labels + b',"commonAnnotations":{}'
            + b',"externalURL":"http://alertmanager.example:9093","version":"4","groupKey":"{}:{' + key
            + b'}","truncatedAlerts":0}'
        )  # fmt: skip


def make_groups(sender: int, peers: int, chance: random.Random) -> list[Group]:
    """The groups of one sender, which is a cluster."""
    return [
        Group(
            kind,
            {"cluster": f"lab-{sender}", "namespace": namespace, "alertname": f"{kind.capitalize()}Trouble"},
            peers,
            random.Random(chance.random()),
        )
        for namespace, kind in zip(NAMESPACES, KINDS, strict=True)
    ]


def _time(ms: int) -> str:
    return timestamp(datetime.fromtimestamp(ms / 1000, UTC))
