"""The typed values that go into and come out of the scripts; raw replies never leave this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["GATHERING", "ACTIVE", "RESOLVED"]
StormType = Literal["", "pattern", "rate"]


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to be stored: at most 100 alerts of one storm key of one delivery, already packed."""

    entry_id: str
    storm_id: str
    alerts: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as the inbox holds it; ``received_ms`` is Redis's time when it was stored."""

    entry_id: str
    received_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An alert that could not be taken in, with the reason; ``alert`` is its JSON text, maybe ``cut``.

    With a ``storm_id`` it is an object instead that the sink refuses; a Single has fingerprint and time of opening.
    """

    letter_id: str
    reason: str
    path: str
    alert: str
    delivery_id: str
    buried_ms: int = 0
    cut: bool = False
    storm_id: str = ""
    fingerprint: str = ""
    opened_ms: int = 0

    @property
    def is_object(self) -> bool:
        """Whether an object is what could not go on, not an alert."""
        return self.storm_id != ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What ``accept`` confirms: the stamp, and whether the caller should publish a wake-up for the shard."""

    received_ms: int
    wake: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts of alerts. received = the sum of all others but ``unmatched``, the part that met no open storm."""

    received: int = 0
    new: int = 0
    duplicate: int = 0
    reopened: int = 0
    resolved: int = 0
    outdated: int = 0
    ignored: int = 0
    pending: int = 0
    dead_lettered: int = 0
    unmatched: int = 0

    def as_json(self) -> dict[str, int]:
        """The ledger under the names of the HTTP contract."""
        return {
            "received": self.received, "new": self.new, "duplicate": self.duplicate, "reopened": self.reopened,
            "resolved": self.resolved, "outdated": self.outdated, "ignored": self.ignored, "pending": self.pending,
            "deadLettered": self.dead_lettered,
        }  # fmt: skip

    @property
    def balanced(self) -> bool:
        """Whether every received alert is accounted for exactly once."""
        return self.received == (
            self.new + self.duplicate + self.reopened + self.resolved + self.outdated
            + self.ignored + self.pending + self.dead_lettered
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """A resource of a storm, with how many of its members fire."""

    kind: str
    name: str
    namespace: str
    node: str
    first_seen_ms: int
    alert_count: int


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A member of a storm. ``resource`` is None for members beyond MAX_MEMBERS."""

    fingerprint: str
    status: Literal["firing", "resolved"]
    starts_at_ms: int
    resource: ResourceRecord | None


@dataclass(frozen=True, slots=True)
class StormRecord:
    """The header of an open storm."""

    storm_id: str
    name: str
    namespace: str
    key: Mapping[str, str]
    phase: Phase
    storm_type: StormType
    epoch_ms: int
    alert_count: int
    total_alerts: int
    first_seen_ms: int
    last_seen_ms: int
    flaps: int
    fence: int
    ledger: Ledger = field(default_factory=Ledger)
    silenced: int | None = None
    """Members firing that Alertmanager silences; None where none ever was."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The storm rules that the scripts follow; all times in ms."""

    rate_threshold: int
    rate_window: int
    pattern_threshold: int
    pattern_window: int
    debounce: int
    max_wait: int
    single_hold: int
    reopen_window: int
    stale_after: int
    max_members: int
    tombstone: int

    def as_list(self) -> list[int]:
        """In the order that storm.lua's ``unpack_rules`` reads."""
        return [
            self.rate_threshold, self.rate_window, self.pattern_threshold, self.pattern_window, self.debounce,
            self.max_wait, self.single_hold, self.reopen_window, self.stale_after, self.max_members, self.tombstone,
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class StormAlert:
    """One alert as ``ingest`` takes it; times in ms, ``ends_at_ms`` 0 when firing, ``severity`` a rank 0..4."""

    fingerprint: str
    firing: bool
    starts_at_ms: int
    ends_at_ms: int
    severity: int
    kind: str
    name: str
    namespace: str
    node: str
    causes: tuple[str, ...] | None = ()
    """The values of the entry's cause labels, '' for none; None where its labels are not known."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A label value that at least so many percent of a storm's firing members share."""

    label: str
    value: str
    percent: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What ``ingest`` did with an entry.

    ``gone``: it was taken in before; ``detail``: nothing, call again with details; ``ok``: the counts tell.
    """

    status: Literal["ok", "gone", "detail"]
    new: int = 0
    duplicate: int = 0
    reopened: int = 0
    resolved: int = 0
    outdated: int = 0
    phase: Phase | None = None
