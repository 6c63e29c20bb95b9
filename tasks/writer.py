"""One lease's way to the sink: under its fence, what is gone made anew, what is refused for good buried."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from lua_scripts.leases import Claim, Leases, NotClaimed
from lua_scripts.records import Rules
from lua_scripts.refusals import Refusals
from tasks.events import events, stage_of
from tasks.manifests import Manifest
from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import NewerFence, NotYet, ObjectGone, SinkError, SinkInvalid, SinkRefused, SinkUnavailable

RETRY_MS: Final = 500
SLOW_RETRY_MS: Final = 2_000
"""A server that starts may refuse what it takes a second later; a real refusal is soon tried once a minute only."""
MAX_RETRY_MS: Final = 60_000
WRITE_TRIES: Final = 3

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class LostLease(Exception):
    """Somebody else holds the storm's lease: whatever is not written yet must not be."""


def retry_ms(error: SinkError, failures: int) -> int:
    """How long to wait after a failed write: what the other side asks for, else longer with every failure in a row."""
    if isinstance(error, NotYet):
        return int((error.retry_after_s or 0) * 1000)
    if error.retry_after_s is not None:
        return min(MAX_RETRY_MS, int(error.retry_after_s * 1000))
    base = SLOW_RETRY_MS if isinstance(error, SinkRefused) else RETRY_MS
    return int(min(MAX_RETRY_MS, base * 2 ** min(failures, 8)))


def no_failure(error: SinkError) -> bool:
    """Whether the storm merely waits, with all others or for its turn: then its next wait is no longer for it."""
    return error.shared or isinstance(error, NotYet)


@dataclass(frozen=True, slots=True)
class Means:
    """What writing any storm takes: the state, the sink, and for how long a lease is held, in ms."""

    leases: Leases
    refusals: Refusals
    sink: Sink
    rules: Rules
    lease_ms: int


class Writer:
    """Writes objects of one storm while its lease lasts. Raises the ``SinkError`` and ``StoreError`` trees."""

    def __init__(self, means: Means, deadline: Deadline, claim: Claim) -> None:
        self._means = means
        self._deadline = deadline
        self._claim = claim
        self._storm_id = claim.storm.storm_id

    @property
    def claim(self) -> Claim:
        """What the lease returned, with its fence as it is by now."""
        return self._claim

    @property
    def seconds_left(self) -> float:
        """Until the lease may be somebody else's."""
        return self._deadline.remaining()

    def write(
        self,
        render: Callable[[Claim], Manifest],
        known: ObjectRef | None,
        *,
        status_only: bool = False,
        recreate: bool = True,
    ) -> ObjectRef:
        """Writes under the fence of the lease, which is lifted where the object shows that Redis lost its memory."""
        for _ in range(WRITE_TRIES):
            manifest = render(self._claim)
            try:
                if known and status_only:
                    return self._means.sink.put_status(manifest, known, self._deadline)
                return self._means.sink.put(manifest, known, self._deadline)
            except NewerFence as error:
                self._raise_fence(error.existing)
            except ObjectGone:
                if not recreate or known is None:
                    raise
                known = None
        raise SinkUnavailable("the object kept changing under the write")

    def tell(self, manifest: Manifest, ref: ObjectRef) -> tuple[str, SinkError | None]:
        """Events about what the RR says now. (The stage that is told of, what made the rest wait)."""
        told = self._claim.told
        try:
            for event in events(manifest, told):
                self._means.sink.announce(ref, event, self._deadline, self._storm_id)
        except SinkRefused as error:
            # The object itself says it all: for want of a right, say, nobody is to wait.
            log.warning("an Event is left out", rr=ref.name, reason=str(error))
        except SinkError as error:
            return told, error
        return stage_of(manifest), None

    def bury(self, error: SinkInvalid, manifest: Manifest, single: tuple[str, int] | None) -> None:
        """A dead letter in place of the object; its alerts are members of their storm as before."""
        name, where = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        self._means.refusals.bury(name, self._storm_id, str(error), f"{where}/{name}", json.dumps(manifest), single)
        log.error("the sink takes no such object; it is a dead letter until it changes", rr=name, reason=str(error))

    def taken_after_all(self, name: str) -> None:
        """An object that was refused before is written: its letter is of no use any more. Raises ``StoreError``."""
        self._means.refusals.clear(name, self._storm_id)

    def _raise_fence(self, existing: int) -> None:
        """Goes on above a higher fence, but only with a lease that Redis confirms: else the higher one is right."""
        renewed = self._means.leases.claim(
            self._storm_id, self._claim.token, self._means.lease_ms, self._means.rules, above_fence=existing
        )  # fmt: skip
        if isinstance(renewed, NotClaimed):
            raise LostLease(self._claim.storm.name)
        log.warning("fence raised above one met in the sink", storm=self._claim.storm.name, fence=existing)
        self._claim = replace(self._claim, storm=replace(self._claim.storm, fence=renewed.storm.fence))


def report(error: SinkError, name: str) -> None:
    if isinstance(error, NotYet):
        log.debug("the write waits for its turn", rr=name, wait_s=error.retry_after_s)
    elif isinstance(error, SinkRefused):
        log.error("the sink refuses; somebody must mend it", rr=name, reason=str(error))
    else:
        log.warning("the sink did not take the write, it will be tried again", rr=name, reason=str(error))


def known_as(uid: str, resource_version: str, name: str, namespace: str) -> ObjectRef | None:
    """The object as it was last written, None where it may never have been."""
    return ObjectRef(namespace, name, uid, resource_version) if uid else None
