"""Reads the objects all the time: no fence goes back, no key has two open storms, and how long an alert waits."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

from tests.soak.book import Awaited, Book, Key
from tests.soak.seen import Gone, Seen, Source
from tests.soak.world import Resource

POLL_S: Final = 0.5
OPEN: Final = ("Active", "")
"""Phases of an object that nobody has closed: its status may not be written yet."""


@dataclass(frozen=True, slots=True)
class Delay:
    """From the moment a firing was accepted until an object that shows it was written."""

    seconds: float
    awaited: Awaited | None = None


def backwards(before: Seen, after: Seen, *, removed: bool = False) -> list[str]:
    """What is older in a later version of an object than in an earlier one; ``removed``: which was deleted by hand."""
    found = []
    if after.fence < before.fence:
        found.append(f"its fence went back from {before.fence} to {after.fence}")
    # One that was made anew has no status at first.
    if after.observed_at < before.observed_at and not (removed and after.observed_at == ""):
        found.append(f"it was observed at {after.observed_at}, after {before.observed_at}")
    if after.total_alerts < before.total_alerts:
        found.append(f"its totalAlerts went back from {before.total_alerts} to {after.total_alerts}")
    if after.uid != before.uid and not removed:
        found.append("it is another object of the same name")
    if before.phase in ("Superseded", "Stale") and after.phase != before.phase:
        found.append(f"it was {before.phase} and is {after.phase} again")
    return [f"{after.name}: {what}" for what in found]


class Watch(threading.Thread):
    """Looks twice a second; what must not be goes into the book."""

    def __init__(self, source: Source, book: Book) -> None:
        super().__init__(name="watch", daemon=True)
        self._source = source
        self._book = book
        self._over = threading.Event()
        self._seen: dict[str, Seen] = {}
        """The last version of each object that nobody had edited."""
        self._reported: set[str] = set()
        self.delays: list[float] = []
        self.worst = Delay(0.0)
        self.versions = 0

    def finish(self) -> None:
        self._over.set()
        self.join(30)

    def run(self) -> None:
        while not self._over.wait(POLL_S):
            with contextlib.suppress(Gone):
                self.look()

    def look(self) -> list[Seen]:
        """All objects as they are now. Raises ``Gone``."""
        # Asked for before the objects are read: what was accepted later may stand in none of them.
        awaited = self._book.awaited()
        found = self._source.read()
        for place, seen in found.items():
            before = self._seen.get(place)
            if before is seen or seen.by_hand:
                continue
            if before is not None:
                removed = before.uid != seen.uid and self._source.removed(before.uid)
                self._report(backwards(before, seen, removed=removed))
            self._seen[place] = seen
            self.versions += 1
        for place in self._seen.keys() - found.keys():
            if not self._source.removed(self._seen[place].uid):
                self._report([f"{place} is gone, and nobody deleted it by hand"])
        self._report(crowded(list(found.values())))
        self._measure(awaited, list(found.values()))
        return list(found.values())

    def _report(self, whats: list[str]) -> None:
        for what in whats:
            if what not in self._reported:
                self._reported.add(what)
                self._book.wrong(what)

    def _measure(self, awaited: list[Awaited], found: list[Seen]) -> None:
        singles: dict[str, Seen] = {}
        storms: dict[tuple[Key, Resource], Seen] = {}
        for seen in found:
            if seen.phase != "Active":
                continue
            if seen.type == "Single":
                singles[seen.fingerprint] = seen
            storms |= dict.fromkeys(((seen.key, resource) for resource in seen.resources), seen)
        shown = []
        for one in awaited:
            seen_in = storms.get((one.key, one.resource)) or singles.get(one.fingerprint)
            if seen_in is None:
                continue
            shown.append(one)
            delay = max(0.0, seen_in.written_at - one.accepted_at)
            self.delays.append(delay)
            if delay > self.worst.seconds:
                self.worst = Delay(delay, one)
        self._book.seen(shown)


def crowded(found: list[Seen]) -> list[str]:
    """Storm keys with more than one open storm RR."""
    by_key: defaultdict[Key, list[str]] = defaultdict(list)
    for seen in found:
        if seen.type == "Storm" and seen.phase in OPEN:
            by_key[seen.key].append(seen.name)
    return [f"{dict(key)} has several open storms: {sorted(names)}" for key, names in by_key.items() if len(names) > 1]


def phases(found: list[Seen]) -> Counter[str]:
    return Counter(f"{seen.type} {seen.phase}" for seen in found)
