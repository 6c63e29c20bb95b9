"""The breaker: refuses at once after a failure, and lets one caller at a time try again."""

from __future__ import annotations

import pytest

from app.breaker import REST_S, Breaker
from lua_scripts.errors import StoreError, StoreFull, StoreTimeout, StoreUnreachable


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _fail(breaker: Breaker, error: StoreError) -> None:
    with pytest.raises(type(error)), breaker.guard():
        raise error


@pytest.mark.parametrize("error", [StoreTimeout("too slow"), StoreUnreachable("refused")])
def test_after_no_answer_callers_are_refused_with_the_same_error(error: StoreError) -> None:
    # Given
    clock = _Clock()
    breaker = Breaker(clock)
    _fail(breaker, error)
    # When
    clock.now += REST_S - 0.01
    entered = False
    with pytest.raises(type(error), match=str(error)), breaker.guard():
        entered = True
    # Then
    assert not entered


def test_one_caller_probes_while_the_others_are_refused_and_its_success_opens_the_way() -> None:
    # Given
    clock = _Clock()
    breaker = Breaker(clock)
    _fail(breaker, StoreTimeout("too slow"))
    clock.now += REST_S
    # When a second caller comes while the first one after the rest is inside
    with breaker.guard(), pytest.raises(StoreTimeout), breaker.guard():
        # Then it is refused
        pytest.fail("two probes at a time")
    # And afterwards all pass
    with breaker.guard(), breaker.guard():
        pass


def test_a_failed_probe_starts_another_rest() -> None:
    # Given
    clock = _Clock()
    breaker = Breaker(clock)
    _fail(breaker, StoreTimeout("too slow"))
    clock.now += REST_S
    _fail(breaker, StoreUnreachable("refused"))
    # When / Then
    with pytest.raises(StoreUnreachable), breaker.guard():
        pytest.fail("let through")


@pytest.mark.parametrize("error", [StoreFull("no room"), StoreError("odd")])
def test_a_redis_that_answers_no_is_asked_again_at_once(error: StoreError) -> None:
    # Given
    breaker = Breaker(_Clock())
    _fail(breaker, error)
    # When / Then
    with breaker.guard():
        pass
