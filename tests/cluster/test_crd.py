"""What the definition lets in and what it refuses, on a real API server."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.manifests import API_VERSION, KIND, Manifest, cut_resources, single_manifest, storm_manifest
from tasks.sinks import Deadline
from tasks.sinks.kubernetes import KubernetesSink
from tasks.storms import AffectedResource, CauseHint, Totals
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.contents import SINGLE_NAME, STORM_NAME, T0, single, storm

AGGREGATION = ("spec", "stormAggregation")


def changed(manifest: Manifest, path: tuple[str, ...], value: Any) -> Manifest:
    """A copy with one place set, or removed where the value is None."""
    manifest = copy.deepcopy(manifest)
    at = manifest
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return manifest


def refused(plane: ControlPlane, manifest: Manifest, verb: str = "create") -> str:
    """What the server says against a manifest, '' if it takes it."""
    try:
        plane.kubectl(verb, "-f", "-", stdin=json.dumps(manifest))
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*AGGREGATION, "alertCount"), 13, "alertCount must not exceed totalAlerts"),
        ((*AGGREGATION, "alertCount"), -1, "greater than or equal to 0"),
        ((*AGGREGATION, "resourceCount"), 3, "resourceCount must be the number"),
        ((*AGGREGATION, "omittedResources"), 1, "resourceCount must be the number"),
        ((*AGGREGATION, "lastSeen"), "2025-01-01T00:00:00Z", "firstSeen must not be later than lastSeen"),
        ((*AGGREGATION, "lastSeen"), "yesterday", "must be of type date-time"),
        ((*AGGREGATION, "stormType"), "odd", "Unsupported value"),
        ((*AGGREGATION, "totals"), None, "totals: Required value"),
        (AGGREGATION, None, "a Storm has a stormAggregation"),
        (("spec", "targetResource"), {"kind": "Pod", "name": "x", "namespace": ""}, "a Single has a targetResource"),
        (("spec", "type"), "Other", "Unsupported value"),
        (("spec", "stormKey"), None, "stormKey: Required value"),
        (("spec",), None, "spec: Required value"),
        (("metadata", "name"), "storm.with.dots", "DNS-1123 label of at most 63"),
        (("metadata", "name"), "x" * 64, "DNS-1123 label of at most 63"),
    ],
)
def test_what_contradicts_itself_is_refused(
    control_plane: ControlPlane, namespace: str, path: tuple[str, ...], value: Any, message: str
) -> None:
    # Given a storm with one thing wrong; When it is created, Then the server says what is wrong
    manifest = changed(storm_manifest(storm(namespace=namespace)), path, value)
    assert message in refused(control_plane, manifest)


def test_what_a_storm_is_cannot_change(control_plane: ControlPlane, namespace: str) -> None:
    # Given a storm
    manifest = storm_manifest(storm(namespace=namespace))
    assert refused(control_plane, manifest) == ""
    # When its key or type changes, Then that is refused
    assert "stormKey is immutable" in refused(
        control_plane, changed(manifest, ("spec", "stormKey", "cluster"), "b"), "replace"
    )
    other = single_manifest(single(namespace=namespace, name=STORM_NAME))
    assert "type is immutable" in refused(control_plane, other, "replace")


def test_a_table_for_operators(control_plane: ControlPlane, namespace: str, sink: Any, deadline: Any) -> None:
    # Given a storm and a Single
    causes = (CauseHint("zone", "eu-1a", 96), CauseHint("node", "worker-1", 91))
    content = storm(namespace=namespace, alert_count=10, omitted_resources=5, causes=causes)
    sink.put(storm_manifest(content), None, deadline)
    sink.put(single_manifest(single(namespace=namespace, phase="Resolved")), None, deadline)
    # When an operator lists them by the short name
    table = [line.split() for line in control_plane.kubectl("get", "rr", "-n", namespace).splitlines()]
    wide = [line.split() for line in control_plane.kubectl("get", "rr", "-n", namespace, "-o", "wide").splitlines()]
    # Then there is what one needs to know at 3 am
    assert table[0] == ["NAME", "TYPE", "SIGNAL", "SEVERITY", "ALERTS", "RESOURCES", "PHASE", "AGE"]
    assert table[1][:5] == [SINGLE_NAME, "Single", "KubePodCrashLooping", "critical", "Resolved"]
    assert table[2][:-1] == [STORM_NAME, "Storm", "KubePodCrashLooping", "critical", "10", "7", "Active"]
    assert wide[0] == [*table[0], "TARGET", "TOTAL", "CAUSE", "FLAPS", "OBSERVED"]
    assert wide[2][-4:-1] == ["12", "eu-1a", "0"]


def test_the_schema_is_explained(control_plane: ControlPlane) -> None:
    # Given the definition; When an operator asks what a field means, Then the server tells
    text = control_plane.kubectl("explain", "rr.spec.stormAggregation.omittedResources")
    assert "Affected resources that the list has no room for." in text


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("get", "remediationrequests", "yes"),
        ("list", "remediationrequests", "yes"),
        ("watch", "remediationrequests", "yes"),
        ("create", "remediationrequests", "yes"),
        ("patch", "remediationrequests", "yes"),
        ("patch", "remediationrequests/status", "yes"),
        ("update", "remediationrequests", "no"),
        ("delete", "remediationrequests", "yes"),
        ("get", "secrets", "no"),
        ("create", "pods", "no"),
    ],
)
def test_a_worker_may_write_its_objects_and_nothing_else(
    control_plane: ControlPlane, namespace: str, verb: str, resource: str, allowed: str
) -> None:
    # Given the worker's service account; When asked, Then the server says what it may
    kind, _, subresource = resource.partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "verb": verb, "resource": kind,
            "group": "remediation.stormfold.io" if kind == "remediationrequests" else "",
            "subresource": subresource, "namespace": namespace,
        }},
    }  # fmt: skip
    answer = control_plane.kubectl(
        "create", "--validate=false", "-f", "-", "-o", "json", user=WORKER, stdin=json.dumps(review)
    )
    assert json.loads(answer)["status"]["allowed"] is (allowed == "yes")


def test_the_server_knows_the_names_that_the_code_uses(control_plane: ControlPlane) -> None:
    # Given the server; When asked for its kinds, Then ours is there under the names that the code uses
    line = control_plane.kubectl("api-resources", "--api-group=remediation.stormfold.io", "--no-headers").split()
    assert line == ["remediationrequests", "rr", API_VERSION, "true", KIND]


def test_ten_thousand_resources_are_an_object_that_a_person_can_read(
    control_plane: ControlPlane, namespace: str, sink: KubernetesSink, deadline: Deadline
) -> None:
    # Given a storm of 10,000 resources with names as long as they get, and room in the list for half of them
    names = [f"checkout-service-production-7d9c5b8f6d-{n:05d}-{'x' * 40}" for n in range(10_000)]
    resources = tuple(AffectedResource("Pod", name, namespace, T0, 10_000 - n) for n, name in enumerate(names))
    listed, omitted = cut_resources(resources, 5_000)
    totals = Totals({namespace: 10_000}, {"Pod": 10_000}, {f"node-{n:03d}": 50 for n in range(200)})
    content = storm(
        namespace=namespace, resources=listed, omitted_resources=omitted, totals=totals, alert_count=50_000,
        total_alerts=50_000,
    )  # fmt: skip
    # When it is written and changed
    ref = sink.put(storm_manifest(content), None, deadline)
    sink.put(storm_manifest(replace(content, fence=9, alert_count=49_999)), ref, deadline)
    # Then what the server keeps, its own records included, is within 256 KiB, also as the YAML that a person reads
    where = ("rr", STORM_NAME, f"--namespace={namespace}", "--show-managed-fields")
    stored = json.loads(control_plane.kubectl("get", *where, "-o", "json"))
    assert len(json.dumps(stored, separators=(",", ":")).encode()) <= 256 * 1024
    assert len(control_plane.kubectl("get", *where, "-o", "yaml").encode()) <= 256 * 1024
    # And the worst come first, none is uncounted, and the whole is told by namespace, kind and node
    aggregation = stored["spec"]["stormAggregation"]
    shown = [one["name"] for one in aggregation["affectedResources"]]
    assert shown == names[: len(shown)]
    assert len(shown) > 1_000
    assert aggregation["resourceCount"] == len(shown) + aggregation["omittedResources"] == 10_000
    assert [sum(one.values()) for one in aggregation["totals"].values()] == [10_000] * 3
