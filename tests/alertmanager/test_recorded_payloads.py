"""What Alertmanager 0.25 really sent, recorded: every payload is accepted and does what its alerts say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.payloads import HEADERS
from tests.support import objects
from tests.support.expect import ledger
from tests.support.stack import Stack
from tests.support.webhook import request

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
BODIES = sorted(path.stem for path in PAYLOADS.glob("*.json") if not path.stem.endswith(".headers"))
FALLBACK = "stormfold-system"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("payloads"), {"SINGLE_HOLD": "300ms"}) as stack:
        yield stack


def send(stack: Stack, name: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    body = (PAYLOADS / f"{name}.json").read_bytes()
    answer = request(stack.port, "POST", "/api/v1/signals/prometheus", body=body, headers=headers or HEADERS)
    assert answer.status == 202, answer
    counts = {key: answer.json[key] for key in ("accepted", "ignored", "deadLettered")}
    assert counts == {"accepted": len(json.loads(body)["alerts"]), "ignored": 0, "deadLettered": 0}
    stack.wait_settled()
    return counts


def key(alertname: str, cluster: str = "") -> dict[str, str]:
    return {"cluster": cluster, "namespace": "", "alertname": alertname}


def phases(stack: Stack, alertname: str, cluster: str = "") -> dict[tuple[str, str, str], str]:
    """The phase of each object of a storm key, all of them Singles, by what it is about."""
    found = stack.objects(key(alertname, cluster))
    assert {rr["spec"]["type"] for rr in found} <= {"Single"}
    assert {rr["metadata"]["namespace"] for rr in found} <= {FALLBACK}
    return {objects.resource(rr["spec"]["targetResource"]): rr["status"]["phase"] for rr in found}


def counted(stack: Stack, alertname: str, cluster: str = "") -> dict[str, int]:
    storm = stack.storm(key(alertname, cluster))
    assert storm is not None
    counts: dict[str, int] = storm["ledger"]
    return counts


def instance(name: str) -> tuple[str, str, str]:
    return "Instance", "", name


def test_a_group_that_fires_changes_and_resolves(stack: Stack) -> None:
    # Given two instances that fire
    send(stack, "firing")
    assert phases(stack, "A_ok") == {instance("n0"): "Active", instance("n1"): "Active"}
    # When one resolves (by a replica that says it began earlier) while a third fires
    send(stack, "mixed")
    # Then each object follows its own alert
    assert phases(stack, "A_ok") == {instance("n0"): "Resolved", instance("n1"): "Active", instance("n2"): "Active"}
    # And when the rest resolves
    send(stack, "resolved")
    assert phases(stack, "A_ok") == dict.fromkeys((instance("n0"), instance("n1"), instance("n2")), "Resolved")
    assert counted(stack, "A_ok") == ledger(new=3, duplicate=1, resolved=3)


def test_a_truncated_group_that_is_called_resolved(stack: Stack) -> None:
    # Given a payload that leaves out three of five alerts
    send(stack, "truncated")
    assert phases(stack, "A_trunc") == {instance("n0"): "Active", instance("n1"): "Active"}
    # When another says "resolved" as a whole, though it shows but two of them
    send(stack, "truncated_misleading_resolved")
    # Then these two are resolved, by their own status
    assert phases(stack, "A_trunc") == {instance("n0"): "Resolved", instance("n1"): "Resolved"}
    assert counted(stack, "A_trunc") == ledger(new=2, resolved=2)


def test_an_alert_of_prometheus(stack: Stack) -> None:
    # Given a target that is down
    send(stack, "prometheus_firing")
    target = instance("127.0.0.1:19997")
    assert phases(stack, "TargetDown", "lab") == {target: "Active"}
    # When it is up again
    send(stack, "prometheus_resolved")
    # Then its object is resolved
    assert phases(stack, "TargetDown", "lab") == {target: "Resolved"}
    assert counted(stack, "TargetDown", "lab") == ledger(new=1, resolved=1)


@pytest.mark.parametrize("name", [name for name in BODIES if (PAYLOADS / f"{name}.headers.json").exists()])
def test_every_payload_is_accepted_with_its_own_headers(stack: Stack, name: str) -> None:
    # Given the headers that came with it (its length aside: the files are indented)
    headers = json.loads((PAYLOADS / f"{name}.headers.json").read_text())
    del headers["Content-Length"], headers["Host"]
    # When it is sent as it was, whatever came before, then it is accepted whole
    send(stack, name, headers)


def test_no_payload_is_forgotten() -> None:
    assert BODIES == [
        "firing", "mixed", "prometheus_firing", "prometheus_resolved", "resolved", "truncated",
        "truncated_misleading_resolved",
    ]  # fmt: skip
