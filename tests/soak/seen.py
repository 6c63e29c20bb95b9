"""An object as it was seen, whatever kind of sink it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.soak.book import Key, key_of
from tests.soak.world import Resource
from tests.support import objects

FINGERPRINT: Final = "remediation.stormfold.io/fingerprint"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an object said at a time. ``phase`` is empty while its status is not written yet."""

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
    by_hand: bool = False
    """Somebody else's edit stands in it: what it says is not what was written."""
    half: bool = False
    """Its spec is newer than its status: the one is written after the other."""


class Gone(Exception):
    """The objects are out of reach for now."""


class Source(Protocol):
    """Where the objects are."""

    def read(self) -> Mapping[str, Seen]:
        """All of them, by place; the very same ``Seen`` again for what did not change. Raises ``Gone``."""

    def removed(self, uid: str) -> bool:
        """Whether somebody deleted this object on purpose."""


def seen_of(rr: Mapping[str, Any], *, fence: int, uid: str, written_at: float) -> Seen:
    """What is told of an object, as it was read."""
    spec, metadata, status = rr["spec"], rr["metadata"], rr.get("status") or {}
    aggregation = spec.get("stormAggregation", {})
    return Seen(
        name=metadata["name"],
        key=key_of(spec["stormKey"]),
        type=spec["type"],
        phase=status.get("phase", ""),
        fence=fence,
        uid=uid,
        written_at=written_at,
        observed_at=status.get("observedAt", ""),
        fingerprint=metadata["annotations"].get(FINGERPRINT, ""),
        alert_count=aggregation.get("alertCount", 1),
        total_alerts=aggregation.get("totalAlerts", 1),
        resources={objects.resource(line): line["alertCount"] for line in aggregation.get("affectedResources", [])},
        supersedes=frozenset(aggregation.get("supersedes", ())),
    )
