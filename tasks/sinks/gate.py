"""What stands before every write to Kubernetes: the budget and the health that all workers share."""

from __future__ import annotations

import time
from typing import Final, Protocol

from lua_scripts.budget import Budget
from lua_scripts.errors import StoreError
from tasks.sinks.base import Deadline
from tasks.sinks.errors import DefinitionAbsent, SinkError, SinkRefused, SinkThrottled, SinkUnavailable

PATIENCE_S: Final = 1.0
"""The longest that a write waits here for the budget; a longer wait is the storm's, not the worker's."""


class Gate(Protocol):
    """Asked before writes and told how they went."""

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline) -> None:
        """Returns when ``writes`` may be sent; raises ``SinkThrottled`` where that takes too long."""

    def leave(self, error: SinkError | None) -> None:
        """How it went. Also told by whoever did not enter, for reading is no write."""


class OpenGate:
    """Lets everything pass: for a sink that nobody else uses."""

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline) -> None:
        return

    def leave(self, error: SinkError | None) -> None:
        return


class BudgetGate:
    """The gate that all workers share through Redis."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._news = True

    def enter(self, writes: int, *, urgent: bool, deadline: Deadline) -> None:
        patience = min(PATIENCE_S, deadline.remaining())
        while True:
            try:
                grant = self._budget.take(writes, urgent=urgent)
            except StoreError as error:
                raise SinkUnavailable(f"the budget of writes is out of reach: {error}") from error
            self._news = grant.news
            wait = grant.wait_ms / 1000
            if wait == 0:
                return
            if wait > patience:
                raise SinkThrottled("the budget of Kubernetes writes is used up, or the server rests", wait)
            time.sleep(wait)
            patience -= wait

    def leave(self, error: SinkError | None) -> None:
        try:
            if isinstance(error, SinkThrottled):
                self._budget.throttled(int((error.retry_after_s or 1.0) * 1000))
            elif isinstance(error, SinkUnavailable):
                self._budget.failed()
            elif isinstance(error, SinkRefused):
                self._budget.refused(undefined=isinstance(error, DefinitionAbsent))
            elif self._news:
                self._budget.succeeded()
            # Until the next write asks, anything may have happened.
            self._news = True
        except StoreError:
            # The write's own outcome counts; that the others do not hear of it costs them a request.
            return
