"""Holding what is in the sink against the state: what an emptied Redis forgot is adopted, doubles are superseded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from lua_scripts.orphans import Match, OpenObject, Orphans
from tasks.content import single_name
from tasks.manifests import (
    FINGERPRINT_ANNOTATION,
    OPENED_ANNOTATION,
    STORM_ID_LABEL,
    TYPE_LABEL,
    Manifest,
    closed_manifest,
)
from tasks.retention import Retention
from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import NewerFence, ObjectGone
from tasks.sinks.objects import fence_of, is_storm_id, number_of

TIME_S: Final = 120.0
BATCH: Final = 200

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reconciled:
    """What one look through the sink found and did."""

    seen: int = 0
    known: int = 0
    orphans: int = 0
    doubles: int = 0
    lost: int = 0
    restored: int = 0
    expired: int = 0


def open_object(ref: ObjectRef, manifest: Manifest) -> OpenObject | None:
    """The object as the state is asked about it; None where it is not open, or somebody took its marks away."""
    labels = manifest["metadata"].get("labels") or {}
    annotations = manifest["metadata"].get("annotations") or {}
    storm_id = str(labels.get(STORM_ID_LABEL, ""))
    if (manifest.get("status") or {}).get("phase", "Active") != "Active" or not is_storm_id(storm_id):
        return None
    if labels.get(TYPE_LABEL) == "Storm":
        aggregation = (manifest.get("spec") or {}).get("stormAggregation") or {}
        rate = aggregation.get("stormType") == "rate"
        return OpenObject(
            "storm", storm_id, ref.name, ref.namespace, ref.uid, ref.resource_version, fence_of(manifest),
            storm_type="rate" if rate else "pattern",
        )  # fmt: skip
    fingerprint = str(annotations.get(FINGERPRINT_ANNOTATION, ""))
    opened = number_of(annotations.get(OPENED_ANNOTATION))
    # A name that does not follow from them would never be written again by us: such an object is nobody's.
    if labels.get(TYPE_LABEL) != "Single" or not fingerprint or single_name(fingerprint, opened) != ref.name:
        return None
    return OpenObject(
        "single", storm_id, ref.name, ref.namespace, ref.uid, ref.resource_version, fence_of(manifest),
        fingerprint=fingerprint, opened_ms=opened,
    )  # fmt: skip


class Reconciler:
    """One look through the sink. Any number may run at once: each verdict is made and taken in one script call.

    Without a retention nothing is deleted.
    """

    def __init__(self, orphans: Orphans, sink: Sink, *, grace_ms: int, retention_ms: int = 0) -> None:
        self._orphans = orphans
        self._sink = sink
        self._grace_ms = grace_ms
        self._retention_ms = retention_ms
        self._deadline = Deadline(TIME_S)
        self._done = Reconciled()

    def run(self) -> Reconciled:
        """Looks through all of the sink. Raises ``StoreError`` and ``SinkError``; what was done stays done."""
        looked_ms = self._orphans.now_ms()
        retention = Retention(self._orphans, self._sink, retention_ms=self._retention_ms, now_ms=looked_ms)
        names: set[str] = set()
        batch: list[tuple[OpenObject, ObjectRef, Manifest]] = []
        for ref, manifest in self._sink.owned(self._deadline):
            self._done.seen += 1
            names.add(ref.name)
            retention.see(ref, manifest)
            each = open_object(ref, manifest)
            if each is not None:
                batch.append((each, ref, manifest))
            if len(batch) >= BATCH:
                self._match(batch)
                batch = []
        self._match(batch)
        for storm_id, name in self._orphans.written().items():
            if name not in names and self._orphans.missing(storm_id, name, looked_ms):
                log.warning("a storm's RR is gone, it is written again", rr=name)
                self._done.restored += 1
        self._orphans.unseen(looked_ms)
        self._orphans.reconciled()
        self._done.expired = retention.delete()
        return self._done

    def _match(self, batch: Sequence[tuple[OpenObject, ObjectRef, Manifest]]) -> None:
        matches = self._orphans.match([each for each, _, _ in batch], self._grace_ms) if batch else []
        for (each, ref, manifest), match in zip(batch, matches, strict=True):
            if match.verdict == "double":
                self._supersede(each, ref, manifest, match)
            elif match.verdict == "lost":
                self._done.lost += 1
                message = "the state that stood for it was lost, and its alerts did not come again"
                self._close(ref, closed_manifest(manifest, "Stale", self._orphans.now_ms(), message))
            elif match.verdict == "orphan":
                self._done.orphans += 1
            else:
                self._done.known += 1

    def _supersede(self, each: OpenObject, ref: ObjectRef, manifest: Manifest, match: Match) -> None:
        other = match.other if each.kind == "storm" else single_name(each.fingerprint, int(match.other))
        self._done.doubles += 1
        message = f"{other} stands for the same alerts"
        self._close(ref, closed_manifest(manifest, "Superseded", self._orphans.now_ms(), message, other))

    def _close(self, ref: ObjectRef, manifest: Manifest) -> None:
        try:
            self._sink.put_status(manifest, ref, self._deadline)
        except (ObjectGone, NewerFence) as error:
            # Somebody was quicker; the next look will tell.
            log.info("an RR changed under the reconciler", rr=ref.name, reason=str(error))
        else:
            log.warning("an RR without state was closed", rr=ref.name, phase=manifest["status"]["phase"])
