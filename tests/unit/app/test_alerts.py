"""What follows from an alert's labels."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.alerts import (
    SEVERITY_NAMES,
    Matcher,
    Resource,
    clean_fingerprint,
    fingerprint_of,
    is_dns_label,
    rr_namespace,
    severity_rank,
    slug,
    storm_id,
    storm_key,
    target_resource,
)

_KSM = {"namespace": "monitoring", "pod": "kube-state-metrics-7d", "container": "kube-state-metrics"}


@pytest.mark.parametrize(
    ("labels", "resource"),
    [
        ({"pod": "cart-1", "namespace": "shop", "node": "n1"}, Resource("Pod", "cart-1", "shop", "n1")),
        (
            {"pod": "cart-1", "namespace": "shop", "deployment": "cart", "job": "ksm"},
            Resource("Deployment", "cart", "shop", ""),
        ),
        ({"job_name": "nightly", "job": "ksm", "namespace": "b"}, Resource("Job", "nightly", "b", "")),
        ({"cronjob": "c", "job_name": "c-1"}, Resource("CronJob", "c", "", "")),
        ({"horizontalpodautoscaler": "h", "deployment": "d"}, Resource("HorizontalPodAutoscaler", "h", "", "")),
        ({"poddisruptionbudget": "b", "pod": "p"}, Resource("PodDisruptionBudget", "b", "", "")),
        ({"persistentvolumeclaim": "v", "statefulset": "s"}, Resource("PersistentVolumeClaim", "v", "", "")),
        ({"statefulset": "s", "daemonset": "d"}, Resource("StatefulSet", "s", "", "")),
        ({"daemonset": "d", "pod": "p"}, Resource("DaemonSet", "d", "", "")),
        (
            {**_KSM, "exported_namespace": "shop", "exported_pod": "cart-1"},
            Resource("Pod", "cart-1", "shop", ""),
        ),
        (
            {**_KSM, "exported_namespace": "kube-system", "exported_pod": "kube-state-metrics-1"},
            Resource("Pod", "kube-state-metrics-1", "kube-system", ""),
        ),
        ({**_KSM, "exported_namespace": "shop", "deployment": "cart"}, Resource("Deployment", "cart", "shop", "")),
        ({**_KSM, "node": "n7"}, Resource("Node", "n7", "", "n7")),
        ({**_KSM, "exported_node": "n8", "node": "n7"}, Resource("Node", "n8", "", "n8")),
        ({"pod": "x-1", "container": "kube-state-metrics", "service": "s"}, Resource("Service", "s", "", "")),
        (
            {"pod": "prom-node-exporter-x", "namespace": "mon", "instance": "10.0.0.1:9100"},
            Resource("Instance", "10.0.0.1:9100", "mon", ""),
        ),
        ({"pod": "cart-1", "job": "kube-state-metrics"}, Resource("Pod", "cart-1", "", "")),
        ({"pod": "", "deployment": "", "node": "n1"}, Resource("Node", "n1", "", "n1")),
        ({"exported_pod": "", "pod": "p"}, Resource("Pod", "p", "", "")),
        ({"service": "s", "instance": "i", "kubernetes_node": "n2"}, Resource("Service", "s", "", "n2")),
        ({"job": "svc", "alertname": "TargetDown"}, Resource("Unknown", "TargetDown", "", "")),
        ({"job": "svc"}, Resource("Unknown", "unknown", "", "")),
    ],
)
def test_the_resource_is_the_first_found_of_the_known_labels(labels: dict[str, str], resource: Resource) -> None:
    assert target_resource(labels) == resource


def test_the_storm_key_takes_the_effective_namespace_and_empty_for_missing_labels() -> None:
    # Given
    labels = {"alertname": "A", "namespace": "monitoring", "exported_namespace": "shop", "exported_alertname": "no"}
    # When
    key = storm_key(labels, ("cluster", "namespace", "alertname"))
    # Then
    assert key == (("cluster", ""), ("namespace", "shop"), ("alertname", "A"))


def test_the_storm_id_is_fixed_for_all_versions_and_orders() -> None:
    # Given
    key = (("cluster", ""), ("namespace", "shop"), ("alertname", "Ä"))
    # When / Then: a change of this value would part running storms from their alerts
    assert storm_id(key) == storm_id(tuple(reversed(key))) == "aa924d260481065a"
    assert storm_id(key) != storm_id((("cluster", "shop"), ("namespace", ""), ("alertname", "Ä")))


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_hashes_are_sixteen_hex_digits_whatever_the_labels(labels: dict[str, str]) -> None:
    assert re.fullmatch("[0-9a-f]{16}", fingerprint_of(labels))
    assert fingerprint_of(labels) == fingerprint_of(dict(reversed(labels.items())))
    assert re.fullmatch("[0-9a-f]{16}", storm_id(tuple(labels.items())))


def test_fingerprints_are_kept_where_they_can_be() -> None:
    # Given
    labels = {"alertname": "A"}
    # When / Then
    assert clean_fingerprint("d1c89d48d69aefe7", labels) == "d1c89d48d69aefe7"
    assert clean_fingerprint("f" * 128, labels) == "f" * 128
    assert clean_fingerprint("", labels) == fingerprint_of(labels)
    odd = [clean_fingerprint(text, labels) for text in ("f" * 129, "f" * 130, "é" * 65, "a\nb", "a\0b", "\ud800")]
    assert len(set(odd)) == 6
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in odd)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("critical", "critical"), ("CRITICAL ", "critical"), ("page", "critical"), ("P1", "critical"),
        ("error", "error"), ("high", "error"), ("warning", "warning"), ("warn", "warning"),
        ("info", "info"), ("none", "unknown"), ("", "unknown"), ("whatever", "unknown"),
    ],
)  # fmt: skip
def test_severities(text: str, name: str) -> None:
    assert SEVERITY_NAMES[severity_rank(text)] == name


@pytest.mark.parametrize(
    ("labels", "namespace", "expected"),
    [
        ({"namespace": "shop"}, "", "shop"),
        ({"namespace": "mon", "exported_namespace": "shop"}, "", "shop"),
        ({"namespace": "shop"}, "all", "all"),
        ({"namespace": "Shop!"}, "", "fallback"),
        ({"namespace": "n" * 64}, "", "fallback"),
        ({"namespace": "shop\n"}, "", "fallback"),
        ({}, "", "fallback"),
    ],
)
def test_the_namespace_of_the_remediation_request(labels: dict[str, str], namespace: str, expected: str) -> None:
    assert rr_namespace(labels, namespace, "fallback") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("KubePodCrashLooping", "kubepodcrashlooping"),
        ("  Disk is 90% full! ", "disk-is-90-full"),
        ("überlast", "berlast"),
        ("磁盘", ""),
        ("", ""),
        ("a" * 45 + "-b", "a" * 45),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text())
def test_every_slug_makes_a_valid_object_name(name: str) -> None:
    part = slug(name)
    assert is_dns_label(f"storm-{part}-0123456789" if part else "storm-0123456789")


@pytest.mark.parametrize(
    ("matcher", "labels", "hit"),
    [
        (Matcher.of("a", "=", "x"), {"a": "x"}, True),
        (Matcher.of("a", "=", "x"), {"a": "xy"}, False),
        (Matcher.of("a", "=", ""), {}, True),
        (Matcher.of("a", "!=", "x"), {}, True),
        (Matcher.of("a", "!=", "x"), {"a": "x"}, False),
        (Matcher.of("a", "=~", "x|y"), {"a": "y"}, True),
        (Matcher.of("a", "=~", "x"), {"a": "xy"}, False),
        (Matcher.of("a", "!~", "x.*"), {"a": "xy"}, False),
        (Matcher.of("a", "!~", "x.*"), {"a": "y"}, True),
    ],
)
def test_matchers(matcher: Matcher, labels: dict[str, str], hit: bool) -> None:
    assert matcher.matches(labels) is hit
