"""Senders as Alertmanager is one: they say it again until the receiver has answered 202."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.client import HTTPException

from tests.support.stack import Stack
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, body_of

RETRY_S = 0.2


class Sender(threading.Thread):
    """Posts one body until it is accepted. ``attempts`` counts all posts, ``accepted`` those answered 202."""

    def __init__(self, stack: Stack, alerts: Sequence[Alert]) -> None:
        super().__init__(name="sender", daemon=True)
        self._stack, self._body = stack, body_of(alerts)
        self._give_up = threading.Event()
        self.attempts = 0
        self.accepted = 0
        self.statuses: list[int] = []
        """What was answered; 0 where nothing was."""
        self.start()

    def run(self) -> None:
        while not self._give_up.is_set():
            self.attempts += 1
            try:
                status = self._stack.post_raw(self._body).status
            except (OSError, HTTPException):
                status = 0
            self.statuses.append(status)
            if status == 202:
                self.accepted += 1
                return
            self._give_up.wait(RETRY_S)

    def wait_answered(self, deadline_s: float = 20.0) -> int:
        """The first answer of any kind; 0 for none."""
        wait_until(lambda: self.statuses, "an answer to a webhook", deadline_s=deadline_s)
        return self.statuses[0]

    def wait_accepted(self, deadline_s: float = 30.0) -> None:
        """Until it was answered 202. Whatever else was said on the way, it must not have been a 4xx."""
        try:
            wait_until(
                lambda: not self.is_alive(), "a webhook to be accepted", deadline_s=deadline_s,
                describe=lambda: self.statuses,
            )  # fmt: skip
        finally:
            self._give_up.set()
        assert set(self.statuses) <= {0, 202, 503}, self.statuses
