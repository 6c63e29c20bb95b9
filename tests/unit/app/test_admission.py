"""Admission: what is let in by what Redis will use and by how long alerts have waited; the rule, without a Redis."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from app.admission import LOOK_FOR_S, Admission, Load, state_of
from lua_scripts.errors import StoreFull, StoreOverloaded, StoreTimeout
from lua_scripts.inbox import Waiting
from lua_scripts.memory import Memory

MIB = 1 << 20


@dataclass
class Redis:
    """What a look at Redis finds, and how often one looked; the clock stands still unless moved."""

    used: int = 0
    limit: int = 100 * MIB
    waiting: Waiting = field(default_factory=Waiting)
    looks: int = 0
    now: float = 1.0
    fails: bool = False

    def look(self) -> Load:
        self.looks += 1
        if self.fails:
            raise StoreTimeout("hangs")
        return Load(Memory(self.used, self.limit), self.waiting)

    def admission(self) -> Admission:
        return Admission(self.look, 80, 120_000, lambda: self.now)


def refused(admission: Admission, growth: int) -> bool:
    try:
        admission.check()
        admission.admit(growth)
    except StoreFull:
        return True
    return False


@pytest.mark.parametrize(
    ("used", "growth", "is_refused"),
    [
        (79 * MIB, MIB, False), (79 * MIB, MIB + 1, True), (81 * MIB, 1, True),
        # what makes no state frees: it comes in while there is room to drain
        (81 * MIB, 0, False), (93 * MIB, 0, False), (95 * MIB, 0, True),
    ],
)  # fmt: skip
def test_share_of_memory(used: int, growth: int, is_refused: bool) -> None:
    assert refused(Redis(used=used).admission(), growth) is is_refused


def test_a_small_redis_keeps_room_whatever_the_share() -> None:
    # Given 3 MiB, of which a fifth is less than draining may need
    assert refused(Redis(used=2 * MIB + 1000, limit=3 * MIB).admission(), 1)
    assert not refused(Redis(used=2 * MIB - 1000, limit=3 * MIB).admission(), 1)


def test_what_waits_counts_as_the_state_it_will_be() -> None:
    # Given entries that are small as they wait, and large afterwards
    waiting = Waiting(entries=10_000, alerts=10_000, bytes=2 * MIB)
    becomes = state_of(10_000, 10_000, 2 * MIB)
    assert becomes > 15 * MIB
    # Then they are counted as that, and not as what they are as well
    room = 80 * MIB - (becomes - 2 * MIB)
    assert not refused(Redis(used=room - 1000, waiting=waiting).admission(), 1000)
    assert refused(Redis(used=room - 1000, waiting=waiting).admission(), 1001)


def test_what_was_admitted_since_the_look_counts() -> None:
    # Given room for three
    redis = Redis(used=77 * MIB)
    admission = redis.admission()
    # When four come within one look, and two more after it
    within = [refused(admission, MIB) for _ in range(4)]
    redis.now += LOOK_FOR_S
    redis.used += 2 * MIB
    after = [refused(admission, MIB) for _ in range(2)]
    # Then
    assert (within, after, redis.looks) == ([False, False, False, True], [False, True], 2)


def test_without_a_limit_only_age_counts() -> None:
    redis = Redis(used=100 * MIB, limit=0)
    assert not refused(redis.admission(), 100 * MIB)
    redis.waiting = Waiting(1, 1, 300, age_ms=120_001)
    with pytest.raises(StoreOverloaded, match=r"waited for 120 s.*ADMIT_AGE"):
        redis.admission().check()


def test_an_inbox_that_is_old_stops_everything_and_a_young_one_nothing() -> None:
    redis = Redis(waiting=Waiting(1, 1, 300, age_ms=120_001))
    admission = redis.admission()
    with pytest.raises(StoreOverloaded):
        admission.check()
    redis.waiting, redis.now = Waiting(1, 1, 300, age_ms=120_000), redis.now + LOOK_FOR_S
    assert not refused(admission, 1000)


def test_a_look_that_fails_is_told() -> None:
    with pytest.raises(StoreTimeout):
        Redis(fails=True).admission().check()


def test_state_grows_with_everything_and_nothing_is_nothing() -> None:
    assert state_of(0, 0, 0) == 0
    base = state_of(10, 100, 10_000)
    assert base < min(state_of(11, 100, 10_000), state_of(10, 101, 10_000), state_of(10, 100, 10_100))
