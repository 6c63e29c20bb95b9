"""What an alert is and what follows from its labels: resource, storm key, identity, severity, names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

StormKey = tuple[tuple[str, str], ...]

SEVERITY_NAMES: Final = ("unknown", "info", "warning", "error", "critical")
_SEVERITIES: Final = {
    name: rank
    for rank, names in enumerate(
        (
            "unknown none",
            "info information informational notice low debug ok p4 p5 sev4 sev5",
            "warning warn medium moderate minor p3 sev3",
            "error err high major p2 sev2",
            "critical crit page emergency emerg fatal disaster alert p1 p0 sev1 sev0",
        )
    )
    for name in names.split()
}

_KINDS_BEFORE_POD: Final = (
    ("horizontalpodautoscaler", "HorizontalPodAutoscaler"),
    ("poddisruptionbudget", "PodDisruptionBudget"),
    ("persistentvolumeclaim", "PersistentVolumeClaim"),
    ("cronjob", "CronJob"),
    ("job_name", "Job"),  # never "job": that is Prometheus's scrape job, on nearly every alert
    ("deployment", "Deployment"),
    ("statefulset", "StatefulSet"),
    ("daemonset", "DaemonSet"),
)
_BEFORE_POD: Final = frozenset(name for label, _ in _KINDS_BEFORE_POD for name in (label, "exported_" + label))
_KINDS_AFTER_POD: Final = (("node", "Node"), ("service", "Service"), ("instance", "Instance"))
_CLUSTER_SCOPED: Final = frozenset(("Node", "PersistentVolume", "Namespace"))
_NODE_LABELS: Final = ("exported_node", "node", "kubernetes_node", "nodename")

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SLUG_MAX: Final = 63 - len("storm-") - len("-") - 10
_FINGERPRINT_MAX: Final = 128
_CAUSE_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Alert:
    """One observation of one labelled condition. Times in ms since 1970; 0 where the sender gave none."""

    fingerprint: str
    firing: bool
    starts_at_ms: int
    ends_at_ms: int
    labels: dict[str, str]
    annotations: dict[str, str]
    generator_url: str


@dataclass(frozen=True, slots=True)
class Resource:
    """The Kubernetes object an alert is about; ``namespace`` is empty for cluster-scoped kinds, ``node`` if unknown."""

    kind: str
    name: str
    namespace: str
    node: str


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label, as in Alertmanager: a missing label is an empty one, a pattern matches the whole."""

    label: str
    operator: str
    value: str
    pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, label: str, operator: str, value: str) -> Matcher:
        """A matcher with its pattern compiled. Raises re.error."""
        return cls(label, operator, value, re.compile(value) if operator.endswith("~") else None)

    def matches(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label, "")
        hit = found == self.value if self.pattern is None else self.pattern.fullmatch(found) is not None
        return hit is not self.operator.startswith("!")


def effective(labels: Mapping[str, str], name: str) -> str:
    """The value of a label that a scrape's own label may have pushed aside to ``exported_<name>``; '' if neither."""
    return labels.get("exported_" + name) or labels.get(name, "")


def target_resource(labels: Mapping[str, str]) -> Resource:
    """The object that an alert is about: the first of these labels that it has."""
    kind, name = _kind_and_name(labels)
    node = name if kind == "Node" else _node(labels)
    return Resource(kind, name, "" if kind in _CLUSTER_SCOPED else effective(labels, "namespace"), node)


def _node(labels: Mapping[str, str]) -> str:
    for label in _NODE_LABELS:
        if found := labels.get(label):
            return found
    return ""


def cause_values(labels: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
    """The values of these labels; '' where an alert has none, or one of more bytes than are worth counting."""
    values = [_node(labels) if name == "node" else effective(labels, name) for name in names]
    # A character is four bytes at most: this is asked for every alert, and nearly all values are short.
    return tuple([v if len(v) * 4 <= _CAUSE_MAX or len(v.encode()) <= _CAUSE_MAX else "" for v in values])


def _kind_and_name(labels: Mapping[str, str]) -> tuple[str, str]:
    if not _BEFORE_POD.isdisjoint(labels):  # most alerts have none of them, and this is asked for every alert
        for label, kind in _KINDS_BEFORE_POD:
            if name := effective(labels, label):
                return kind, name
    # An exported_pod is what the metric is about; a plain pod may be the exporter that was scraped.
    if name := labels.get("exported_pod", ""):
        return "Pod", name
    if (name := labels.get("pod", "")) and not (_exporter(name) or _exporter(labels.get("container", ""))):
        return "Pod", name
    for label, kind in _KINDS_AFTER_POD:
        if name := effective(labels, label):
            return kind, name
    return "Unknown", labels.get("alertname") or "unknown"


def _exporter(name: str) -> bool:
    return name.startswith("kube-state-metrics") or "node-exporter" in name


def storm_key(labels: Mapping[str, str], group_by: Sequence[str]) -> StormKey:
    """The values of the group-by labels, in their order."""
    return tuple(
        (label, effective(labels, label) if label == "namespace" else labels.get(label, "")) for label in group_by
    )


@lru_cache(maxsize=256)
def storm_id(key: StormKey) -> str:
    """16 hex digits that stand for a storm key, whatever the order of its labels."""
    return _hash(dict(key))


def fingerprint_of(labels: Mapping[str, str]) -> str:
    """The identity of an alert whose sender gave none."""
    return _hash(dict(labels))


def clean_fingerprint(given: str, labels: Mapping[str, str]) -> str:
    """The sender's fingerprint where it can be kept as it is, else a hash of it, or of the labels where it is empty."""
    if not given:
        return fingerprint_of(labels)
    # Printable means that UTF-8 can express it; what Redis keeps beside it has one byte for its length.
    if given.isprintable() and len(given.encode()) <= _FINGERPRINT_MAX:
        return given
    return _hash(given)


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def severity_rank(text: str) -> int:
    """How bad a severity label says it is: an index of SEVERITY_NAMES."""
    return _SEVERITIES.get(text.strip().lower(), 0)


def is_dns_label(text: str) -> bool:
    """Whether Kubernetes takes the text as the name of a namespace."""
    return _DNS_LABEL.fullmatch(text) is not None


def rr_namespace(labels: Mapping[str, str], namespace: str, fallback: str) -> str:
    """The namespace of a RemediationRequest; ``labels`` may be a storm key as a mapping."""
    own = effective(labels, "namespace")
    return namespace or (own if is_dns_label(own) else fallback)


def slug(alertname: str) -> str:
    """The part of ``storm-<slug>-<10 hex digits>`` that tells a human which alert it is; '' where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", alertname.lower()).strip("-")[:_SLUG_MAX].rstrip("-")
