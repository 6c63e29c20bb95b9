"""What nearly all of a storm's firing alerts share although its key does not say it: where to look first; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lua_scripts.records import Cause
from tasks.storms import CauseHint


def cause_hints(labels: Sequence[str], key: Mapping[str, str], causes: Iterable[Cause]) -> tuple[CauseHint, ...]:
    """The hints that are asked for, the largest share first, of equal ones in the order of the labels."""
    best: dict[str, CauseHint] = {}
    for cause in causes:
        known = best.get(cause.label)
        # Two values of a label can only be here where a sender gave alerts of other labels the same fingerprint.
        if known is None or (cause.percent, cause.value) > (known.percent, known.value):
            best[cause.label] = CauseHint(cause.label, cause.value, cause.percent)
    hints = [best[label] for label in labels if label in best and label not in key]
    return tuple(sorted(hints, key=lambda hint: -hint.percent))
