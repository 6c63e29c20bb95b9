"""A breaker: once Redis did not answer, callers are refused at once instead of waiting for it one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from lua_scripts.errors import StoreError, StoreTimeout, StoreUnreachable

REST_S: Final = 1.0
"""How long callers are refused after a failure. Longer than any call takes, so that there is one probe at a time."""


class Breaker:
    """Shared by all threads of the web process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failure: StoreError | None = None
        self._refuse_until = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Runs a call to Redis, or raises what the last one raised."""
        self._admit()
        try:
            yield
        except (StoreTimeout, StoreUnreachable) as failure:
            with self._lock:
                self._failure, self._refuse_until = failure, self._clock() + REST_S
            raise
        except StoreError:
            self._mend()  # it answered, if only to say no
            raise
        self._mend()

    def _admit(self) -> None:
        with self._lock:
            if self._failure is None:
                return
            now = self._clock()
            if now < self._refuse_until:
                raise type(self._failure)(*self._failure.args)
            self._refuse_until = now + REST_S  # this caller probes, the others go on being refused

    def _mend(self) -> None:
        if self._failure is not None:
            with self._lock:
                self._failure = None
