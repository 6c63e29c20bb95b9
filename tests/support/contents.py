"""Contents of RemediationRequests for tests of manifests and sinks, each with a few things changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.storms import AffectedResource, Signal, SingleContent, StormContent, Target, Totals

STORM_ID = "3f0123456789abcd"
STORM_NAME = "storm-kubepodcrashlooping-0123456789"
SINGLE_NAME = "rr-0123456789"
T0 = 1_735_787_045_678
"""2025-01-02T03:04:05.678Z"""

KEY = {"cluster": "", "namespace": "shop", "alertname": "KubePodCrashLooping"}
LEDGER = {
    "received": 15, "new": 12, "duplicate": 3, "reopened": 0, "resolved": 0, "outdated": 0, "ignored": 0, "pending": 0,
    "deadLettered": 0,
}  # fmt: skip
SIGNAL = Signal(
    name="KubePodCrashLooping",
    severity="critical",
    labels={"alertname": "KubePodCrashLooping", "namespace": "shop"},
    annotations={"summary": "A pod crashes again and again.\nSee the runbook."},
    source="http://prometheus:9090/graph?g0.expr=up",
)
RESOURCES = (
    AffectedResource("Pod", "cart-0", "shop", T0, 8),
    AffectedResource("Node", "worker-1", "", T0 + 1000, 4),
)


def storm(**changes: Any) -> StormContent:
    """A storm of 12 alerts on two resources."""
    content = StormContent(
        name=STORM_NAME,
        namespace="shop",
        storm_id=STORM_ID,
        key=KEY,
        phase="Active",
        storm_type="rate",
        signal=SIGNAL,
        alert_count=12,
        total_alerts=12,
        resources=RESOURCES,
        omitted_resources=0,
        totals=Totals({"shop": 1, "": 1}, {"Pod": 1, "Node": 1}, {"worker-1": 1}),
        first_seen_ms=T0,
        last_seen_ms=T0 + 5000,
        supersedes=("rr-aaaaaaaaaa", "rr-bbbbbbbbbb"),
        ledger=LEDGER,
        flaps=0,
        fence=3,
        observed_at_ms=T0 + 6000,
    )
    return replace(content, **changes)


def single(**changes: Any) -> SingleContent:
    """One alert about one pod."""
    content = SingleContent(
        name=SINGLE_NAME,
        namespace="shop",
        storm_id=STORM_ID,
        fingerprint="5f3c8a1b2c3d4e5f",
        key=KEY,
        phase="Active",
        signal=SIGNAL,
        target=Target("Pod", "cart-0", "shop"),
        ledger=LEDGER,
        flaps=0,
        fence=3,
        observed_at_ms=T0 + 6000,
    )
    return replace(content, **changes)
