"""What both sinks must agree on about an object: its fence, its identity, its names and its status; pure."""

from __future__ import annotations

import re
from typing import Any, Final

from tasks.manifests import FENCE_ANNOTATION, INSTALLATION_LABEL, MANAGED_BY, MANAGED_BY_LABEL, Manifest
from tasks.sinks.errors import NewerFence, SinkRefused

OWN_STATUS: Final = frozenset({"phase", "conditions", "ledger", "flaps", "fence", "observedAt", "supersededBy"})
"""The status fields that are ours; consumers own any other, and conditions of other types."""

FIELD_MANAGER: Final = "stormfold"
"""The usual field manager."""

NO_FENCE: Final = 2**52

_DNS_1123: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def check_name(text: str, what: str) -> None:
    """Refuse what is no DNS-1123 label: such a name could also leave its folder or its URL."""
    if not _DNS_1123.fullmatch(text):
        raise SinkRefused(f"{what} {text[:80]!r} is not a DNS-1123 label of at most 63 characters")


def number_of(value: Any) -> int:
    """The number, or 0 for what is none: whoever edits an object by hand must not stop the worker."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def fence_of(manifest: Manifest) -> int:
    """The highest fence that the object bears: the annotation comes with the spec, the status may be newer.

    Numbers that no fence reaches are somebody's edit, and none: Redis counts exactly up to 2^53.
    """
    annotated = (manifest["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION)
    observed = (manifest.get("status") or {}).get("fence")
    return max((fence for fence in map(number_of, (annotated, observed)) if fence < NO_FENCE), default=0)


def is_stormfolds(manifest: Manifest) -> bool:
    """Whether a stormfold made the object, this installation or another one."""
    return _label(manifest, MANAGED_BY_LABEL) == MANAGED_BY


def installation_of(manifest: Manifest) -> str:
    """The installation that looks after the object, by its field manager; the usual one where it does not say."""
    return _label(manifest, INSTALLATION_LABEL) or FIELD_MANAGER


def signed(manifest: Manifest, installation: str) -> Manifest:
    """The object with the label of the installation that writes it."""
    metadata = manifest["metadata"]
    return manifest | {
        "metadata": metadata | {"labels": (metadata.get("labels") or {}) | {INSTALLATION_LABEL: installation}}
    }


def is_storm_id(text: str) -> bool:
    """Whether the text is a storm's id, which tells where its state is."""
    return len(text) == 16 and all(digit in "0123456789abcdef" for digit in text)


def refuse_if_newer(existing: Manifest, manifest: Manifest) -> None:
    """An equal fence is the same holder, who may write again; a higher one is a newer holder."""
    if fence_of(existing) > fence_of(manifest):
        raise NewerFence(fence_of(existing))


def needs_update(existing: Manifest, manifest: Manifest) -> bool:
    """Whether an object that a creator found in its place is to get the creator's spec, or its status alone."""
    # By what nobody can edit: somebody may have taken our labels away.
    for field in ("type", "stormKey"):
        found = (existing.get("spec") or {}).get(field)
        if found != manifest["spec"][field]:
            raise SinkRefused(f"{manifest['metadata']['name']} exists and is something else: its {field} is {found!r}")
    if fence_of(existing) <= fence_of(manifest) and manifest["spec"]["type"] == "Single":
        # What a Single is about never changes, and whoever comes later may know no details any more: let those stand.
        return False
    if fence_of(existing) < fence_of(manifest):
        return True
    # The same claim, and the same content: our own create whose answer we never saw.
    if fence_of(existing) == fence_of(manifest) and existing.get("spec") == manifest["spec"]:
        return False
    raise NewerFence(fence_of(existing))


def keep_transition_times(status: Manifest, previous: Manifest) -> Manifest:
    """The status with the earlier transition time of every condition that did not turn over."""
    known = {condition.get("type"): condition for condition in previous.get("conditions") or []}
    conditions = []
    for condition in status["conditions"]:
        before = known.get(condition["type"], {})
        if before.get("status") == condition["status"] and before.get("lastTransitionTime"):
            condition = condition | {"lastTransitionTime": before["lastTransitionTime"]}
        conditions.append(condition)
    return status | {"conditions": conditions}


def merge_status(status: Manifest, previous: Manifest) -> Manifest:
    """Our fields anew, everybody else's as they were: what server-side apply does, for where there is no server."""
    ours = keep_transition_times(status, previous)
    types = {condition["type"] for condition in ours["conditions"]}
    foreign = [condition for condition in previous.get("conditions") or [] if condition.get("type") not in types]
    others = {key: value for key, value in previous.items() if key not in OWN_STATUS}
    return ours | {"conditions": ours["conditions"] + foreign} | others


def _label(manifest: Manifest, label: str) -> str:
    return str((manifest["metadata"].get("labels") or {}).get(label, ""))
