"""What the aggregate task asks of a sink, whichever it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from tasks.events import Event
from tasks.manifests import Manifest


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A written object: uid tells it from another one of its name, the resource version from its older self."""

    namespace: str
    name: str
    uid: str
    resource_version: str


class Deadline:
    """A point in monotonic time after which the holder's lease may be somebody else's, so that nothing may be sent."""

    __slots__ = ("_at",)

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - time.monotonic())


class Sink(Protocol):
    """Where RemediationRequests go. All methods raise the tree of ``tasks.sinks.errors`` and nothing else."""

    @property
    def installation(self) -> str:
        """Whose objects these are: several stormfolds may write to one place, each under its own name."""

    def put(self, manifest: Manifest, known: ObjectRef | None, deadline: Deadline) -> ObjectRef:
        """Write spec and fence, then status. Without ``known`` it creates; with it, only that very object is updated.

        The answer's namespace is where the object really is: the caller pins it.
        """

    def put_status(self, manifest: Manifest, known: ObjectRef, deadline: Deadline, *, queue: bool = True) -> ObjectRef:
        """Write the status alone; the manifest's spec may be partial and is not looked at.

        Where it has to wait for its turn, its storm has a place in the queue after that; without ``queue`` it has none.
        """

    def announce(self, about: ObjectRef, event: Event, deadline: Deadline, storm_id: str = "") -> None:
        """Tell those who look at the object of it; what was told before is not told twice."""

    def delete(self, known: ObjectRef, deadline: Deadline) -> bool:
        """Delete the very object as it was read; False where it is gone, or was changed since."""

    def owned(self, deadline: Deadline) -> Iterator[tuple[ObjectRef, Manifest]]:
        """All RemediationRequests of any stormfold, open or not, in pages; one written meanwhile may be missed."""

    def close(self) -> None:
        """Give back connections; the sink is not used afterwards."""
