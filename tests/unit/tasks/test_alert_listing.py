"""What Alertmanagers answer, read and laid over one another."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.alertmanager.listing import BadAnswer, PeerList, PeerStatus, overlay, read_list, read_status, sole_receiver

NOW = 1_763_755_200_000
"""2025-11-21T20:00:00Z."""
LONG_UP = PeerStatus(3_600_000, settled=True)


def raw(fingerprint: str = "d1c89d48d69aefe7", **changes: Any) -> dict[str, Any]:
    """An alert as ``/api/v2/alerts`` of version 0.25 lists it."""
    return {
        "annotations": {"summary": "it is bad"},
        "endsAt": "2025-11-21T20:05:00.000Z",
        "fingerprint": fingerprint,
        "receivers": [{"name": "stormfold"}],
        "startsAt": "2025-11-21T19:59:00.000Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2025-11-21T19:59:30.000Z",
        "generatorURL": "http://prometheus/graph",
        "labels": {"alertname": "Down", "pod": fingerprint},
    } | changes


def listed(*alerts: object, receiver: str = "stormfold", peer: str = "one", status: PeerStatus = LONG_UP) -> PeerList:
    return read_list(peer, status, list(alerts), NOW, receiver)


def test_an_alert_in_the_list() -> None:
    # Given an alert that fires for a minute by the peer's clock
    [one] = listed(raw()).alerts
    # Then all that a webhook would say of it is there, its end, which lies ahead, apart
    assert (one.alert.fingerprint, one.alert.firing, one.alert.starts_at_ms, one.alert.ends_at_ms) == (
        "d1c89d48d69aefe7", True, NOW - 60_000, 0,
    )  # fmt: skip
    assert one.alert.labels == {"alertname": "Down", "pod": "d1c89d48d69aefe7"}
    assert (one.active, one.silenced, one.named, one.age_ms) == (True, False, True, 60_000)


@pytest.mark.parametrize(
    ("status", "active", "silenced"),
    [
        ({"state": "active", "silencedBy": [], "inhibitedBy": []}, True, False),
        ({"state": "suppressed", "silencedBy": ["a1"], "inhibitedBy": []}, False, True),
        ({"state": "suppressed", "silencedBy": [], "inhibitedBy": ["b2"]}, False, False),
        ({"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": ["night"]}, False, False),
        ({"state": "unprocessed", "silencedBy": [], "inhibitedBy": []}, False, False),
        (None, False, False),
    ],
)
def test_only_what_is_notified_is_active(status: object, active: bool, silenced: bool) -> None:
    found = listed(raw(status=status))
    assert [(one.active, one.silenced) for one in found.alerts] == [(active, silenced)]
    assert found.present == {"d1c89d48d69aefe7"}


def test_a_receiver_is_ours_by_its_name() -> None:
    others = [{"name": "pager"}, {"name": "mail"}]
    assert [one.named for one in listed(raw(), raw("b", receivers=others)).alerts] == [True, False]
    assert [one.named for one in listed(raw(), receiver="").alerts] == [False]
    assert sole_receiver([{"name": "only"}]) == "only"
    assert sole_receiver([{"name": "one"}, {"name": "other"}]) == ""


def test_a_malformed_alert_is_left_out_but_present() -> None:
    # Given an alert without labels beside a good one
    found = listed(raw("bad", labels={}), raw("good"))
    # Then only the good one is read, and none of the two counts as missing
    assert [one.alert.fingerprint for one in found.alerts] == ["good"]
    assert found.present == {"bad", "good"}


@pytest.mark.parametrize("answer", [None, {}, "alerts", [1], [[]]])
def test_an_answer_of_another_form_is_no_empty_list(answer: object) -> None:
    with pytest.raises(BadAnswer):
        read_list("one", LONG_UP, answer, NOW, "")


def test_status() -> None:
    started = {"uptime": "2025-11-21T19:50:00.000Z"}
    assert read_status(started, NOW) == PeerStatus(600_000, settled=True)
    assert read_status(started | {"cluster": {"status": "ready"}}, NOW).settled
    assert not read_status(started | {"cluster": {"status": "settling"}}, NOW).settled
    for bad in ({}, [], {"uptime": "long"}, {"uptime": None}):
        with pytest.raises(BadAnswer):
            read_status(bad, NOW)


def test_lists_in_one() -> None:
    # Given two peers: one silences what the other notifies, and each has an alert that the other lacks
    quiet = {"state": "suppressed", "silencedBy": ["a1"], "inhibitedBy": []}
    one = listed(raw("both", status=quiet), raw("first", status=quiet))
    other = listed(raw("both"), raw("second"), peer="other", receiver="")
    for lists in ([one, other], [other, one]):
        found = overlay(lists, 2, 600_000)
        # Then all are present, and what one peer notifies is active
        assert found.complete
        assert found.present == {"both", "first", "second"}
        assert {name: (a.active, a.silenced, a.named) for name, a in found.alerts.items()} == {
            "both": (True, False, True), "first": (False, True, True), "second": (True, False, False),
        }  # fmt: skip


@pytest.mark.parametrize(
    "lists",
    [
        [],
        [listed()],
        [listed(), listed(peer="other", status=PeerStatus(600_000, settled=True))],
        [listed(), listed(peer="other", status=PeerStatus(3_600_000, settled=False))],
    ],
    ids=["nobody answered", "one did not answer", "one restarted lately", "one is still settling"],
)
def test_lists_are_complete_only_when_every_peer_answered_and_is_up_for_long(lists: list[PeerList]) -> None:
    assert not overlay(lists, 2, 600_000).complete
