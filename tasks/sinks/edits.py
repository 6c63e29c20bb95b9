"""What somebody else did to the fields of an object that are ours, by the server's own record of who set what; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks.manifests import (
    FENCE_ANNOTATION,
    FINGERPRINT_ANNOTATION,
    INSTALLATION_LABEL,
    MANAGED_BY_LABEL,
    OPENED_ANNOTATION,
    ORIGIN_NAMESPACE_LABEL,
    STORM_ID_LABEL,
    TYPE_LABEL,
    Manifest,
)
from tasks.sinks.objects import OWN_STATUS

EDITED: Final = "Edited"
OWN_CONDITIONS: Final = frozenset({"Active", "Resolved", "Silenced", EDITED})
_OWN_LABELS: Final = frozenset({MANAGED_BY_LABEL, INSTALLATION_LABEL, STORM_ID_LABEL, TYPE_LABEL})
_OWN_ANNOTATIONS: Final = frozenset({FENCE_ANNOTATION, FINGERPRINT_ANNOTATION, OPENED_ANNOTATION})
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Edit:
    """Fields of ours that a field manager set last, as paths."""

    manager: str
    fields: tuple[str, ...]

    @property
    def of_metadata(self) -> bool:
        """Whether labels or annotations of ours are among them."""
        return any(field.startswith("metadata.") for field in self.fields)


def edits(existing: Manifest, manager: str) -> list[Edit]:
    """What others hold of ours. What we write next with force is ours again, unless they say the same.

    Source: ``metadata.managedFields``, https://kubernetes.io/docs/reference/using-api/server-side-apply/.
    """
    metadata = existing["metadata"]
    found = [
        Edit(str(entry.get("manager", "")), fields)
        for entry in metadata.get("managedFields") or []
        if entry.get("manager") != manager and (fields := tuple(_ours(entry.get("fieldsV1") or {})))
    ]
    # Who took something away is on no record.
    gone = [f"metadata.labels.{name}" for name in sorted(_OWN_LABELS - set(metadata.get("labels") or {}))]
    gone += ["metadata.annotations"] * (FENCE_ANNOTATION not in (metadata.get("annotations") or {}))
    return found + ([Edit("somebody", tuple(gone))] if gone else [])


def _ours(fields: Mapping[str, Any]) -> Iterable[str]:
    if "f:spec" in fields:
        yield "spec"
    metadata = fields.get("f:metadata") or {}
    for part, own in (("f:labels", _OWN_LABELS | {ORIGIN_NAMESPACE_LABEL}), ("f:annotations", _OWN_ANNOTATIONS)):
        held = metadata.get(part) or {}
        yield from (f"metadata.{part[2:]}.{name}" for name in sorted(own) if f"f:{name}" in held)
    status = fields.get("f:status") or {}
    yield from (f"status.{name}" for name in sorted(OWN_STATUS - {"conditions"}) if f"f:{name}" in status)
    for key in status.get("f:conditions") or {}:
        if key.startswith("k:") and (kind := json.loads(key[2:]).get("type")) in OWN_CONDITIONS:
            yield f"status.conditions.{kind}"


def with_edits(status: Manifest, found: Sequence[Edit], previous: Manifest, *, status_only: bool) -> Manifest:
    """The status with a condition that tells of the edits; an earlier one stays, for somebody may not have seen it."""
    if not found:
        before = [one for one in previous.get("conditions") or [] if one.get("type") == EDITED]
        return status | {"conditions": status["conditions"] + before}
    standing = status_only and any(not name.startswith("status.") for edit in found for name in edit.fields)
    said = "; ".join(f"{edit.manager} changed {_names(edit.fields)}" for edit in found)
    condition = {
        "type": EDITED,
        "status": "True",
        "reason": "LeftStanding" if standing else "TakenBack",
        "message": f"{said}: {'only the status was written anew' if standing else 'taken back'}"[:1024],
        "lastTransitionTime": status["observedAt"],
    }
    return status | {"conditions": [*status["conditions"], condition]}


def _names(fields: Sequence[str]) -> str:
    more = len(fields) - _MOST_NAMED
    return ", ".join(fields[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
