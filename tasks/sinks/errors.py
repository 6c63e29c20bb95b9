"""The errors of every sink: callers catch these classes and never look at status codes or errno."""

from __future__ import annotations


class SinkError(Exception):
    """A RemediationRequest was not written. ``retry_after_s`` is the wait that the other side asked for, if any."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.shared = False
        """Whether all writes fail alike and wait together: then it is no failure of the one that met it."""


class SinkUnavailable(SinkError):
    """No answer, a server-side failure, or a conflict that would not settle: try again soon."""


class SinkThrottled(SinkError):
    """The other side asked for patience (429, or 503 with Retry-After)."""


class NotYet(SinkError):
    """Nothing was sent: the storm waits for its turn, which comes after ``retry_after_s``. No failure of anybody."""


class SinkRefused(SinkError):
    """It fails until somebody mends something (rights, quota, schema, a full disk): try slowly, tell the operator."""


class SinkInvalid(SinkRefused):
    """This very content is not taken, now or later: nothing is gained by sending it again unchanged."""


class DefinitionAbsent(SinkRefused):
    """The server does not know our kind: the custom resource definition is not installed. All workers pause."""


class NewerFence(SinkError):
    """The object carries a fence that is not lower than ours: somebody newer wrote it, so ours must not."""

    def __init__(self, existing: int) -> None:
        super().__init__(f"the object already carries fence {existing}")
        self.existing = existing


class ObjectGone(SinkError):
    """The object that was to be updated is absent, or another one stands under its name."""
