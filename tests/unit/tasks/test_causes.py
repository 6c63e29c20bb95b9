"""The hint where to look first: what nearly all firing alerts share and the storm's key does not say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lua_scripts.records import ResourceRecord
from tasks.causes import cause_hints
from tasks.manifests import storm_manifest
from tasks.storms import CauseHint
from tests.support.contents import storm
from tests.support.crd import violations

LABELS = ("node", "zone", "namespace", "image")
KEY = {"alertname": "PodDown", "cluster": ""}


def on(node: str, alerts: int, namespace: str = "shop") -> ResourceRecord:
    return ResourceRecord("Pod", f"pod-{node}-{namespace}", namespace, node, 0, alerts)


@pytest.mark.parametrize(
    ("resources", "common", "elsewhere", "wanted"),
    [
        ([on("n1", 9), on("n2", 1, "bank")], {}, 0, [("node", "n1", 90), ("namespace", "shop", 90)]),
        ([on("n1", 89), on("n2", 11)], {}, 0, [("namespace", "shop", 100)]),
        ([on("n1", 9), on("n2", 1)], {}, 1, [("namespace", "shop", 90)]),
        ([on("", 10, "")], {}, 0, []),
        ([on("n1", 5), on("n2", 5, "bank")], {"zone": "b", "image": ""}, 0, [("zone", "b", 100)]),
        ([on("n1", 19), on("n2", 1)], {"node": "told"}, 0, [("node", "told", 100), ("namespace", "shop", 100)]),
        ([on("n1", 0)], {}, 0, []),
        ([], {}, 0, []),
    ],
)
def test_what_nearly_all_share_is_a_hint(
    resources: list[ResourceRecord], common: Mapping[str, str], elsewhere: int, wanted: list[tuple[str, str, int]]
) -> None:
    # Given resources with firing alerts, and what all alerts have in common; Then 90 % are enough, the largest first
    found = cause_hints(LABELS, KEY, common, resources, elsewhere)
    assert [(hint.label, hint.value, hint.percent) for hint in found] == wanted


def test_what_the_key_says_is_no_hint() -> None:
    # Given a storm key with the namespace in it; Then only what it does not say is told, and only what was asked for
    key = KEY | {"namespace": "shop"}
    assert cause_hints(LABELS, key, {"namespace": "shop", "team": "a"}, [on("n1", 3)], 0) == (
        CauseHint("node", "n1", 100),
    )
    assert cause_hints((), KEY, {"zone": "b"}, [on("n1", 3)], 0) == ()


def test_the_object_tells_it() -> None:
    # Given a storm with a hint and one without
    told = storm_manifest(storm(causes=(CauseHint("node", "n1", 93),)))
    # Then the first has it, as the definition wants it, and the other has no such field
    assert violations(told) == []
    assert told["spec"]["stormAggregation"]["causeHint"] == [{"label": "node", "value": "n1", "share": 0.93}]
    assert "causeHint" not in storm_manifest(storm())["spec"]["stormAggregation"]
