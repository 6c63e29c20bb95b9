"""Workers on an API server's bad day: whatever it answers meanwhile, in the end the cluster says what is the case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import WORKER, ControlPlane
from tests.cluster.proxy import Proxy
from tests.cluster.script import Hush, Reset, Say, Seen
from tests.cluster.servers import token_of, write_kubeconfig
from tests.support.crd import violations
from tests.support.scene import Scene
from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at

KINDS = ("PodCrashLooping", "PodNotReady", "ImagePullFails")
PAUSE_S = 2.0
ASKED = Say(429, {"reason": "TooManyRequests"}, {"Retry-After": f"{PAUSE_S:g}"})
CREATES = (ASKED, Reset(forward=True), Say(503), Hush())
UPDATES = (Say(500), Reset(forward=True), Say(504), Hush(seconds=1.5, forward=True))


@pytest.fixture
def stack(
    control_plane: ControlPlane, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, proxy.url, control_plane.authority, {"token": token_of(WORKER)})
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    settings = {"SINK": "kubernetes", "LEASE": "10s", "KUBE_TIMEOUT": "1s", "MAX_WAIT": "1s"}
    with Stack(tmp_path / "stack", settings) as stack:
        yield stack


def test_a_storm_grows_and_ends_on_a_bad_day(
    control_plane: ControlPlane, proxy: Proxy, stack: Stack, scene: Scene
) -> None:
    def objects() -> list[dict[str, Any]]:
        return control_plane.items("remediationrequests.remediation.stormfold.io", scene.namespace)

    def said() -> list[tuple[str, int, int]]:
        found = [(one.get("status", {}).get("phase"), one["spec"]["stormAggregation"]) for one in objects()]
        return [(phase, whole["alertCount"], whole["totalAlerts"]) for phase, whole in found]

    def post(first: int, count: int, ends: float | None = None) -> None:
        for kind in KINDS:
            alerts = scene.pods(count, kind, first=first)
            stack.post(alerts if ends is None else [alert.resolved(at(ends)) for alert in alerts])

    # Given a server that does so to the first creates and updates
    proxy.on("POST", f"/namespaces/{scene.namespace}/remediationrequests", *CREATES)
    proxy.on("PATCH", f"/namespaces/{scene.namespace}/remediationrequests/", *UPDATES)

    def settled(*expected: str | int) -> None:
        wait_until(
            lambda: said() == [expected] * len(KINDS) and stack.settled(), f"{expected} everywhere",
            deadline_s=90, poll_s=0.3, describe=said,
        )  # fmt: skip

    # When three storms begin, grow and end, each of it written before the next comes
    post(0, 12)
    settled("Active", 12, 12)
    post(12, 8)
    settled("Active", 20, 20)
    post(0, 20, ends=60)
    settled("Resolved", 0, 20)
    # Then every line of the script was met, and nothing is wrong any more
    assert proxy.left() == 0
    metrics = stack.get("/metrics").body.decode().splitlines()
    assert "stormfold_kube_failures 0.0" in metrics
    # And each storm has one object, which was made once, and says what the state says
    made = [one["objectRef"]["name"] for one in control_plane.audit(scene.namespace) if was_created(one)]
    found = objects()
    assert sorted(made) == sorted(one["metadata"]["name"] for one in found)
    for kind in KINDS:
        item = stack.storm(scene.key(kind))
        assert item is not None
        [rr] = [one for one in found if one["metadata"]["name"] == item["id"]]
        assert violations(rr) == []
        assert (item["phase"], item["alertCount"], item["totalAlerts"]) == ("RESOLVED", 0, 20)
        assert rr["status"]["ledger"].items() <= item["ledger"].items()
        assert (rr["status"]["phase"], rr["spec"]["stormAggregation"]["totalAlerts"]) == ("Resolved", 20)
    # And while the server had asked for patience, no worker wrote anything new
    assert early(proxy.seen()) == []


def was_created(event: dict[str, Any]) -> bool:
    about = event["objectRef"]
    created = (event["verb"], event["responseStatus"].get("code")) == ("create", 201)
    return created and about["resource"] == "remediationrequests"


def early(seen: list[Seen]) -> list[str]:
    """What was begun in the pause after the first create, which met the 429; what was under way may end."""
    began = next(one.at for one in seen if one.method == "POST" and one.path.endswith("/remediationrequests"))
    return [one.brief for one in seen if one.method != "GET" and began + 0.5 < one.at < began + PAUSE_S]
