"""The hint where to look first: what nearly all firing alerts share and the storm's key does not say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from app.alerts import Alert, cause_values
from app.entries import Entry
from lua_scripts.records import Cause
from tasks.causes import cause_hints
from tasks.ingest import to_take
from tasks.manifests import storm_manifest
from tasks.storms import CauseHint
from tests.support.contents import storm
from tests.support.crd import violations

LABELS = ("node", "zone", "namespace", "image")
KEY = {"alertname": "PodDown", "cluster": ""}


@pytest.mark.parametrize(
    ("causes", "wanted"),
    [
        ([], []),
        ([("zone", "b", 90)], [("zone", "b", 90)]),
        ([("zone", "b", 91), ("node", "n1", 95)], [("node", "n1", 95), ("zone", "b", 91)]),
        ([("image", "i:1", 100), ("node", "n1", 100)], [("node", "n1", 100), ("image", "i:1", 100)]),
        ([("team", "a", 100), ("cluster", "", 100), ("alertname", "PodDown", 100)], []),
        ([("zone", "a", 92), ("zone", "b", 97), ("zone", "c", 92)], [("zone", "b", 97)]),
    ],
)
def test_what_is_asked_for_is_told_the_largest_share_first(
    causes: list[tuple[str, str, int]], wanted: list[tuple[str, str, int]]
) -> None:
    # Given what members share; Then each label that was asked for is told once, equal shares in the order of the labels
    found = cause_hints(LABELS, KEY, [Cause(*each) for each in causes])
    assert [(hint.label, hint.value, hint.percent) for hint in found] == wanted


def test_what_the_key_says_is_no_hint() -> None:
    # Given a storm key with the namespace in it; Then only what it does not say is told, and only what was asked for
    shared = [Cause("namespace", "shop", 100), Cause("node", "n1", 100)]
    assert cause_hints(LABELS, KEY | {"namespace": "shop"}, shared) == (CauseHint("node", "n1", 100),)
    assert cause_hints((), KEY, shared) == ()


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ({}, ("", "", "", "")),
        ({"node": "n1", "zone": "b", "team": "a"}, ("n1", "b", "", "")),
        ({"exported_zone": "real", "zone": "scraped", "exported_namespace": "shop"}, ("", "real", "shop", "")),
        ({"exported_zone": "", "zone": "b"}, ("", "b", "", "")),
        ({"kubernetes_node": "n1"}, ("n1", "", "", "")),
        ({"exported_node": "n2", "node": "n1"}, ("n2", "", "", "")),
        ({"image": "i" * 200, "zone": "z" * 201}, ("", "", "", "i" * 200)),
        ({"image": "é" * 100, "zone": "é" * 101}, ("", "", "", "é" * 100)),
    ],
)
def test_the_values_that_are_counted(labels: Mapping[str, str], values: tuple[str, ...]) -> None:
    # Given an alert's labels; Then what a scrape pushed aside comes first, and what is too long is not counted
    assert cause_values(labels, LABELS) == values


def test_an_entry_brings_what_its_key_does_not_say() -> None:
    # Given an entry of a key with a zone: alerts that fire and that resolved, and a resolve that was presumed
    labels = {"alertname": "PodDown", "zone": "b", "node": "n1"}
    fires, ends = Alert("a", True, 1, 0, labels, {}, ""), Alert("b", False, 1, 2, labels, {}, "")
    presumed = Alert("c", False, 1, 2, {}, {}, "")
    entry = Entry("delivery", (("alertname", "PodDown"), ("zone", "b")), "shop", (fires, ends, presumed))
    # When it is made ready
    taken = to_take("delivery-0-3", entry, LABELS, details=False)
    # Then the zone is left out, and of the last nothing is known
    assert taken.cause_labels == ["node", "namespace", "image"]
    assert [alert.causes for alert in taken.alerts] == [("n1", "", ""), ("n1", "", ""), None]


def test_the_object_tells_it() -> None:
    # Given a storm with a hint for each label that may be asked for, and one without
    causes = tuple(CauseHint(f"label_{at}", "ü" * 100, 93) for at in range(8))
    told = storm_manifest(storm(causes=causes))
    # Then the first has them, as the definition wants it, and the other has no such field
    assert violations(told) == []
    assert told["spec"]["stormAggregation"]["causeHint"] == [
        {"label": f"label_{at}", "value": "ü" * 100, "share": 0.93} for at in range(8)
    ]
    assert "causeHint" not in storm_manifest(storm())["spec"]["stormAggregation"]
