"""What is worth an Event in the life of a storm's RR: detected, fired again, resolved, without news; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tasks.manifests import Manifest

MAX_NOTE: Final = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """``key`` is the same whenever the same thing is told of the same object, so that it is told once."""

    key: str
    reason: Literal["StormDetected", "StormReopened", "StormResolved", "StormStale"]
    kind: Literal["Normal", "Warning"]
    note: str


def stage_of(manifest: Manifest) -> str:
    """How far the storm of an RR is: its phase, and how often it fired again."""
    status = manifest["status"]
    return f"{status['phase'][0]}{status['flaps']}"


def events(manifest: Manifest, told: str) -> Iterator[Event]:
    """What is to be told of a storm's RR as it stands, after its stage ``told`` ('': nothing yet)."""
    stage = stage_of(manifest)
    if stage == told:
        return
    aggregation = manifest["spec"]["stormAggregation"]
    alerts, resources = aggregation["alertCount"], aggregation["resourceCount"]
    firing = f"{alerts} alerts fire on {resources} resources"
    name = manifest["spec"]["signal"]["name"][:200]
    if not told:
        yield _event("detected", "StormDetected", "Warning", f"{aggregation['stormType']} storm of {name}: {firing}")
    elif stage[0] == "A":
        yield _event(stage, "StormReopened", "Warning", f"{name} fires again: {firing}")
    if stage[0] == "R":
        text = f"all {aggregation['totalAlerts']} alerts of {name} are resolved"
        yield _event(stage, "StormResolved", "Normal", text)
    elif stage[0] == "S" and manifest["status"]["phase"] == "Stale":
        yield _event(stage, "StormStale", "Warning", f"no news of {name} for too long")


def _event(
    key: str,
    reason: Literal["StormDetected", "StormReopened", "StormResolved", "StormStale"],
    kind: Literal["Normal", "Warning"],
    note: str,
) -> Event:
    return Event(key.lower(), reason, kind, note[:MAX_NOTE])
