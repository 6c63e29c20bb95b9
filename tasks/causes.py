"""What nearly all of a storm's firing alerts share although its key does not say it: where to look first; pure."""

# Only what is at hand anyway is counted: how the values of any label spread over members that differ is not kept.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lua_scripts.records import ResourceRecord
from tasks.storms import CauseHint

MOST_PERCENT: Final = 90


def cause_hints(
    labels: Sequence[str],
    key: Mapping[str, str],
    common: Mapping[str, str],
    resources: Iterable[ResourceRecord],
    elsewhere: int,
) -> tuple[CauseHint, ...]:
    """A hint for each of the labels that has one, the largest share first.

    ``common`` is what all alerts of the storm ever had in common. Of node and namespace it is also known how the firing
    alerts spread over them, for their resources say so; ``elsewhere`` are those whose resource is not known.
    """
    nodes: Counter[str] = Counter()
    namespaces: Counter[str] = Counter()
    firing = elsewhere
    for resource in resources:
        firing += resource.alert_count
        nodes[resource.node] += resource.alert_count
        namespaces[resource.namespace] += resource.alert_count
    hints = []
    for label in labels:
        if label in key:
            continue
        spread = {"node": nodes, "namespace": namespaces}.get(label, Counter())
        value, count = max(spread.items(), key=lambda item: (item[1], item[0]), default=("", 0))
        if common.get(label):
            hints.append(CauseHint(label, common[label], 100))
        elif value and firing and count * 100 >= MOST_PERCENT * firing:
            hints.append(CauseHint(label, value, count * 100 // firing))
    return tuple(sorted(hints, key=lambda hint: -hint.percent))
