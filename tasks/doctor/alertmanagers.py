"""What the Alertmanagers are configured to do, against what we expect of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

from app.settings import Settings
from tasks.alertmanager.listing import BadAnswer
from tasks.alertmanager.peers import Peer, PeerError, get_json, peer_of
from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.doctor.routing import judge

TIMEOUT_S: Final = 10.0
_ALERTS: Final = "/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true"


@dataclass(frozen=True, slots=True)
class View:
    """One Alertmanager: its configuration, who it gossips with, and whether its alerts say of which cluster they are.

    ``members`` is empty where it stands alone.
    """

    peer: str
    config: str
    members: frozenset[str]
    unnamed: int
    alerts: int
    ahead_ms: int


def check_alertmanagers(settings: Settings, clocks: dict[str, int]) -> Iterator[Finding]:
    """Each of them, then all together; their clocks are added to ``clocks``."""
    if not settings.alertmanager_url:
        yield warn(
            "alertmanager", "none is named: it cannot be checked, and what a lost webhook held is not fetched",
            "set STORMFOLD_ALERTMANAGER_URL",
        )  # fmt: skip
        return
    views: list[View] = []
    for url in settings.alertmanager_url:
        peer = peer_of(url)
        try:
            view = _look(peer)
        except (PeerError, BadAnswer, OSError, HTTPException, ValueError) as error:
            yield fail("alertmanager", f"{peer.name}: {error}", "start it, or mend STORMFOLD_ALERTMANAGER_URL")
            continue
        views.append(view)
        clocks[peer.name] = view.ahead_ms
        yield from judge(peer.name, view.config, settings)
    yield from judge_together(views, settings)


def _look(peer: Peer) -> View:
    end = time.monotonic() + TIMEOUT_S
    status, now_ms = get_json(peer, "/api/v2/status", end)
    ahead = now_ms + 500 - int(time.time() * 1000)
    alerts, _ = get_json(peer, _ALERTS, end)
    if not isinstance(status, dict) or not isinstance(alerts, list):
        raise BadAnswer("its answer is not what Alertmanager says")
    cluster: Any = status.get("cluster") or {}
    members = frozenset(str(one.get("name")) for one in cluster.get("peers") or [])
    unnamed = sum(1 for one in alerts if not (one.get("labels") or {}).get("cluster"))
    config = str((status.get("config") or {}).get("original", ""))
    return View(peer.name, config, members, unnamed, len(alerts), ahead)


def judge_together(views: Sequence[View], settings: Settings) -> Iterator[Finding]:
    """Whether the storms of several clusters would be taken for one; pure."""
    groups: list[set[str]] = []
    for view in views:
        names = set(view.members) or {view.peer}
        for group in [group for group in groups if group & names]:
            names |= group
            groups.remove(group)
        groups.append(names)
    if len(groups) < 2:
        return
    about, text = "clusters", f"{len(groups)} Alertmanagers that do not know one another"
    if "cluster" not in settings.group_by:
        yield warn(about, f"{text}, and GROUP_BY has no cluster", "add cluster to STORMFOLD_GROUP_BY")
    elif unnamed := [view.peer for view in views if view.unnamed]:
        yield warn(
            about, f"{text}, and alerts of {', '.join(unnamed)} have no label cluster: storms of several clusters mix",
            "set external_labels: {cluster: ...} in each Prometheus",
        )  # fmt: skip
    elif not all(view.alerts for view in views):
        yield warn(
            about, f"{text}, and no alert yet shows whether they have a label cluster",
            "set external_labels: {cluster: ...} in each Prometheus",
        )  # fmt: skip
    else:
        yield ok(about, f"{text}; their alerts say of which cluster they are")
