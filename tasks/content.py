"""From what a lease returned to what the RemediationRequests are to say; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from app.alerts import SEVERITY_NAMES
from lua_scripts.leases import Claim, NamedSingle, SingleTask
from lua_scripts.packing import GENERATIONS, Detail, ResourceState, StormText, pack_fingerprint
from lua_scripts.records import ResourceRecord
from tasks.causes import cause_hints
from tasks.manifests import cut_resources
from tasks.storms import AffectedResource, RRPhase, Signal, SingleContent, StormContent, Target, Totals

DEFAULT_SOURCE: Final = "alertmanager"


def single_name(fingerprint: str, opened_ms: int) -> str:
    """The name of a Single's RR, from its fingerprint and when the firing that opened it was received."""
    text = pack_fingerprint(fingerprint) + b"\0" + str(opened_ms).encode()
    return "rr-" + hashlib.blake2b(text, digest_size=8).hexdigest()


def shown_resources(
    states: Iterable[tuple[bytes, ResourceState]], generation: int, *, firing: bool
) -> tuple[list[ResourceRecord], list[bytes]]:
    """(what the RR lists, ids of records that nothing refers to any more).

    While members fire these are the resources with one; when all are resolved, those that the last flush listed: a
    record changed since then still knows its count as of that flush.
    """
    stamp = generation % GENERATIONS
    shown, obsolete = [], []
    for rid, state in states:
        current = state.stamp == stamp
        count = state.record.alert_count if firing else state.shown if current else state.record.alert_count
        if count > 0:
            record = state.record
            shown.append(
                ResourceRecord(record.kind, record.name, record.namespace, record.node, record.first_seen_ms, count)
            )
        elif state.record.alert_count == 0 and not current:
            obsolete.append(rid)
    return shown, obsolete


def totals_of(resources: Iterable[ResourceRecord]) -> Totals:
    """Resources by namespace, kind and node; what has no namespace or node is not counted there."""
    by_namespace: dict[str, int] = {}
    by_kind: dict[str, int] = {}
    by_node: dict[str, int] = {}
    for resource in resources:
        for counts, value in (
            (by_namespace, resource.namespace),
            (by_kind, resource.kind),
            (by_node, resource.node),
        ):
            if value:
                counts[value] = counts.get(value, 0) + 1
    return Totals(by_namespace, by_kind, by_node)


def storm_content(
    claim: Claim,
    resources: Iterable[ResourceRecord],
    supersedes: Iterable[str],
    max_resources: int,
    cause_labels: Sequence[str] = (),
) -> StormContent:
    """What the RR of a claimed storm says."""
    storm = claim.storm
    shown = list(resources)
    listed, omitted = cut_resources(
        (AffectedResource(r.kind, r.name, r.namespace, r.first_seen_ms, r.alert_count) for r in shown), max_resources
    )
    phase: RRPhase = "Stale" if claim.stale else "Active" if storm.alert_count > 0 else "Resolved"
    return StormContent(
        name=storm.name,
        namespace=storm.namespace,
        storm_id=storm.storm_id,
        key=storm.key,
        phase=phase,
        storm_type=storm.storm_type or "pattern",
        signal=storm_signal(claim.text, claim.worst_severity),
        alert_count=storm.alert_count,
        total_alerts=storm.total_alerts,
        resources=listed,
        # Members beyond MAX_MEMBERS have no known resource: each counts as one that is omitted.
        omitted_resources=omitted + claim.overflow,
        totals=totals_of(shown),
        first_seen_ms=storm.first_seen_ms,
        last_seen_ms=storm.last_seen_ms,
        supersedes=tuple(sorted(supersedes)),
        ledger=storm_ledger(claim),
        flaps=storm.flaps,
        fence=storm.fence,
        observed_at_ms=claim.now_ms,
        silenced=storm.silenced,
        causes=cause_hints(cause_labels, storm.key, claim.causes),
    )


def storm_ledger(claim: Claim) -> Mapping[str, int]:
    """The part of the ledger that is a storm's own."""
    ledger = claim.storm.ledger
    return {
        "received": ledger.received,
        "new": ledger.new,
        "duplicate": ledger.duplicate,
        "reopened": ledger.reopened,
        "resolved": ledger.resolved,
        "outdated": ledger.outdated,
    }


def storm_signal(text: StormText, worst: int) -> Signal:
    """The signal of a storm: its alertname, the worst severity, what all alerts share, the sample's annotations."""
    sample = text.sample or Detail({}, {}, "")
    labels = text.common
    severity = SEVERITY_NAMES[worst]
    if worst == 0 and labels.get("severity"):
        severity = labels["severity"]
    return Signal(
        name=_name(text),
        severity=severity,
        labels=labels,
        annotations=sample.annotations,
        source=sample.generator_url or DEFAULT_SOURCE,
    )


def _name(text: StormText) -> str:
    sample = text.sample.labels.get("alertname", "") if text.sample else ""
    return text.key.get("alertname") or text.common.get("alertname") or sample or "unknown"


def single_content(claim: Claim, task: SingleTask, phase: RRPhase) -> SingleContent:
    """What the RR of one alert says. Where its labels are not at hand any more, what its storm key shares stands in."""
    labels = task.detail.labels if task.detail else claim.text.common
    own = labels.get("severity", "")
    return SingleContent(
        name=single_name(task.fingerprint, task.opened_ms),
        namespace=task.namespace or claim.storm.namespace,
        storm_id=claim.storm.storm_id,
        fingerprint=task.fingerprint,
        key=claim.storm.key,
        phase=phase,
        signal=Signal(
            name=labels.get("alertname") or _name(claim.text),
            severity=own or SEVERITY_NAMES[task.severity],
            labels=labels,
            annotations=task.detail.annotations if task.detail else {},
            source=(task.detail.generator_url if task.detail else "") or DEFAULT_SOURCE,
        ),
        target=_target(task.resource),
        ledger=storm_ledger(claim),
        flaps=task.flaps,
        fence=claim.storm.fence,
        observed_at_ms=claim.now_ms,
        opened_ms=task.opened_ms,
        silenced=task.silenced,
    )


def superseded_content(claim: Claim, single: NamedSingle) -> SingleContent:
    """What the RR of an alert says once its storm covers it; its details are gone by then."""
    labels = claim.text.common
    return SingleContent(
        name=single_name(single.fingerprint, single.opened_ms),
        namespace=single.namespace or claim.storm.namespace,
        storm_id=claim.storm.storm_id,
        fingerprint=single.fingerprint,
        key=claim.storm.key,
        phase="Superseded",
        signal=Signal(_name(claim.text), labels.get("severity", "unknown"), labels, {}, DEFAULT_SOURCE),
        target=_target(None),
        ledger=storm_ledger(claim),
        flaps=0,
        fence=claim.storm.fence,
        observed_at_ms=claim.now_ms,
        superseded_by=claim.storm.name,
        opened_ms=single.opened_ms,
    )


def _target(resource: ResourceRecord | None) -> Target:
    if resource is None:
        return Target("Unknown", "unknown", "")
    return Target(resource.kind, resource.name, resource.namespace)
