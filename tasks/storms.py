"""What a RemediationRequest is to say, as pure values: the input of the manifests; knows no Redis or Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RRPhase = Literal["Active", "Resolved", "Superseded", "Stale"]


@dataclass(frozen=True, slots=True)
class Signal:
    """``spec.signal``. For a storm: name = alertname, the worst severity firing, labels common to all members."""

    name: str
    severity: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class Target:
    """The Kubernetes object an alert is about; ``namespace`` is empty for cluster-scoped kinds."""

    kind: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class AffectedResource:
    """One line of ``affectedResources``; ``alert_count`` = members firing now on it."""

    kind: str
    name: str
    namespace: str
    first_seen_ms: int
    alert_count: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How many affected resources (listed or omitted) there are by namespace, kind and node."""

    by_namespace: Mapping[str, int] = field(default_factory=dict)
    by_kind: Mapping[str, int] = field(default_factory=dict)
    by_node: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CauseHint:
    """A label value that so many percent of the firing alerts share."""

    label: str
    value: str
    percent: int


@dataclass(frozen=True, slots=True)
class StormContent:
    """Everything the RR of one storm says. Times in ms since 1970; ``resources`` is already sorted and cut."""

    name: str
    namespace: str
    storm_id: str
    key: Mapping[str, str]
    phase: RRPhase
    storm_type: Literal["rate", "pattern"]
    signal: Signal
    alert_count: int
    total_alerts: int
    resources: tuple[AffectedResource, ...]
    omitted_resources: int
    totals: Totals
    first_seen_ms: int
    last_seen_ms: int
    supersedes: tuple[str, ...]
    ledger: Mapping[str, int]
    flaps: int
    fence: int
    observed_at_ms: int
    silenced: int | None = None
    """Members firing that Alertmanager silences; None where none ever was."""
    causes: tuple[CauseHint, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleContent:
    """Everything the RR of one sub-threshold alert says."""

    name: str
    namespace: str
    storm_id: str
    fingerprint: str
    key: Mapping[str, str]
    phase: RRPhase
    signal: Signal
    target: Target
    ledger: Mapping[str, int]
    flaps: int
    fence: int
    observed_at_ms: int
    superseded_by: str = ""
    opened_ms: int = 0
    """When the firing that opened it was received: part of its name, and of how it is known again."""
    silenced: bool | None = None
    """Whether Alertmanager silences the alert; None where it never did."""
