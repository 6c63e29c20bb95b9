"""States what must have come out of a storm key's alerts, reckoned from the alerts alone, and reads what did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support import objects
from tests.support.stack import Stack
from tests.support.webhook import Alert

LEDGER = ("received", "new", "duplicate", "reopened", "resolved", "outdated", "ignored", "pending", "deadLettered")
MAX_RESOURCES = 500
_WORST_LAST = ("info", "warning", "critical")


def ledger(**counts: int) -> dict[str, int]:
    """A storm's ledger: the classes given, the others 0, and what was received is their sum."""
    return dict.fromkeys(LEDGER, 0) | counts | {"received": sum(counts.values())}


def _pod(alert: Alert) -> tuple[str, str, str]:
    return "Pod", alert.labels["namespace"], alert.labels["pod"]


def _conditions(phase: str) -> dict[str, str]:
    active, resolved = {
        "Active": ("True", "False"), "Resolved": ("False", "True"), "Superseded": ("False", "False"),
        "Stale": ("False", "False"),
    }[phase]  # fmt: skip
    return {"Active": active, "Resolved": resolved}


def storm_rr(
    firing: Sequence[Alert],
    *,
    total: int | None = None,
    all_alerts: Sequence[Alert] | None = None,
    kind: str = "rate",
    phase: str = "Active",
    alert_count: int | None = None,
    supersedes: Sequence[str] = (),
    flaps: int = 0,
) -> dict[str, Any]:
    """The view of a storm RR over the pod alerts that fire; ``all_alerts`` are those whose common labels it shows."""
    everything = [one.labels for one in (all_alerts or firing)]
    per_resource = Counter(_pod(one) for one in firing)
    omitted = max(0, len(per_resource) - MAX_RESOURCES)
    namespace = everything[0]["namespace"]
    return {
        "namespace": namespace,
        "phase": phase,
        "conditions": _conditions(phase),
        "signal": {
            "name": everything[0]["alertname"],
            "severity": max((one.labels["severity"] for one in firing), key=_WORST_LAST.index),
        },
        "commonLabels": {
            name: value for name, value in everything[0].items() if all(one.get(name) == value for one in everything)
        },
        "stormType": kind,
        "alertCount": len(firing) if alert_count is None else alert_count,
        "totalAlerts": len(everything) if total is None else total,
        "resources": dict(per_resource),
        "listed": len(per_resource) - omitted,
        "omitted": omitted,
        "byNamespace": {namespace: len(per_resource)},
        "byKind": {"Pod": len(per_resource)},
        "supersedes": sorted(supersedes),
        "flaps": flaps,
    }


def single_rr(alert: Alert, *, phase: str = "Active", flaps: int = 0) -> dict[str, Any]:
    """The view of the Single of a pod alert."""
    labels = dict(alert.labels)
    return {
        "namespace": labels["namespace"],
        "phase": phase,
        "conditions": _conditions(phase),
        "signal": {"name": labels["alertname"], "severity": labels["severity"]},
        "labels": labels,
        "target": _pod(alert),
        "flaps": flaps,
    }


def outcome(stack: Stack, key: Mapping[str, str]) -> dict[str, Any]:
    """All that stormfold says about a storm key: every object in any phase, and the storm in the API."""
    found = stack.objects(key)
    storm = stack.storm(key)
    return {
        "storms": [objects.storm_view(rr) for rr in objects.storms(found)],
        "singles": sorted((objects.single_view(rr) for rr in objects.singles(found)), key=_by_target),
        "api": storm and {name: storm[name] for name in ("phase", "alertCount", "totalAlerts", "ledger")},
    }


def _by_target(view: Mapping[str, Any]) -> tuple[Any, ...]:
    return view["target"], sorted(view["labels"].items())


def expected(
    counts: Mapping[str, int] | None,
    *,
    storms: Sequence[Mapping[str, Any]] = (),
    singles: Sequence[Mapping[str, Any]] = (),
    phase: str = "",
    alert_count: int | None = None,
) -> dict[str, Any]:
    """The outcome that has exactly these objects; ``counts`` is the ledger, None where no storm may be open."""
    whole: dict[str, Any] = {"storms": list(storms), "singles": sorted(singles, key=_by_target), "api": None}
    if counts is not None:
        firing = sum(one["alertCount"] for one in storms) or sum(one["phase"] == "Active" for one in singles)
        whole["api"] = {
            "phase": phase or ("ACTIVE" if storms else "GATHERING"),
            "alertCount": firing if alert_count is None else alert_count,
            "totalAlerts": counts["new"] + counts["reopened"],
            "ledger": dict(counts),
        }
    return whole
