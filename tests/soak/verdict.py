"""Compares what came out with what is the case; pure, so that the verdict itself can be tried."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.soak.book import Key
from tests.soak.seen import Seen
from tests.soak.watch import crowded
from tests.soak.world import Resource

CLASSES: Final = ("new", "duplicate", "reopened", "resolved", "outdated", "ignored", "pending", "deadLettered")


@dataclass(frozen=True, slots=True)
class OpenStorm:
    """A storm as the API shows it, with its firing members."""

    id: str
    key: Key
    phase: str
    alert_count: int
    ledger: Mapping[str, int]
    firing: Sequence[str]


@dataclass(slots=True)
class Comparison:
    """What is the case against what stands in open RRs."""

    firing: int = 0
    in_rrs: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def compare(
    truth: Mapping[Key, Mapping[str, Resource]], storms: Sequence[OpenStorm], found: Sequence[Seen]
) -> Comparison:
    """Every alert that fires must be in exactly one open RR, every other one in none, and the RRs must count right."""
    result = Comparison(firing=sum(len(firing) for firing in truth.values()))
    held = _holders(storms, found)
    fires = {(key, fingerprint) for key, firing in truth.items() for fingerprint in firing}
    for key, fingerprint in sorted(fires):
        names = held.get((key, fingerprint), [])
        if not names:
            result.lost.append(f"{dict(key)} {fingerprint} fires and is in no open RR")
        elif len(names) > 1:
            result.doubled.append(f"{dict(key)} {fingerprint} is in {names}")
        else:
            result.in_rrs += 1
    for key, fingerprint in sorted(held.keys() - fires):
        names = held[key, fingerprint]
        result.doubled.append(f"{dict(key)} {fingerprint} does not fire and is in {names}")
    result.wrong += crowded(list(found))
    result.wrong += _miscounted(truth, storms, found)
    return result


def _holders(storms: Sequence[OpenStorm], found: Sequence[Seen]) -> dict[tuple[Key, str], list[str]]:
    """By storm key and fingerprint the open RRs that the alert is in."""
    active = {seen.name for seen in found if seen.phase == "Active"}
    named = {name for seen in found if seen.type == "Storm" and seen.phase == "Active" for name in seen.supersedes}
    held: defaultdict[tuple[Key, str], list[str]] = defaultdict(list)
    for storm in storms:
        if storm.id in active:
            for fingerprint in storm.firing:
                held[storm.key, fingerprint].append(storm.id)
    for seen in found:
        if seen.type == "Single" and seen.phase == "Active" and seen.name not in named:
            held[seen.key, seen.fingerprint].append(seen.name)
    return dict(held)


def _miscounted(
    truth: Mapping[Key, Mapping[str, Resource]], storms: Sequence[OpenStorm], found: Sequence[Seen]
) -> list[str]:
    """Storm RRs that are open without a storm, or do not show the alerts that fire resource by resource."""
    wrong = []
    known = {storm.id: storm for storm in storms}
    for seen in found:
        if seen.by_hand:
            wrong.append(f"{seen.name} says what somebody edited")
        if seen.type != "Storm" or seen.phase != "Active":
            continue
        if seen.half:
            wrong.append(f"{seen.name} has a status that is older than its spec")
        storm = known.get(seen.name)
        wanted = Counter(truth.get(seen.key, {}).values())
        if storm is None:
            wrong.append(f"{seen.name} is Active and no storm of that name is open")
        elif seen.alert_count != len(storm.firing):
            wrong.append(f"{seen.name} counts {seen.alert_count} alerts, its storm has {len(storm.firing)} firing")
        if dict(seen.resources) != dict(wanted):
            surplus, missing = Counter(seen.resources) - wanted, wanted - Counter(seen.resources)
            wrong.append(f"{seen.name}: too much {dict(surplus)}, missing {dict(missing)}")
    return wrong + [
        f"{storm.id}: alertCount {storm.alert_count}, members firing {len(storm.firing)}"
        for storm in storms
        if storm.alert_count != len(storm.firing)
    ]


def unbalanced(
    ledger: Mapping[str, int], storms: Sequence[OpenStorm], *, accepted: int, ignored: int, attempted: int
) -> list[str]:
    """What is wrong with the ledgers: the classes must sum up, and what was accepted must have been received."""
    wrong = []
    for name, one in [("total", ledger), *((storm.id, storm.ledger) for storm in storms)]:
        total = sum(one.get(each, 0) for each in CLASSES)
        if one["received"] != total:
            wrong.append(f"ledger of {name}: received {one['received']}, classes sum up to {total}")
    if not accepted + ignored <= ledger["received"] <= attempted:
        wrong.append(
            f"ledger: received {ledger['received']}, accepted {accepted} and ignored {ignored} of {attempted} attempted"
        )
    if not ignored <= ledger["ignored"]:
        wrong.append(f"ledger: ignored {ledger['ignored']}, answered {ignored}")
    return wrong + [f"ledger: {each} {ledger[each]}" for each in ("pending", "deadLettered") if ledger[each]]
