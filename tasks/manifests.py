"""RemediationRequest objects as plain dicts, rendered from what a storm or an alert is to say; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from app.times import rfc3339
from tasks.storms import AffectedResource, RRPhase, Signal, SingleContent, StormContent
from tasks.texts import MAX_LABEL_TEXT, MAX_NAME, MAX_NAMESPACE, MAX_VALUE, bounded_counts, bounded_map, clean

GROUP: Final = "remediation.stormfold.io"
API_VERSION: Final = f"{GROUP}/v1alpha1"
KIND: Final = "RemediationRequest"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "stormfold"
INSTALLATION_LABEL: Final = "app.kubernetes.io/instance"
STORM_ID_LABEL: Final = f"{GROUP}/storm-id"
TYPE_LABEL: Final = f"{GROUP}/type"
ORIGIN_NAMESPACE_LABEL: Final = f"{GROUP}/origin-namespace"
FENCE_ANNOTATION: Final = f"{GROUP}/fence"
FINGERPRINT_ANNOTATION: Final = f"{GROUP}/fingerprint"
OPENED_ANNOTATION: Final = f"{GROUP}/opened"

SPEC_BUDGET: Final = 224 * 1024
"""Bytes of JSON that a spec may take, whatever MAX_RESOURCES says, so that with status and metadata an object stays
within 256 KiB: everybody who watches gets all of it with each change, and a person is to read it.
"""

Manifest = dict[str, Any]

_REASONS: Final[Mapping[RRPhase, str]] = {
    "Active": "AlertsFiring",
    "Resolved": "AllResolved",
    "Superseded": "Superseded",
    "Stale": "NoNews",
}


def storm_manifest(content: StormContent) -> Manifest:
    """The object of a storm, complete: metadata, spec and status."""
    resource_count = len(content.resources) + content.omitted_resources
    aggregation: Manifest = {
        "stormType": content.storm_type,
        "alertCount": content.alert_count,
        "totalAlerts": content.total_alerts,
        "resourceCount": resource_count,
        "firstSeen": rfc3339(content.first_seen_ms),
        "lastSeen": rfc3339(max(content.first_seen_ms, content.last_seen_ms)),
        "totals": {
            "byNamespace": bounded_counts(content.totals.by_namespace),
            "byKind": bounded_counts(content.totals.by_kind),
            "byNode": bounded_counts(content.totals.by_node),
        },
        "supersedes": list(content.supersedes),
        "omittedResources": resource_count,
        "affectedResources": [],
    }
    if content.causes:
        aggregation["causeHint"] = [
            {"label": clean(each.label, MAX_NAME), "value": clean(each.value, MAX_VALUE), "share": each.percent / 100}
            for each in content.causes
        ]
    spec = {
        "type": "Storm",
        "stormKey": bounded_map(content.key),
        "signal": _signal(content.signal),
        "stormAggregation": aggregation,
    }
    listed = _within(SPEC_BUDGET - _size(spec), content.resources)
    aggregation["omittedResources"] -= len(listed)
    aggregation["affectedResources"] = listed
    firing = f"{content.alert_count} of {content.total_alerts} alerts are firing; {resource_count} resources"
    conditions = _conditions(content.phase, content.observed_at_ms, firing, "")
    if content.silenced is not None:
        said = f"{content.silenced} of {content.alert_count} firing alerts are silenced"
        said = said if content.silenced else "no firing alert is silenced"
        conditions.append(_silenced(content.silenced > 0, said, content.observed_at_ms))
    return _manifest(content, spec, conditions)


def single_manifest(content: SingleContent) -> Manifest:
    """The object of one alert that belongs to no storm, complete: metadata, spec and status."""
    spec = {
        "type": "Single",
        "stormKey": bounded_map(content.key),
        "signal": _signal(content.signal),
        "targetResource": _resource(content.target.kind, content.target.name, content.target.namespace),
    }
    conditions = _conditions(content.phase, content.observed_at_ms, "the alert is firing", content.superseded_by)
    if content.silenced is not None:
        said = f"the alert is {'silenced' if content.silenced else 'not silenced'}"
        conditions.append(_silenced(content.silenced, said, content.observed_at_ms))
    manifest = _manifest(content, spec, conditions)
    manifest["metadata"]["annotations"][FINGERPRINT_ANNOTATION] = clean(content.fingerprint, MAX_LABEL_TEXT)
    if content.opened_ms:
        manifest["metadata"]["annotations"][OPENED_ANNOTATION] = str(content.opened_ms)
    if content.superseded_by:
        manifest["status"]["supersededBy"] = content.superseded_by
    return manifest


def closed_manifest(existing: Manifest, phase: RRPhase, at_ms: int, message: str, superseded_by: str = "") -> Manifest:
    """An object as it stands in the sink, with a status that closes it: nothing in the state stands for it any more."""
    status = existing.get("status") or {}
    reason = "StateLost" if phase == "Stale" else _REASONS[phase]
    conditions = [
        condition | {"reason": reason, "message": message} for condition in _conditions(phase, at_ms, "", superseded_by)
    ]
    annotated = (existing["metadata"].get("annotations") or {}).get(FENCE_ANNOTATION, "0")
    closed = {
        "phase": phase,
        "conditions": conditions,
        "ledger": status.get("ledger") or {},
        "flaps": status.get("flaps") or 0,
        "fence": max(int(annotated), int(status.get("fence") or 0)),
        "observedAt": rfc3339(at_ms),
    }
    if superseded_by:
        closed["supersededBy"] = superseded_by
    return existing | {"status": closed}


def cut_resources(
    resources: Iterable[AffectedResource], max_resources: int
) -> tuple[tuple[AffectedResource, ...], int]:
    """The worst ``max_resources`` in order, and how many are left out."""
    ordered = sorted(resources, key=worst_first)
    listed = tuple(ordered[:max_resources])
    return listed, len(ordered) - len(listed)


def worst_first(resource: AffectedResource) -> tuple[int, int, str, str, str]:
    """Sort key: highest alert count, then earliest first seen, then name (namespace and kind only break ties)."""
    return (-resource.alert_count, resource.first_seen_ms, resource.name, resource.namespace, resource.kind)


def manifest_digest(manifest: Manifest) -> str:
    """Changes when the object says something new; when it was observed and under which fence is nothing new."""
    status = {key: value for key, value in manifest.get("status", {}).items() if key not in ("observedAt", "fence")}
    status["conditions"] = [
        {key: value for key, value in condition.items() if key != "lastTransitionTime"}
        for condition in status.get("conditions", [])
    ]
    metadata = manifest["metadata"]
    said = [metadata["namespace"], metadata["name"], metadata.get("labels", {}), manifest.get("spec"), status]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _manifest(content: StormContent | SingleContent, spec: Manifest, conditions: list[Manifest]) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": content.name,
            "namespace": content.namespace,
            "labels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                STORM_ID_LABEL: content.storm_id,
                TYPE_LABEL: spec["type"],
            },
            "annotations": {FENCE_ANNOTATION: str(content.fence)},
        },
        "spec": spec,
        "status": {
            "phase": content.phase,
            "conditions": conditions,
            "ledger": dict(content.ledger),
            "flaps": content.flaps,
            "fence": content.fence,
            "observedAt": rfc3339(content.observed_at_ms),
        },
    }


def _signal(signal: Signal) -> Manifest:
    return {
        "name": clean(signal.name, MAX_LABEL_TEXT),
        "severity": clean(signal.severity, MAX_LABEL_TEXT),
        "labels": bounded_map(signal.labels),
        "annotations": bounded_map(signal.annotations),
        "source": clean(signal.source, MAX_LABEL_TEXT),
    }


def _resource(kind: str, name: str, namespace: str) -> Manifest:
    return {
        "kind": clean(kind, MAX_NAME),
        "name": clean(name, MAX_NAME),
        "namespace": clean(namespace, MAX_NAMESPACE),
    }


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _within(left: int, resources: Sequence[AffectedResource]) -> list[Manifest]:
    """The lines that fit into so many bytes, from the worst on."""
    listed: list[Manifest] = []
    for resource in resources:
        line = _resource(resource.kind, resource.name, resource.namespace) | {
            "firstSeen": rfc3339(resource.first_seen_ms),
            "alertCount": resource.alert_count,
        }
        left -= _size(line) + 2
        if left < 0:
            break
        listed.append(line)
    return listed


def _silenced(silenced: bool, message: str, observed_at_ms: int) -> Manifest:
    """A silence is somebody's decision about notifications: the alerts fire all the same."""
    return {
        "type": "Silenced",
        "status": "True" if silenced else "False",
        "reason": "SilencedInAlertmanager" if silenced else "NotSilenced",
        "message": message,
        "lastTransitionTime": rfc3339(observed_at_ms),
    }


def _conditions(phase: RRPhase, observed_at_ms: int, firing: str, superseded_by: str) -> list[Manifest]:
    """Both conditions; their transition time is the observation, which a sink replaces where nothing turned over."""
    message = {
        "Active": firing,
        "Resolved": "all alerts are resolved",
        "Superseded": f"part of {superseded_by}" if superseded_by else "another object covers these alerts",
        "Stale": "no news of these alerts for too long",
    }[phase]
    return [
        {
            "type": kind,
            "status": "True" if phase == kind else "False",
            "reason": _REASONS[phase],
            "message": message,
            "lastTransitionTime": rfc3339(observed_at_ms),
        }
        for kind in ("Active", "Resolved")
    ]
