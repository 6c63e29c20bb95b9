"""What the senders were told: accepted, refused, unanswered; and what must come out of it in the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.soak.world import Delivery, Group, Resource, Said

Key = tuple[tuple[str, str], ...]


def key_of(labels: Mapping[str, str]) -> Key:
    return tuple(sorted(labels.items()))


@dataclass(frozen=True, slots=True)
class Awaited:
    """A firing that was accepted and that nobody has seen in an open RR yet."""

    fingerprint: str
    key: Key
    resource: Resource
    accepted_at: float


@dataclass(slots=True)
class Figures:
    """Counts over the whole run, in alerts unless said otherwise."""

    attempted: int = 0
    accepted: int = 0
    ignored: int = 0
    deliveries: int = 0
    repeats: int = 0
    unanswered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_answer_s: float = 0.0


class Book:
    """Shared by all senders and the watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._figures = Figures()
        self._awaited: dict[str, Awaited] = {}
        self._told: dict[str, int] = {}
        self._wrong: list[str] = []
        self.groups: list[Group] = []

    def attempt(self, alerts: int) -> None:
        with self._lock:
            self._figures.attempted += alerts

    def answered(self, seconds: float) -> None:
        with self._lock:
            self._figures.slowest_answer_s = max(self._figures.slowest_answer_s, seconds)

    def unanswered(self) -> None:
        with self._lock:
            self._figures.unanswered += 1

    def refused(self, problem: str) -> None:
        with self._lock:
            self._figures.refused[problem] += 1

    def ignored(self, alerts: int) -> None:
        with self._lock:
            self._figures.ignored += alerts

    def accepted(self, delivery: Delivery, at: float, *, repeat: bool) -> None:
        """The receiver answered 202 at a time (of the wall clock)."""
        key = key_of(delivery.group.key)
        with self._lock:
            self._figures.accepted += len(delivery.said)
            self._figures.deliveries += 1
            self._figures.repeats += repeat
            for said in delivery.said:
                self._hear(said, key, at)

    def _hear(self, said: Said, key: Key, at: float) -> None:
        if not said.firing:
            self._awaited.pop(said.fingerprint, None)
            self._told.pop(said.fingerprint, None)
        elif self._told.get(said.fingerprint) != said.starts_ms:
            self._told[said.fingerprint] = said.starts_ms
            self._awaited[said.fingerprint] = Awaited(said.fingerprint, key, said.resource, at)

    def awaited(self) -> list[Awaited]:
        with self._lock:
            return list(self._awaited.values())

    def seen(self, ones: Sequence[Awaited]) -> None:
        """These stand in an open RR by now."""
        with self._lock:
            for one in ones:
                if self._awaited.get(one.fingerprint) is one:
                    del self._awaited[one.fingerprint]

    def wrong(self, what: str) -> None:
        """Something that must never happen; the run goes on and fails in the end."""
        with self._lock:
            self._wrong.append(what)

    def wrongs(self) -> list[str]:
        with self._lock:
            return list(self._wrong)

    def figures(self) -> Figures:
        with self._lock:
            now = self._figures
            return Figures(
                now.attempted, now.accepted, now.ignored, now.deliveries, now.repeats, now.unanswered,
                Counter(now.refused), now.slowest_answer_s,
            )  # fmt: skip

    def firing(self) -> dict[Key, dict[str, Resource]]:
        """The truth at rest: by storm key the alerts that fire, each of which was accepted as such last."""
        return {
            key_of(group.key): {one.fingerprint: one.resource for one in group.conditions.values() if one.firing}
            for group in self.groups
        }
