"""Open storms as the API and the page show them, with a worker that made them."""

from __future__ import annotations

from pathlib import Path

from tests.support.stack import Stack
from tests.support.webhook import Alert, at


def test_a_storm_with_its_members_and_its_page(tmp_path: Path) -> None:
    # Given a storm of twelve pods, two of which have recovered
    key = {"cluster": "eu", "namespace": "shop", "alertname": "PodDown"}
    alerts = [Alert({**key, "pod": f"cart-{number}", "severity": "critical"}, at(number)) for number in range(12)]
    with Stack(tmp_path, workers=1) as stack:
        stack.post(alerts)
        stack.post([alert.resolved(at(60)) for alert in alerts[:2]])
        stack.wait_received(key, 14)
        # When
        storm = stack.storm(key)
        assert storm is not None
        one = stack.api(f"storms/{storm['id']}")
        members = stack.pages(f"storms/{storm['id']}/members")
        page = stack.get("/").body.decode()
    # Then
    assert one == storm
    figures = ("namespace", "phase", "stormType", "alertCount", "totalAlerts", "flaps")
    assert [storm[name] for name in figures] == ["shop", "ACTIVE", "rate", 10, 12, 0]
    assert {name: count for name, count in storm["ledger"].items() if count} == {
        "received": 14, "new": 12, "resolved": 2,
    }  # fmt: skip
    assert {one["fingerprint"]: one["status"] for one in members} == {
        alert.fingerprint: "resolved" if number < 2 else "firing" for number, alert in enumerate(alerts)
    }
    assert {one["fingerprint"]: one["resource"] for one in members if one["status"] == "firing"} == {
        alert.fingerprint: {"kind": "Pod", "name": alert.labels["pod"], "namespace": "shop"} for alert in alerts[2:]
    }
    assert storm["id"] in page
    assert "1 active · stormfold" in page
