"""Webhook bodies (version 4) made the way Alertmanager makes them; pure functions for demo, simulate and tests."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

Shape = Literal["pods", "nodes", "one-pod"]
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)

HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.25.0"}
GROUP_BY: Final = ("alertname", "cluster", "namespace")
NEVER: Final = "0001-01-01T00:00:00Z"
"""How Go writes a time that was never set: the endsAt of a firing alert."""


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's fingerprint: FNV-1a, 64 bits, over the sorted labels with 0xff after each name and value."""
    digest = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in name.encode() + b"\xff" + labels[name].encode() + b"\xff":
            digest = ((digest ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def timestamp(at: datetime) -> str:
    """A time as Go's RFC3339Nano: UTC, trailing zeros of the fraction dropped."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text.rstrip("0").rstrip(".") + "Z"


@dataclass(frozen=True, slots=True)
class PostedAlert:
    """One alert of a webhook body; it fires until it has an ``ends_at``."""

    labels: Mapping[str, str]
    starts_at: datetime
    annotations: Mapping[str, str] = field(default_factory=dict)
    ends_at: datetime | None = None
    generator_url: str = "http://prometheus.example:9090/graph?g0.expr=up&g0.tab=1"

    @property
    def firing(self) -> bool:
        return self.ends_at is None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.labels)

    def resolved(self, at: datetime) -> PostedAlert:
        """The same alert, resolved at a time."""
        return replace(self, ends_at=at)

    def fired_again(self, at: datetime) -> PostedAlert:
        """The same alert, firing since a time."""
        return replace(self, starts_at=at, ends_at=None)

    def as_json(self) -> dict[str, Any]:
        return {
            "status": "firing" if self.firing else "resolved",
            "labels": dict(sorted(self.labels.items())),
            "annotations": dict(sorted(self.annotations.items())),
            "startsAt": timestamp(self.starts_at),
            "endsAt": NEVER if self.ends_at is None else timestamp(self.ends_at),
            "generatorURL": self.generator_url,
            "fingerprint": self.fingerprint,
        }


def _common(pairs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = pairs or [{}]
    return {name: value for name, value in sorted(first.items()) if all(other.get(name) == value for other in others)}


def _group_labels(alert: PostedAlert, group_by: Iterable[str]) -> dict[str, str]:
    return {name: alert.labels[name] for name in sorted(group_by) if name in alert.labels}


def webhook(
    alerts: Sequence[PostedAlert],
    *,
    group_by: Sequence[str] = GROUP_BY,
    receiver: str = "stormfold",
    external_url: str = "http://alertmanager.example:9093",
    truncated: int = 0,
) -> dict[str, Any]:
    """One body for one group; the alerts are taken to share the labels of ``group_by``."""
    labels = _group_labels(alerts[0], group_by) if alerts else {}
    pairs = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
    return {
        "receiver": receiver,
        "status": "firing" if any(alert.firing for alert in alerts) else "resolved",
        "alerts": [alert.as_json() for alert in alerts],
        "groupLabels": labels,
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": external_url,
        "version": "4",
        "groupKey": f"{{}}:{{{pairs}}}",
        "truncatedAlerts": truncated,
    }


def webhooks(
    alerts: Iterable[PostedAlert], *, per_request: int | None = None, group_by: Sequence[str] = GROUP_BY
) -> list[dict[str, Any]]:
    """Bodies as Alertmanager groups them: one per group, or several of at most ``per_request`` alerts."""
    groups: dict[tuple[tuple[str, str], ...], list[PostedAlert]] = {}
    for alert in alerts:
        groups.setdefault(tuple(_group_labels(alert, group_by).items()), []).append(alert)
    bodies = []
    for group in groups.values():
        size = per_request or len(group)
        bodies += [webhook(group[at : at + size], group_by=group_by) for at in range(0, len(group), size)]
    return bodies


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as it goes over the wire."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def storm(
    shape: Shape, size: int, *, starts_at: datetime, number: int = 0, seed: int = 0, cluster: str = "demo"
) -> list[PostedAlert]:
    """Distinct alerts of one storm key. Another ``number`` is another storm; another ``seed`` other objects."""
    chance = random.Random(f"{seed}/{number}/{shape}")
    namespace = f"shop-{number}"
    replica_set = f"{chance.getrandbits(40):010x}"
    alerts = []
    for index in range(size):
        container = "api"
        if shape == "nodes":
            name = f"node-{seed}-{number}-{index:04d}"
            labels = {"alertname": "KubeNodeNotReady", "node": name, "condition": "Ready", "status": "true"}
            labels |= {"namespace": f"monitoring-{number}" if number else "monitoring", "severity": "critical"}
            summary = "Node is not ready."
        else:
            # Every alert of one-pod is about the same pod, told apart by its container.
            name = f"api-{replica_set}-{0 if shape == 'one-pod' else index:05d}"
            container = f"worker-{index:04d}" if shape == "one-pod" else container
            labels = {"alertname": "KubePodCrashLooping", "namespace": namespace, "pod": name, "container": container}
            labels |= {"reason": "CrashLoopBackOff", "severity": "warning"}
            summary = "Pod is crash looping."
        labels |= {"cluster": cluster, "job": "kube-state-metrics", "prometheus": "monitoring/k8s"}
        annotations = {"summary": summary, "description": f"{name} ({container}) needs a look."}
        annotations["runbook_url"] = f"https://runbooks.example/{labels['alertname'].lower()}"
        alerts.append(PostedAlert(labels=labels, starts_at=starts_at, annotations=annotations))
    return alerts


def unrelated(*, starts_at: datetime, cluster: str = "demo") -> list[PostedAlert]:
    """Three alerts that have nothing to do with each other nor with any storm."""
    described = (
        (
            {"alertname": "KubePersistentVolumeFillingUp", "namespace": "billing", "severity": "warning"}
            | {"persistentvolumeclaim": "data-postgres-0", "job": "kubelet"},
            "PersistentVolume is filling up.",
        ),
        (
            {"alertname": "KubeDeploymentReplicasMismatch", "namespace": "search", "severity": "warning"}
            | {"deployment": "indexer", "job": "kube-state-metrics"},
            "Deployment has not matched the expected number of replicas.",
        ),
        (
            {"alertname": "NodeClockNotSynchronising", "namespace": "monitoring", "severity": "critical"}
            | {"node": "node-7", "instance": "node-7:9100", "job": "node-exporter"},
            "Clock not synchronising.",
        ),
    )
    return [
        PostedAlert(
            labels=labels | {"cluster": cluster, "prometheus": "monitoring/k8s"},
            starts_at=starts_at,
            annotations={"summary": summary},
        )
        for labels, summary in described
    ]
