"""What is counted of causes against every member that fires, under random histories."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from lua_scripts.leases import Claim
from tests.scripts.lab import START, STORM, Clock, Lab, firing, resolved

LABELS = ("node", "zone")


def told(claim: Claim) -> dict[str, tuple[str, int]]:
    return {cause.label: (cause.value, cause.percent) for cause in claim.causes}


@dataclass
class History:
    """Alerts of some members, each with values of its own, in any order; what is true is asked of the member list."""

    lab: Lab
    clock: Clock
    chance: random.Random
    values: int
    presumes: bool
    members: int = 60

    def __post_init__(self) -> None:
        # Most share a value, so that there is something to tell.
        self.places = {
            f"a{at}": (self._value("n", 0.95), self._value("z", 0.6)) for at in range(self.members)
        }  # fmt: skip

    def _value(self, letter: str, most: float) -> str:
        return f"{letter}0" if self.chance.random() < most else f"{letter}{self.chance.randrange(self.values)}"

    def step(self) -> None:
        self.clock.advance(self.chance.choice([1, 500, 3_000, 20_000]))
        at = self.clock.now - START
        fires = self.chance.random() < self.chance.choice([0.2, 0.8])
        alerts = []
        for name in self.chance.sample(sorted(self.places), self.chance.choice([1, 3, 12, 40])):
            alert = firing(name, at) if fires or self.chance.random() < 0.1 else resolved(name, at)
            unknown = self.presumes and not alert.firing and self.chance.random() < 0.1
            alerts.append(replace(alert, causes=None if unknown else self.places[name]))
        self.lab.deliver(*alerts)
        if self.presumes and self.chance.random() < 0.02:
            self.clock.advance(self.lab.rules.stale_after)

    def truth(self) -> dict[str, Counter[str]]:
        """Values of the members that fire, by what the list of members says."""
        names: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = self.lab.storms.members(STORM, cursor)
            names += [member.fingerprint for member in page if member.status == "firing"]
            if cursor is None:
                break
        return {
            label: Counter(self.places[name][at] for name in set(names)) for at, label in enumerate(LABELS)
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("values", "presumes", "max_members"),
    [(16, False, 50_000), (16, False, 15), (40, False, 50_000), (16, True, 15), (40, True, 50_000)],
)
def test_counts_are_true_under_any_history(
    lab: Lab, clock: Clock, seed: int, values: int, presumes: bool, max_members: int
) -> None:
    # Given any history, with more values than are kept, resolves without labels, members beyond the bound, or without
    lab.change_rules(max_members=max_members, stale_after=600_000, reopen_window=60_000, tombstone=120_000)
    lab.cause_labels = LABELS
    history = History(lab, clock, random.Random(f"{seed}/{values}/{presumes}/{max_members}"), values, presumes)
    exact = values <= 16 and not presumes
    last: dict[str, tuple[str, int]] | None = None
    for _ in range(80):
        history.step()
        state = lab.state()
        if state is None:
            continue
        truth, fires = history.truth(), state["f"]
        counts = state.causes.counts
        # Then what is counted is never more than what is so, and all of it where that can be
        assert all(count <= truth[label][value] for label in counts for value, count in counts[label].items())
        assert not exact or {label: Counter(counts.get(label)) for label in LABELS} == truth
        claim = lab.write()
        if not isinstance(claim, Claim) or claim.singles is not None:
            continue
        # And what is told is at least so, and all that is where it can be
        if claim.storm.alert_count:
            so = {
                label: (value, count * 100 // fires)
                for label in LABELS
                for value, count in truth[label].most_common(1)
                if count * 100 >= 90 * fires
            }
            last = told(claim)
            assert all(last[label][0] == so[label][0] and last[label][1] <= so[label][1] for label in last)
            assert not exact or last == so
        elif last is not None and claim.generation:
            # And at the end it is what was told last
            assert told(claim) == last
