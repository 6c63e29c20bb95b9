"""The verdict itself: it must find what is lost, doubled, miscounted or out of balance, or a soak proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.soak.book import Key
from tests.soak.seen import Seen
from tests.soak.verdict import CLASSES, Comparison, OpenStorm, compare, unbalanced
from tests.soak.watch import backwards
from tests.soak.world import Resource

STORM_KEY: Key = (("alertname", "A"), ("cluster", "lab"), ("namespace", "shop"))
LONE_KEY: Key = (("alertname", "B"), ("cluster", "lab"), ("namespace", "shop"))
PODS: Mapping[str, Resource] = {f"f{number}": ("Pod", "shop", f"web-{number}") for number in range(3)}
TRUTH: Mapping[Key, Mapping[str, Resource]] = {STORM_KEY: PODS, LONE_KEY: {"lone": ("Pod", "shop", "db-0")}}
LEDGER = dict.fromkeys(CLASSES, 0) | {"received": 10, "new": 4, "duplicate": 5, "ignored": 1}
STORM = OpenStorm("storm-a-1", STORM_KEY, "ACTIVE", 3, LEDGER, sorted(PODS))
GATHERING = OpenStorm("storm-b-1", LONE_KEY, "GATHERING", 1, LEDGER, ["lone"])
RR = Seen(
    name="storm-a-1", key=STORM_KEY, type="Storm", phase="Active", fence=5, uid="u", written_at=1.0,
    observed_at="2025-01-01T00:00:05.000Z", fingerprint="", alert_count=3, total_alerts=3,
    resources=dict.fromkeys(PODS.values(), 1), supersedes=frozenset({"rr-old"}),
)  # fmt: skip
SINGLE = Seen(
    name="rr-lone", key=LONE_KEY, type="Single", phase="Active", fence=2, uid="v", written_at=1.0,
    observed_at="2025-01-01T00:00:05.000Z", fingerprint="lone", alert_count=1, total_alerts=1, resources={},
    supersedes=frozenset(),
)  # fmt: skip
STORMS, FOUND = [STORM, GATHERING], [RR, SINGLE]


def counts(comparison: Comparison) -> tuple[int, int, int, int]:
    return comparison.in_rrs, len(comparison.lost), len(comparison.doubled), len(comparison.wrong)


def test_everything_in_its_place() -> None:
    assert counts(compare(TRUTH, STORMS, FOUND)) == (4, 0, 0, 0)


def test_superseded_single_that_its_storm_names_is_no_double() -> None:
    named = replace(SINGLE, name="rr-old", key=STORM_KEY, fingerprint="f0")
    assert counts(compare(TRUTH, STORMS, [*FOUND, named])) == (4, 0, 0, 0)


@pytest.mark.parametrize(
    ("storms", "found", "expected"),
    [
        pytest.param(STORMS, [RR], (3, 1, 0, 0), id="a Single is missing"),
        pytest.param(STORMS, [RR, replace(SINGLE, phase="Resolved")], (3, 1, 0, 0), id="a Single resolved by mistake"),
        pytest.param(STORMS, [SINGLE], (1, 3, 0, 0), id="a storm's RR is missing"),
        pytest.param(STORMS, [replace(RR, phase="Resolved"), SINGLE], (1, 3, 0, 0), id="a storm resolved by mistake"),
        pytest.param(
            [replace(STORM, firing=["f0", "f1"], alert_count=2), GATHERING],
            [replace(RR, alert_count=2), SINGLE], (3, 1, 0, 0), id="a storm forgot a member",
        ),
        pytest.param(
            STORMS, [*FOUND, replace(SINGLE, name="rr-2", key=STORM_KEY, fingerprint="f0")], (3, 0, 1, 0),
            id="in its storm and in a Single",
        ),
        pytest.param(STORMS, [*FOUND, replace(SINGLE, name="rr-2")], (3, 0, 1, 0), id="in two Singles"),
        pytest.param(
            STORMS, [*FOUND, replace(SINGLE, name="rr-2", fingerprint="gone")], (4, 0, 1, 0), id="a Single resolved"
        ),
        pytest.param(
            [replace(STORM, firing=[*sorted(PODS), "gone"], alert_count=4), GATHERING],
            [replace(RR, alert_count=4), SINGLE], (4, 0, 1, 0), id="a storm kept what resolved",
        ),
        pytest.param(STORMS, [*FOUND, replace(RR, name="storm-a-0")], (4, 0, 0, 2), id="two open storms of one key"),
        pytest.param(STORMS, [replace(RR, alert_count=2), SINGLE], (4, 0, 0, 1), id="a storm miscounts"),
        pytest.param(
            STORMS, [replace(RR, resources=dict.fromkeys(list(PODS.values())[1:], 1)), SINGLE], (4, 0, 0, 1),
            id="a storm does not show a resource",
        ),
        pytest.param([replace(STORM, alert_count=4), GATHERING], FOUND, (4, 0, 0, 1), id="the API miscounts"),
        pytest.param(
            STORMS, [*FOUND, replace(RR, name="storm-a-0", phase="")], (4, 0, 0, 1), id="a second one without status"
        ),
        pytest.param(STORMS, [replace(RR, phase=""), SINGLE], (1, 3, 0, 0), id="a storm's status was never written"),
        pytest.param(STORMS, [replace(RR, half=True), SINGLE], (4, 0, 0, 1), id="a status older than its spec"),
        pytest.param(STORMS, [replace(RR, by_hand=True), SINGLE], (4, 0, 0, 1), id="an edit that stands"),
    ],
)  # fmt: skip
def test_what_is_out_of_place(storms: list[OpenStorm], found: list[Seen], expected: tuple[int, int, int, int]) -> None:
    assert counts(compare(TRUTH, storms, found)) == expected


@pytest.mark.parametrize(
    ("ledger", "accepted", "attempted", "expected"),
    [
        pytest.param(LEDGER, 9, 12, 0, id="balanced"),
        pytest.param(LEDGER | {"new": 3}, 9, 12, 1, id="a class lacks one"),
        pytest.param(LEDGER, 10, 12, 1, id="accepted and not received"),
        pytest.param(LEDGER, 5, 9, 1, id="received more than was sent"),
        pytest.param(LEDGER | {"new": 3, "pending": 1}, 9, 12, 1, id="something is still pending"),
        pytest.param(LEDGER | {"new": 3, "deadLettered": 1}, 9, 12, 1, id="a dead letter"),
    ],
)
def test_ledger(ledger: dict[str, int], accepted: int, attempted: int, expected: int) -> None:
    assert len(unbalanced(ledger, [], accepted=accepted, ignored=1, attempted=attempted)) == expected


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        pytest.param(replace(RR, fence=6, observed_at="2025-01-01T00:00:06.000Z", total_alerts=4), 0, id="onwards"),
        pytest.param(replace(RR, phase="Resolved"), 0, id="resolved"),
        pytest.param(replace(RR, fence=4), 1, id="the fence went back"),
        pytest.param(replace(RR, observed_at="2025-01-01T00:00:04.000Z"), 1, id="older content"),
        pytest.param(replace(RR, total_alerts=2), 1, id="fewer alerts in all"),
        pytest.param(replace(RR, uid="w"), 1, id="another object"),
    ],
)
def test_what_went_backwards(later: Seen, expected: int) -> None:
    assert len(backwards(RR, later)) == expected


def test_what_was_deleted_by_hand_goes_on_under_another_uid() -> None:
    anew = replace(RR, uid="w", observed_at="", phase="")
    assert backwards(RR, anew, removed=True) == []
    assert len(backwards(RR, replace(anew, fence=4, total_alerts=2), removed=True)) == 2


def test_superseded_object_stays_so() -> None:
    assert len(backwards(replace(SINGLE, phase="Superseded"), SINGLE)) == 1
