"""Deleting RRs that were closed long enough ago, so that neither a cluster nor a directory fills up with them."""

from __future__ import annotations

from typing import Final

import structlog

from lua_scripts.orphans import ClosedObject, Orphans
from tasks.manifests import FINGERPRINT_ANNOTATION, OPENED_ANNOTATION, STORM_ID_LABEL, Manifest
from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import SinkError
from tasks.sinks.objects import is_storm_id, is_stormfolds, number_of
from tasks.texts import instant_ms

TIME_S: Final = 60.0
LAST_S: Final = 5.0
"""Nothing is begun in the last seconds: a request that time cuts off would look like a failure of the server."""
MOST: Final = 2_000
"""Objects that one look deletes; what is beyond them waits for the next."""
BATCH: Final = 200
CLOSED: Final = frozenset({"Resolved", "Stale", "Superseded"})

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def closed_ms(manifest: Manifest) -> int | None:
    """When the object was last seen to be closed; None where it is open, or does not say since when it is not.

    The later of the two times counts: a status that somebody edited must not make an object older than it is.
    """
    status = manifest.get("status") or {}
    if status.get("phase") not in CLOSED:
        return None
    conditions = status.get("conditions") or []
    over = [one for one in conditions if (one.get("type"), one.get("status")) == ("Active", "False")]
    texts = [status.get("observedAt"), *(one.get("lastTransitionTime") for one in over)]
    return max((ms for ms in map(instant_ms, texts) if ms is not None), default=None)


def expired(manifest: Manifest, now_ms: int, retention_ms: int) -> bool:
    """Whether it is a stormfold's, closed for longer than the retention, and nobody waits for it to do something."""
    metadata = manifest["metadata"]
    if not is_stormfolds(manifest) or not is_storm_id(str((metadata.get("labels") or {}).get(STORM_ID_LABEL, ""))):
        return False
    # A finalizer is somebody else's work that is still to be done; we set none.
    if metadata.get("finalizers") or metadata.get("deletionTimestamp"):
        return False
    at = closed_ms(manifest)
    return at is not None and now_ms - at > retention_ms


def closed_object(manifest: Manifest) -> ClosedObject:
    """The object as the state is asked about it."""
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations") or {}
    return ClosedObject(
        storm_id=str(metadata["labels"][STORM_ID_LABEL]),
        name=str(metadata["name"]),
        covered_by=str((manifest.get("status") or {}).get("supersededBy", "")),
        fingerprint=str(annotations.get(FINGERPRINT_ANNOTATION, "")),
        opened_ms=number_of(annotations.get(OPENED_ANNOTATION)),
    )


class Retention:
    """Shown every object of a look through the sink, it deletes what has expired once the look is over."""

    def __init__(self, orphans: Orphans, sink: Sink, *, retention_ms: int, now_ms: int) -> None:
        self._orphans = orphans
        self._sink = sink
        self._retention_ms = retention_ms
        self._now_ms = now_ms
        self._found: list[tuple[ClosedObject, ObjectRef]] = []

    def see(self, ref: ObjectRef, manifest: Manifest) -> None:
        """Notes the object where it has expired. A retention of 0 keeps everything."""
        if self._retention_ms and len(self._found) < MOST and expired(manifest, self._now_ms, self._retention_ms):
            self._found.append((closed_object(manifest), ref))

    def delete(self) -> int:
        """Deletes what it noted, but for histories that are still open; how many went. Raises ``StoreError``.

        What the sink refuses is left for the next look: the rest of reconciling does not depend on it.
        """
        deadline, gone = Deadline(TIME_S), 0
        for start in range(0, len(self._found), BATCH):
            batch = self._found[start : start + BATCH]
            held = self._orphans.held([each for each, _ in batch])
            for (_, ref), is_held in zip(batch, held, strict=True):
                if is_held:
                    continue
                if deadline.remaining() < LAST_S:
                    log.info("more RRs have expired than one look may delete", deleted=gone)
                    return gone
                try:
                    # Were it written all the same by now, it would have another version, and stay.
                    gone += self._sink.delete(ref, deadline)
                except SinkError as error:
                    log.warning("expired RRs stay until the next look", rr=ref.name, reason=str(error), deleted=gone)
                    return gone
        if gone:
            log.info("expired RRs were deleted", deleted=gone)
        return gone
