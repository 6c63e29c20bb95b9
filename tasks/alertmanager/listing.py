"""What Alertmanagers list, read from their answers and laid over one another; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from marshmallow import ValidationError

from app.alerts import Alert
from app.schemas import MalformedAlertError, Webhook, instant

_READER: Final = Webhook()


class BadAnswer(Exception):
    """A peer's answer is not what Alertmanager says."""


@dataclass(frozen=True, slots=True)
class ListedAlert:
    """An alert in an Alertmanager's list. ``age_ms``: since its start, by that Alertmanager's clock.

    ``active`` alerts are notified. ``named``: a receiver of it is stormfold, by name or because there is no other.
    """

    alert: Alert
    active: bool
    silenced: bool
    named: bool
    age_ms: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """For how long a peer has been up, and whether its gossip has settled."""

    uptime_ms: int
    settled: bool


@dataclass(frozen=True, slots=True)
class PeerList:
    """One peer's list; ``present`` are the fingerprints of all of it, alerts that could not be read included."""

    peer: str
    status: PeerStatus
    alerts: Sequence[ListedAlert]
    present: frozenset[str]


@dataclass(frozen=True, slots=True)
class Listing:
    """The lists of all peers in one. ``complete``: every peer answered and has been up for long enough."""

    complete: bool
    alerts: Mapping[str, ListedAlert] = field(default_factory=dict)
    present: frozenset[str] = frozenset()


def read_status(raw: object, now_ms: int) -> PeerStatus:
    """The answer of ``/api/v2/status``, whose ``uptime`` is the time of the start."""
    try:
        started = instant(raw["uptime"]) if isinstance(raw, dict) else 0
        cluster = raw.get("cluster") if isinstance(raw, dict) else None
    except (KeyError, ValidationError) as error:
        raise BadAnswer("its status says no uptime") from error
    settled = not isinstance(cluster, dict) or cluster.get("status") != "settling"
    if not started:
        raise BadAnswer("its status says no uptime")
    return PeerStatus(now_ms - started, settled)


def sole_receiver(raw: object) -> str:
    """The answer of ``/api/v2/receivers``: the name of the only one, '' where there are several."""
    if not isinstance(raw, list):
        raise BadAnswer("its receivers are no list")
    names = {str(one.get("name", "")) for one in raw if isinstance(one, dict)}
    return names.pop() if len(names) == 1 else ""


def read_list(peer: str, status: PeerStatus, raw: object, now_ms: int, receiver: str) -> PeerList:
    """The answer of ``/api/v2/alerts``. A malformed alert is left out, but counts as present."""
    if not isinstance(raw, list):
        raise BadAnswer("its alerts are no list")
    alerts: list[ListedAlert] = []
    present: set[str] = set()
    for index, one in enumerate(raw):
        if not isinstance(one, dict):
            raise BadAnswer(f"alert {index} is no object")
        present.add(str(one.get("fingerprint", "")))
        try:
            alert = _READER.alert(one | {"status": "firing"}, index)
        except MalformedAlertError:
            continue
        present.add(alert.fingerprint)
        alerts.append(_listed(one, alert, now_ms, receiver))
    return PeerList(peer, status, alerts, frozenset(present))


def _listed(raw: Mapping[str, Any], alert: Alert, now_ms: int, receiver: str) -> ListedAlert:
    given = raw.get("status")
    status: Mapping[str, Any] = given if isinstance(given, dict) else {}
    names = [one.get("name") for one in raw.get("receivers") or () if isinstance(one, dict)]
    return ListedAlert(
        alert=alert,
        # Newer versions also say where a time interval mutes an alert that they call active.
        active=status.get("state") == "active" and not status.get("mutedBy"),
        silenced=bool(status.get("silencedBy")),
        named=bool(receiver) and receiver in names,
        age_ms=now_ms - alert.starts_at_ms,
    )


def overlay(lists: Iterable[PeerList], peers: int, min_uptime_ms: int) -> Listing:
    """The lists of those of ``peers`` that answered, in one. What one peer notifies is active, whatever others say."""
    answered = list(lists)
    merged: dict[str, ListedAlert] = {}
    for one in answered:
        for listed in one.alerts:
            known = merged.get(listed.alert.fingerprint)
            merged[listed.alert.fingerprint] = listed if known is None else _both(known, listed)
    return Listing(
        complete=len(answered) == peers
        and all(one.status.settled and one.status.uptime_ms > min_uptime_ms for one in answered),
        alerts=merged,
        present=frozenset().union(*(one.present for one in answered)),
    )


def _both(one: ListedAlert, other: ListedAlert) -> ListedAlert:
    first = one if one.active or not other.active else other
    return replace(
        first,
        active=one.active or other.active,
        silenced=(one.silenced or other.silenced) and not (one.active or other.active),
        named=one.named or other.named,
        age_ms=max(one.age_ms, other.age_ms),
    )
