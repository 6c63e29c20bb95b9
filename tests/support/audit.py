"""What an API server's audit log says of the requests that wrote our objects: how many, when, and how they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Write:
    """One request that wrote, or tried to. ``at`` is when it came, in seconds."""

    at: float
    verb: str
    name: str
    subresource: str
    status: int

    @property
    def single(self) -> bool:
        """By the form of its name: a create does not always tell what it created."""
        return self.name.startswith("rr-")


def writes(events: Iterable[Mapping[str, Any]], *, resource: str = "remediationrequests") -> list[Write]:
    """Those of a kind, refused ones too, by when they came."""
    found = []
    for event in events:
        about = event.get("objectRef") or {}
        if about.get("resource") != resource or event["verb"] not in WRITES:
            continue
        came = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        status = int((event.get("responseStatus") or {}).get("code", 0))
        found.append(Write(came, event["verb"], about.get("name", ""), about.get("subresource", ""), status))
    return sorted(found, key=lambda one: one.at)


def most_within(found: Sequence[Write], seconds: float) -> int:
    """The most writes in any span of so many seconds."""
    most = first = 0
    for last, write in enumerate(found):
        while write.at - found[first].at >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most
