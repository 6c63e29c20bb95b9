"""Reads the manifests all the time: no fence goes back, no key has two open storms, and how long an alert waits."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.soak.book import Awaited, Book, Key, key_of
from tests.soak.world import Resource
from tests.support import objects

POLL_S: Final = 0.5
UID: Final = "remediation.stormfold.io/file-uid"
FINGERPRINT: Final = "remediation.stormfold.io/fingerprint"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a manifest said at a time."""

    name: str
    key: Key
    type: str
    phase: str
    fence: int
    uid: str
    written_at: float
    observed_at: str
    fingerprint: str
    alert_count: int
    total_alerts: int
    resources: Mapping[Resource, int]
    supersedes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Delay:
    """From the moment a firing was accepted until a manifest that shows it was written."""

    seconds: float
    awaited: Awaited | None = None


def read(path: Path) -> Seen:
    """One manifest, whole: the sink replaces files by renaming."""
    with path.open("rb") as file:
        text = file.read()
        written_at = path.stat().st_mtime
    rr: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    spec, status, metadata = rr["spec"], rr["status"], rr["metadata"]
    aggregation = spec.get("stormAggregation", {})
    return Seen(
        name=metadata["name"],
        key=key_of(spec["stormKey"]),
        type=spec["type"],
        phase=status["phase"],
        fence=objects.fence(rr),
        uid=metadata["annotations"][UID],
        written_at=written_at,
        observed_at=status["observedAt"],
        fingerprint=metadata["annotations"].get(FINGERPRINT, ""),
        alert_count=aggregation.get("alertCount", 1),
        total_alerts=aggregation.get("totalAlerts", 1),
        resources={objects.resource(line): line["alertCount"] for line in aggregation.get("affectedResources", [])},
        supersedes=frozenset(aggregation.get("supersedes", ())),
    )


def backwards(before: Seen, after: Seen) -> list[str]:
    """What is older in a later version of an object than in an earlier one."""
    found = []
    if after.fence < before.fence:
        found.append(f"its fence went back from {before.fence} to {after.fence}")
    if after.observed_at < before.observed_at:
        found.append(f"it was observed at {after.observed_at}, after {before.observed_at}")
    if after.total_alerts < before.total_alerts:
        found.append(f"its totalAlerts went back from {before.total_alerts} to {after.total_alerts}")
    if after.uid != before.uid:
        found.append("it is another object of the same name")
    if before.phase in ("Superseded", "Stale") and after.phase != before.phase:
        found.append(f"it was {before.phase} and is {after.phase} again")
    return [f"{after.name}: {what}" for what in found]


class Watch(threading.Thread):
    """Looks twice a second; what must not be goes into the book."""

    def __init__(self, folder: Path, book: Book) -> None:
        super().__init__(name="watch", daemon=True)
        self._folder = folder
        self._book = book
        self._over = threading.Event()
        self._states: dict[Path, tuple[int, int]] = {}
        self._seen: dict[Path, Seen] = {}
        self._reported: set[str] = set()
        self.delays: list[float] = []
        self.worst = Delay(0.0)
        self.versions = 0

    def finish(self) -> None:
        self._over.set()
        self.join(30)

    def run(self) -> None:
        while not self._over.wait(POLL_S):
            self.look()

    def look(self) -> list[Seen]:
        """All objects as they are now."""
        # Asked for before the files are read: what was accepted later may stand in none of them.
        awaited = self._book.awaited()
        for path in self._folder.glob("*/*.yaml"):
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_ino)
            if self._states.get(path) == state:
                continue
            seen = read(path)
            if path in self._seen:
                self._report(backwards(self._seen[path], seen))
            self._states[path], self._seen[path] = state, seen
            self.versions += 1
        found = list(self._seen.values())
        self._report(crowded(found))
        self._measure(awaited, found)
        return found

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
        if seen.type == "Storm" and seen.phase == "Active":
            by_key[seen.key].append(seen.name)
    return [f"{dict(key)} has several open storms: {sorted(names)}" for key, names in by_key.items() if len(names) > 1]


def phases(found: list[Seen]) -> Counter[str]:
    return Counter(f"{seen.type} {seen.phase}" for seen in found)
