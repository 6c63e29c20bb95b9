"""Holding what is in the sink against the state: what an emptied Redis forgot is adopted, doubles are superseded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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
from tasks.retention import Retention, closed_object
from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import NewerFence, NotYet, ObjectGone, SinkRefused
from tasks.sinks.objects import fence_of, installation_of, is_storm_id, number_of

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
    strays: int = 0
    restored: int = 0
    expired: int = 0
    foreign: int = 0
    rivals: int = 0


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


def _batches(found: Iterable[tuple[ObjectRef, Manifest]]) -> Iterator[list[tuple[ObjectRef, Manifest]]]:
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch


class Reconciler:
    """One look through the sink. Any number may run at once: each verdict is made and taken in one script call.

    Without a retention nothing is deleted.
    """

    def __init__(self, orphans: Orphans, sink: Sink, *, grace_ms: int, retention_ms: int = 0) -> None:
        self._orphans = orphans
        self._sink = sink
        self._grace_ms = grace_ms
        self._deadline = Deadline(TIME_S)
        self._done = Reconciled()
        self._looked_ms = orphans.now_ms()
        self._retention = Retention(orphans, sink, retention_ms=retention_ms, now_ms=self._looked_ms)

    def run(self) -> Reconciled:
        """Looks through all of the sink. Raises ``StoreError`` and ``SinkError``; what was done stays done."""
        looked_ms = self._looked_ms
        names: set[str] = set()
        for batch in _batches(self._sink.owned(self._deadline)):
            names.update(ref.name for ref, _ in batch)
            self._see(batch)
        for storm_id, name in self._orphans.written().items():
            if name not in names and self._orphans.missing(storm_id, name, looked_ms):
                log.warning("a storm's RR is gone, it is written again", rr=name)
                self._done.restored += 1
        self._orphans.unseen(looked_ms)
        self._orphans.reconciled(self._done.rivals)
        if self._done.rivals:
            log.warning(
                "another installation writes RRs of the same storms: let each alert go to one of them",
                rivals=self._done.rivals,
            )
        self._done.expired = self._retention.delete()
        return self._done

    def _see(self, batch: Sequence[tuple[ObjectRef, Manifest]]) -> None:
        """Matches what is ours, and leaves alone what another installation looks after."""
        self._done.seen += len(batch)
        own, foreign = [], []
        for ref, manifest in batch:
            if installation_of(manifest) == self._sink.installation:
                own.append((ref, manifest))
            elif is_storm_id(str((manifest["metadata"].get("labels") or {}).get(STORM_ID_LABEL, ""))):
                foreign.append((ref, manifest))
        known = self._orphans.held([closed_object(manifest) for _, manifest in foreign])
        rivals = []
        for (ref, manifest), is_known in zip(foreign, known, strict=True):
            if is_known:
                # Written by us under an earlier name of this installation.
                own.append((ref, manifest))
            elif (each := open_object(ref, manifest)) is not None:
                rivals.append(each)
        self._done.foreign += len(foreign) - sum(known)
        self._done.rivals += self._orphans.rivals(rivals)
        for ref, manifest in own:
            self._retention.see(ref, manifest)
        pairs = [(open_object(ref, manifest), ref, manifest) for ref, manifest in own]
        self._match([(each, ref, manifest) for each, ref, manifest in pairs if each is not None])

    def _match(self, batch: Sequence[tuple[OpenObject, ObjectRef, Manifest]]) -> None:
        matches = self._orphans.match([each for each, _, _ in batch], self._grace_ms, self._looked_ms) if batch else []
        for (each, ref, manifest), match in zip(batch, matches, strict=True):
            if match.verdict == "double":
                self._supersede(each, ref, manifest, match)
            elif match.verdict == "lost":
                self._done.lost += 1
                message = "the state that stood for it was lost, and its alerts did not come again"
                self._close(ref, closed_manifest(manifest, "Stale", self._orphans.now_ms(), message))
            elif match.verdict == "stray":
                log.warning("an RR is not the one that was written, it is written again", rr=ref.name)
                self._done.strays += 1
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
            self._sink.put_status(manifest, ref, self._deadline, queue=False)
        except (ObjectGone, NewerFence) as error:
            # Somebody was quicker; the next look will tell.
            log.info("an RR changed under the reconciler", rr=ref.name, reason=str(error))
        except NotYet as error:
            log.info("an RR without state waits to be closed until the next look", rr=ref.name, reason=str(error))
        except SinkRefused as error:
            # One that nobody may close must not keep the others, and every first write, waiting.
            log.error("an RR without state cannot be closed", rr=ref.name, reason=str(error))
        else:
            log.warning("an RR without state was closed", rr=ref.name, phase=manifest["status"]["phase"])
