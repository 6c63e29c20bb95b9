"""RemediationRequests as they are rendered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.manifests import cut_resources, manifest_digest, single_manifest, storm_manifest
from tasks.storms import AffectedResource, Signal, Target, Totals
from tests.support.contents import KEY, LEDGER, RESOURCES, SIGNAL, STORM_ID, STORM_NAME, T0, single, storm
from tests.support.crd import violations

LARGEST = 256 * 1024


def test_a_storm_whole() -> None:
    # Given a storm; When it is rendered
    manifest = storm_manifest(storm(omitted_resources=1))
    # Then the object says all of it, and the schema takes it
    assert manifest == {
        "apiVersion": "remediation.stormfold.io/v1alpha1",
        "kind": "RemediationRequest",
        "metadata": {
            "name": STORM_NAME,
            "namespace": "shop",
            "labels": {
                "app.kubernetes.io/managed-by": "stormfold",
                "remediation.stormfold.io/storm-id": STORM_ID,
                "remediation.stormfold.io/type": "Storm",
            },
            "annotations": {"remediation.stormfold.io/fence": "3"},
        },
        "spec": {
            "type": "Storm",
            "stormKey": KEY,
            "signal": {
                "name": "KubePodCrashLooping",
                "severity": "critical",
                "labels": {"alertname": "KubePodCrashLooping", "namespace": "shop"},
                "annotations": {"summary": "A pod crashes again and again.\nSee the runbook."},
                "source": "http://prometheus:9090/graph?g0.expr=up",
            },
            "stormAggregation": {
                "stormType": "rate",
                "alertCount": 12,
                "totalAlerts": 12,
                "resourceCount": 3,
                "firstSeen": "2025-01-02T03:04:05.678Z",
                "lastSeen": "2025-01-02T03:04:10.678Z",
                "totals": {
                    "byNamespace": {"": 1, "shop": 1},
                    "byKind": {"Node": 1, "Pod": 1},
                    "byNode": {"worker-1": 1},
                },
                "supersedes": ["rr-aaaaaaaaaa", "rr-bbbbbbbbbb"],
                "omittedResources": 1,
                "affectedResources": [
                    {"kind": "Pod", "name": "cart-0", "namespace": "shop", "firstSeen": "2025-01-02T03:04:05.678Z",
                     "alertCount": 8},
                    {"kind": "Node", "name": "worker-1", "namespace": "", "firstSeen": "2025-01-02T03:04:06.678Z",
                     "alertCount": 4},
                ],
            },
        },
        "status": {
            "phase": "Active",
            "conditions": [
                {"type": "Active", "status": "True", "reason": "AlertsFiring",
                 "message": "12 of 12 alerts are firing; 3 resources",
                 "lastTransitionTime": "2025-01-02T03:04:11.678Z"},
                {"type": "Resolved", "status": "False", "reason": "AlertsFiring",
                 "message": "12 of 12 alerts are firing; 3 resources",
                 "lastTransitionTime": "2025-01-02T03:04:11.678Z"},
            ],
            "ledger": LEDGER,
            "flaps": 0,
            "fence": 3,
            "observedAt": "2025-01-02T03:04:11.678Z",
        },
    }  # fmt: skip
    assert violations(manifest) == []


def test_a_single_whole() -> None:
    # Given one alert that its storm superseded; When it is rendered
    manifest = single_manifest(single(phase="Superseded", superseded_by=STORM_NAME))
    # Then the object names its target and what covers it now
    assert manifest["metadata"]["annotations"] == {
        "remediation.stormfold.io/fence": "3",
        "remediation.stormfold.io/fingerprint": "5f3c8a1b2c3d4e5f",
    }
    assert manifest["spec"] == {
        "type": "Single",
        "stormKey": KEY,
        "signal": storm_manifest(storm())["spec"]["signal"],
        "targetResource": {"kind": "Pod", "name": "cart-0", "namespace": "shop"},
    }
    assert (manifest["status"]["phase"], manifest["status"]["supersededBy"]) == ("Superseded", STORM_NAME)
    assert violations(manifest) == []


@pytest.mark.parametrize(
    ("phase", "conditions"),
    [
        ("Active", [("Active", "True", "AlertsFiring"), ("Resolved", "False", "AlertsFiring")]),
        ("Resolved", [("Active", "False", "AllResolved"), ("Resolved", "True", "AllResolved")]),
        ("Superseded", [("Active", "False", "Superseded"), ("Resolved", "False", "Superseded")]),
        ("Stale", [("Active", "False", "NoNews"), ("Resolved", "False", "NoNews")]),
    ],
)
def test_conditions_follow_the_phase(phase: Any, conditions: list[tuple[str, str, str]]) -> None:
    # Given a phase; When a storm and a Single are rendered, Then both conditions tell it
    for manifest in (storm_manifest(storm(phase=phase)), single_manifest(single(phase=phase))):
        found = [(one["type"], one["status"], one["reason"]) for one in manifest["status"]["conditions"]]
        assert found == conditions
        assert violations(manifest) == []


@pytest.mark.parametrize(
    ("silenced", "condition"),
    [
        (None, []),
        (0, [("Silenced", "False", "NotSilenced", "no firing alert is silenced")]),
        (5, [("Silenced", "True", "SilencedInAlertmanager", "5 of 12 firing alerts are silenced")]),
    ],
)
def test_a_silence_is_a_condition_beside_the_others(
    silenced: int | None, condition: list[tuple[str, str, str, str]]
) -> None:
    # Given a storm of which so many alerts are silenced, or none ever was
    manifest = storm_manifest(storm(silenced=silenced))
    # Then it is active all the same
    conditions = manifest["status"]["conditions"]
    assert (manifest["status"]["phase"], conditions[:2]) == ("Active", storm_manifest(storm())["status"]["conditions"])
    assert [(c["type"], c["status"], c["reason"], c["message"]) for c in conditions[2:]] == condition


@pytest.mark.parametrize(
    ("silenced", "condition"),
    [
        (None, []),
        (False, [("Silenced", "False", "NotSilenced", "the alert is not silenced")]),
        (True, [("Silenced", "True", "SilencedInAlertmanager", "the alert is silenced")]),
    ],
)
def test_a_silence_of_one_alert_is_a_condition_too(
    silenced: bool | None, condition: list[tuple[str, str, str, str]]
) -> None:
    # Given one alert that is silenced, or was, or never was
    manifest = single_manifest(single(silenced=silenced))
    # Then it is active all the same, and the object is valid
    conditions = manifest["status"]["conditions"]
    assert (manifest["status"]["phase"], conditions[:2]) == (
        "Active",
        single_manifest(single())["status"]["conditions"],
    )
    assert [(c["type"], c["status"], c["reason"], c["message"]) for c in conditions[2:]] == condition
    assert violations(manifest) == []


def test_the_worst_come_first() -> None:
    # Given resources in no order
    worst = AffectedResource("Pod", "z", "b", T0 + 9, 5)
    earlier = AffectedResource("Pod", "y", "b", T0, 2)
    by_name = [AffectedResource("Pod", name, space, T0 + 1, 2) for name, space in [("a", "b"), ("b", "a"), ("b", "b")]]
    ordered = (worst, earlier, *by_name)
    # When they are cut to the worst, Then it is by alerts, then by age, then by name
    assert cut_resources(reversed(ordered), 10) == (ordered, 0)
    assert cut_resources(reversed(ordered), 2) == (ordered[:2], 3)
    assert cut_resources([], 2) == ((), 0)


def test_an_object_is_of_a_size_that_a_person_can_read() -> None:
    # Given everything as long as it can be, in letters of three bytes
    long = "€" * 10_000
    resources = tuple(AffectedResource(long, f"{n}{long[:300]}", long, T0, 1) for n in range(20_000))
    texts = {f"{n}{long[:300]}": long for n in range(200)}
    counts = {f"{n}-{long[:300]}": 20_000 - n for n in range(500)}
    content = storm(
        resources=resources, omitted_resources=7, signal=Signal(long, long, texts, texts, long),
        totals=Totals(counts, counts, counts), key=dict.fromkeys(KEY, long),
    )  # fmt: skip
    # When it is rendered
    manifest = storm_manifest(content)
    aggregation = manifest["spec"]["stormAggregation"]
    # Then it is valid and fits, only detail is shed, and what is shed is counted
    assert violations(manifest) == []
    assert len(json.dumps(manifest, ensure_ascii=False).encode()) < LARGEST
    assert len(aggregation["affectedResources"]) > 50
    assert len(aggregation["affectedResources"]) + aggregation["omittedResources"] == 20_007
    for totals in aggregation["totals"].values():
        assert sum(totals.values()) == sum(counts.values())
        assert len(totals) > 10


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=20) | st.sampled_from(["\ud800", "\x00", "null", "on", "2025-01-01", "a\nb", "€" * 2000]),
    st.integers(),
)
def test_whatever_an_alert_says_the_object_is_valid(text: str, number: int) -> None:
    # Given foreign text and times; When they are rendered
    signal = Signal(text, text, {text: text}, {text: text}, text)
    content = storm(
        signal=signal, key={text: text}, first_seen_ms=number, last_seen_ms=-number, observed_at_ms=number,
        resources=(AffectedResource(text, text, text, number, 1),), totals=Totals({text: 1}, {text: 1}, {text: 1}),
    )  # fmt: skip
    alone = single(signal=signal, target=Target(text, text, text), fingerprint=text, observed_at_ms=number)
    # Then the objects are valid and can be sent
    for manifest in (storm_manifest(content), single_manifest(alone)):
        assert violations(manifest) == []
        json.dumps(manifest, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("changes", "says_something_new"),
    [
        ({"observed_at_ms": T0 + 60_000}, False),
        ({"fence": 99}, False),
        ({"last_seen_ms": T0 + 60_000}, True),
        ({"ledger": LEDGER | {"received": 16, "duplicate": 4}}, True),
        ({"flaps": 1}, True),
        ({"phase": "Stale"}, True),
        ({"alert_count": 11}, True),
        ({"resources": RESOURCES[:1]}, True),
        ({"supersedes": ()}, True),
        ({"signal": Signal(SIGNAL.name, "warning", SIGNAL.labels, SIGNAL.annotations, SIGNAL.source)}, True),
        ({"namespace": "other"}, True),
    ],
)
def test_a_digest_tells_whether_to_write(changes: dict[str, Any], says_something_new: bool) -> None:
    # Given a storm as written, and what is to be said now
    before, after = storm_manifest(storm()), storm_manifest(storm(**changes))
    # When their digests are compared, Then they tell whether to write
    assert (manifest_digest(before) != manifest_digest(after)) is says_something_new
    assert before == storm_manifest(storm())


def test_the_schema_of_the_tests_refuses_what_a_server_refuses() -> None:
    # Given objects with a field too many, one too few and a bad time
    unknown, lacking, timed = (storm_manifest(storm()) for _ in range(3))
    unknown["spec"]["stormAggregation"]["novelty"] = 1
    del lacking["spec"]["signal"]
    timed["status"]["observedAt"] = "yesterday"
    foreign = storm_manifest(storm())
    foreign["status"]["assignee"] = "a consumer's own"
    # When they are checked, Then each is refused but for a consumer's status field
    assert [len(violations(one)) for one in (unknown, lacking, timed, foreign)] == [1, 1, 1, 0]
