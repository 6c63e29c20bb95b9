"""The notifier: coalesces, never blocks, survives a broker that refuses."""

from __future__ import annotations

import threading

from kombu.exceptions import OperationalError

from app.notify import Notifier, WakeUps


def test_a_shard_that_is_woken_while_another_is_published_goes_out_once() -> None:
    # Given a broker that is slow with shard 1
    begun, go_on, published = threading.Event(), threading.Event(), list[int]()

    def publish(shard: int) -> None:
        published.append(shard)
        if shard == 1:
            begun.set()
            assert go_on.wait(5)

    notifier = Notifier(publish)
    notifier.wake(1)
    assert begun.wait(5)
    # When shard 2 is woken many times meanwhile
    for _ in range(50):
        notifier.wake(2)
    go_on.set()
    notifier.close()
    # Then
    assert published == [1, 2]
    assert notifier.counts() == WakeUps(published=2, failed=0)


def test_a_broker_that_refuses_is_counted_and_the_next_wake_up_goes_out() -> None:
    # Given
    published: list[int] = []

    def publish(shard: int) -> None:
        if shard == 1:
            raise OperationalError("out of memory")
        published.append(shard)

    notifier = Notifier(publish)
    # When
    notifier.wake(1)
    notifier.wake(2)
    notifier.close()
    # Then
    assert published == [2]
    assert notifier.counts() == WakeUps(published=1, failed=1)


def test_nothing_is_published_after_the_end() -> None:
    # Given
    published: list[int] = []
    notifier = Notifier(published.append)
    notifier.close()
    # When
    notifier.wake(1)
    # Then
    assert published == []
