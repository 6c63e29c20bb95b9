"""Which alerts of the list are to be fed to the inbox, and which members are to be presumed resolved; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from app.alerts import Alert, Matcher, storm_id, storm_key
from lua_scripts.presence import Absences, FiringMember, HeldOf
from lua_scripts.records import StormRecord
from tasks.alertmanager.listing import ListedAlert, Listing

POLLS: Final = 3
"""A member that so many polls in a row have missed is presumed resolved."""
MAX_ABSENT: Final = 5_000
"""Members of one storm that are counted at a time; the others wait for their turn."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Listed alerts that concern us, by storm id: those that may have to be fed, and those that are silenced."""

    active: Mapping[str, Sequence[ListedAlert]]
    silenced: Mapping[str, Sequence[ListedAlert]]

    def fingerprints(self) -> dict[str, list[str]]:
        """What to ask Redis about."""
        asked: dict[str, list[str]] = {}
        for storm, alerts in chain(self.active.items(), self.silenced.items()):
            asked.setdefault(storm, []).extend(one.alert.fingerprint for one in alerts)
        return asked


def concern(listing: Listing, group_by: Sequence[str], ignore: Sequence[Matcher], receiver: str) -> Wanted:
    """Where a receiver is named only its alerts are fed; what is silenced matters whoever receives it."""
    active: dict[str, list[ListedAlert]] = {}
    silenced: dict[str, list[ListedAlert]] = {}
    for listed in listing.alerts.values():
        if any(matcher.matches(listed.alert.labels) for matcher in ignore):
            continue
        storm = storm_id(storm_key(listed.alert.labels, group_by))
        if listed.silenced:
            silenced.setdefault(storm, []).append(listed)
        elif listed.active and (listed.named or not receiver):
            active.setdefault(storm, []).append(listed)
    return Wanted(active, silenced)


def to_feed(
    wanted: Wanted, held: Mapping[str, HeldOf], now_ms: int, *, start_grace_ms: int, resolve_grace_ms: int
) -> list[Alert]:
    """The active alerts that no storm holds as firing. Those that no receiver names only where their storm is open.

    What one peer said is resolved may stand in a slower peer's list for a while: it has a grace of its own.
    """
    fed: list[Alert] = []
    for storm, alerts in wanted.active.items():
        of_storm = held.get(storm, HeldOf())
        for listed in alerts:
            if listed.age_ms < start_grace_ms or not (listed.named or of_storm.open):
                continue
            known = of_storm.alerts.get(listed.alert.fingerprint)
            if known is None or (not known.firing and now_ms - known.resolved_ms >= resolve_grace_ms):
                fed.append(listed.alert)
    return fed


def silenced_members(wanted: Wanted, held: Mapping[str, HeldOf]) -> dict[str, frozenset[str]]:
    """Which firing members of each open storm are silenced."""
    names = {
        storm: frozenset(alert.fingerprint for alert in _firing(alerts, held.get(storm)))
        for storm, alerts in wanted.silenced.items()
    }
    return {storm: fingerprints for storm, fingerprints in names.items() if fingerprints}


def to_refresh(wanted: Wanted, held: Mapping[str, HeldOf], storms: Iterable[StormRecord]) -> list[Alert]:
    """What is told once more so that it does not go stale: Alertmanager repeats nothing that it silences.

    One alert is enough for a storm; where there is none each has a Single that would go stale by itself.
    """
    repeated: list[Alert] = []
    for storm in storms:
        listed = (*wanted.active.get(storm.storm_id, ()), *wanted.silenced.get(storm.storm_id, ()))
        firing = _firing(listed, held.get(storm.storm_id))
        repeated += firing if storm.phase == "GATHERING" else firing[:1]
    return repeated


def _firing(alerts: Iterable[ListedAlert], held: HeldOf | None) -> list[Alert]:
    """Those of the alerts that the storm holds as firing."""
    known = held.alerts if held else {}
    return [
        one.alert for one in alerts if one.alert.fingerprint in known and known[one.alert.fingerprint].firing
    ]  # fmt: skip


def absent(members: Iterable[FiringMember], present: frozenset[str]) -> Iterator[FiringMember]:
    """The members that no peer lists, each once."""
    seen: set[str] = set()
    for member in members:
        if member.fingerprint not in present and member.fingerprint not in seen:
            seen.add(member.fingerprint)
            yield member


def presume(missing: Iterable[FiringMember], before: Absences, poll: int) -> tuple[list[FiringMember], Absences]:
    """(members to be presumed resolved, what to note). Only counts of the poll just before go on."""
    counts = before.counts if before.poll == poll - 1 else {}
    presumed: list[FiringMember] = []
    noted: dict[str, int] = {}
    new = 0
    for member in missing:
        count = counts.get(member.fingerprint, 0) + 1
        if count >= POLLS:
            presumed.append(member)
        elif count > 1 or new < MAX_ABSENT - len(counts):
            noted[member.fingerprint] = count
            new += count == 1
    return presumed, Absences(poll, noted)


def presumed_resolve(member: FiringMember) -> Alert:
    """The resolve that a member gets which nobody lists any more.

    Its end is the earliest that applies: any firing that started later reopens the member, whenever it was received,
    and one that started no later does where it is received later.
    """
    end = max(member.starts_at_ms, member.last_end_ms + 1)
    return Alert(member.fingerprint, False, member.starts_at_ms, end, {}, {}, "")
