"""What stands before every write to Kubernetes: the budget and the health that all workers share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from lua_scripts.budget import Budget, Grant
from lua_scripts.errors import StoreError
from tasks.sinks.base import Deadline
from tasks.sinks.errors import DefinitionAbsent, NotYet, SinkError, SinkRefused, SinkThrottled, SinkUnavailable

PATIENCE_S: Final = 0.25
"""The longest that a write waits here for the budget; a longer wait is the storm's, not the worker's."""
LONGER_S: Final = 1.0
"""The same for what belongs to no storm, and so has no turn: deleting, say."""


class Gate(Protocol):
    """Asked before writes and told how they went."""

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline, storm_id: str = "") -> None:
        """Returns when ``writes`` may be sent; raises ``NotYet`` where that takes too long."""

    def leave(self, error: SinkError | None, more: int = 0, *, minor: bool = False) -> None:
        """How it went, and how many writes were sent beyond those asked for (below 0: fewer).

        Also told by whoever did not enter, for reading is no write. Where all pause the error tells for how long.
        ``minor``: its failure says nothing of the server's health, unless it was sent to find that out.
        """


class OpenGate:
    """Lets everything pass: for a sink that nobody else uses."""

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline, storm_id: str = "") -> None:
        return

    def leave(self, error: SinkError | None, more: int = 0, *, minor: bool = False) -> None:
        return


class BudgetGate:
    """The gate that all workers share through Redis."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._news = True

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline, storm_id: str = "") -> None:
        patience_s = min(PATIENCE_S if storm_id else LONGER_S, deadline.remaining())
        try:
            wait_ms = self._wait(lambda: self._budget.take(writes, urgent=urgent, storm_id=storm_id), patience_s)
        except StoreError as error:
            raise SinkUnavailable(f"the budget of writes is out of reach: {error}") from error
        if wait_ms:
            raise NotYet("the budget of Kubernetes writes is used up, or the server rests", wait_ms / 1000)

    def wait_ms(self, writes: int, storm_id: str, *, urgent: bool) -> int:
        """How long a storm has to wait for its turn, 0 where it may be claimed and written. Raises ``StoreError``."""
        return self._wait(lambda: self._budget.look(writes, urgent=urgent, storm_id=storm_id), PATIENCE_S)

    def _wait(self, ask: Callable[[], Grant], patience_s: float) -> int:
        """Waits here for a little while; ms to wait elsewhere, 0 once it is granted."""
        while True:
            grant = ask()
            self._news = grant.news
            wait_s = grant.wait_ms / 1000
            if wait_s == 0 or wait_s > patience_s:
                return grant.wait_ms
            time.sleep(wait_s)
            patience_s -= wait_s

    def leave(self, error: SinkError | None, more: int = 0, *, minor: bool = False) -> None:
        pause_ms = 0
        if minor and not self._news and isinstance(error, SinkUnavailable):
            return
        try:
            if isinstance(error, SinkThrottled):
                self._budget.throttled(int((error.retry_after_s or 1.0) * 1000), more=more)
            elif isinstance(error, SinkUnavailable):
                pause_ms = self._budget.failed(more=more)
            elif isinstance(error, SinkRefused):
                pause_ms = self._budget.refused(undefined=isinstance(error, DefinitionAbsent), more=more)
            elif self._news or more:
                self._budget.succeeded(more=more)
            # Until the next write asks, anything may have happened.
            self._news = True
        except StoreError:
            # The write's own outcome counts; that the others do not hear of it costs them a request.
            return
        if error is not None and pause_ms:
            # Nobody writes before, and then nothing speaks against it: the storm's own failures do not count.
            error.retry_after_s, error.shared = pause_ms / 1000, True
