"""Writing one due storm: claim it, render its RRs, let the sink write them, settle the outcome."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from lua_scripts.leases import Claim, Leases, NamedSingle, NotClaimed, Settled, SingleOutcome, SingleTask, StormOutcome
from lua_scripts.records import Rules
from lua_scripts.refusals import Refusals
from tasks.content import shown_resources, single_content, single_name, storm_content, superseded_content
from tasks.events import events, stage_of
from tasks.manifests import Manifest, manifest_digest, single_manifest, storm_manifest
from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import NewerFence, NotYet, ObjectGone, SinkError, SinkInvalid, SinkRefused, SinkUnavailable

TURNS: Final = 16
"""Claims of one storm in a row before it waits for its next turn."""
RETRY_MS: Final = 500
SLOW_RETRY_MS: Final = 15_000
MAX_RETRY_MS: Final = 60_000
SUPERSEDED_A_TURN: Final = 50
WRITE_TRIES: Final = 3
EVENT_RETRY_MS: Final = 5_000
REFUSED: Final = "!"
"""Before the digest of what the sink refused: sent again once it says something else."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What one task did for a storm: RRs written, and how its last turn ended."""

    written: int
    ended: str


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


class Aggregation:
    """Writes due storms; the lease in Redis sees to it that one storm is written by one worker at a time."""

    def __init__(
        self,
        leases: Leases,
        refusals: Refusals,
        sink: Sink,
        rules: Rules,
        *,
        lease_ms: int,
        max_resources: int,
        cause_labels: Sequence[str] = (),
    ) -> None:
        self._leases = leases
        self._refusals = refusals
        self._sink = sink
        self._rules = rules
        self._lease_ms = lease_ms
        self._max_resources = max_resources
        self._cause_labels = cause_labels

    def run(self, storm_id: str) -> Aggregated:
        """Writes what is due of a storm, a bounded number of turns. Raises ``StoreError``; sink errors are settled."""
        written, ended = 0, "idle"
        end = time.monotonic() + self._lease_ms / 1000
        for _ in range(TURNS):
            count, ended = self._turn(storm_id)
            written += count
            if count == 0 or ended not in ("settled", "dirty") or time.monotonic() > end:
                break
        return Aggregated(written, ended)

    def _turn(self, storm_id: str) -> tuple[int, str]:
        token = uuid.uuid4().hex
        # Counted from before the claim: the lease in Redis began later, so this ends earlier.
        deadline = Deadline(self._lease_ms / 1000)
        claim = self._leases.claim(storm_id, token, self._lease_ms, self._rules, reconciled=True)
        if isinstance(claim, NotClaimed):
            return 0, claim.reason
        turn = _Turn(self._leases, self._refusals, self._sink, self._rules, self._lease_ms, deadline, claim)
        try:
            if claim.singles is None:
                return turn.write_storm(self._max_resources, self._cause_labels)
            return turn.write_singles(claim.singles)
        except LostLease:
            log.warning("lease lost while writing", storm=claim.storm.name)
            return 0, "lost"


class _Turn:
    """One lease of one storm."""

    def __init__(
        self,
        leases: Leases,
        refusals: Refusals,
        sink: Sink,
        rules: Rules,
        lease_ms: int,
        deadline: Deadline,
        claim: Claim,
    ) -> None:
        self._leases = leases
        self._refusals = refusals
        self._sink = sink
        self._rules = rules
        self._lease_ms = lease_ms
        self._deadline = deadline
        self._claim = claim
        self._storm_id = claim.storm.storm_id

    def write_storm(self, max_resources: int, cause_labels: Sequence[str]) -> tuple[int, Settled]:
        """The storm's RR first, naming each Single that it supersedes; then those. (RRs written, how it ended)."""
        claim = self._claim
        firing = claim.storm.alert_count > 0
        shown, obsolete = shown_resources(self._leases.resources(self._storm_id), claim.generation, firing=firing)
        singles = list(self._leases.singles(self._storm_id))
        # What was never named needs no object; what is already Resolved tells the truth and stays.
        dropped = {s.fingerprint for s in singles if s.state == "pending" or s.wrote == "Resolved"}
        covered = [s for s in singles if s.fingerprint not in dropped]
        names = [single_name(s.fingerprint, s.opened_ms) for s in covered]

        def render(claim: Claim) -> Manifest:
            return storm_manifest(storm_content(claim, shown, names, max_resources, cause_labels))

        manifest = render(claim)
        phase, digest = manifest["status"]["phase"], manifest_digest(manifest)
        known = _known(claim.uid, claim.resource_version, claim.storm.name, claim.storm.namespace)
        refused = claim.digest.startswith(REFUSED)
        changed = digest != claim.digest.removeprefix(REFUSED)
        try:
            ref = self._write(render, known) if changed else known
        except SinkInvalid as error:
            self._bury(error, manifest, None)
            refused, ref = True, None
        except SinkError as error:
            return 0, self._storm_failed(error)
        if ref is None or (refused and not changed):
            # Refused for what it says, now or the last time: settled like what is written, until it says other things.
            outcome = StormOutcome(phase=phase, digest=REFUSED + digest, told=claim.told)
            return 0, self._leases.settle_storm(self._storm_id, claim.token, self._rules, outcome)
        if refused:
            self._refusals.clear(claim.storm.name, self._storm_id)
        open_singles = [s for s in covered if s.state != "superseded"]
        done, failure = self._supersede(open_singles)
        told, waiting = self._tell(manifest, ref)
        more = len(done) < len(open_singles)
        retry = retry_ms(failure, claim.failures) if failure else 0
        if waiting and not more:
            more, retry = True, max(EVENT_RETRY_MS, retry_ms(waiting, 0))
        outcome = StormOutcome(
            phase=phase, uid=ref.uid, resource_version=ref.resource_version, digest=digest, namespace=ref.namespace,
            more=more, retry_ms=retry, superseded=done, dropped=sorted(dropped), obsolete=obsolete, told=told,
            waits=waiting is not None and failure is None and len(done) == len(open_singles),
        )  # fmt: skip
        ended = self._leases.settle_storm(self._storm_id, claim.token, self._rules, outcome)
        return int(changed) + len(done), ended

    def write_singles(self, tasks: Sequence[SingleTask]) -> tuple[int, Settled]:
        """Each Single by itself: one that is refused does not stop the others, a sink that is away does."""
        outcomes: list[SingleOutcome] = []
        wait = 0
        away = waits = False
        for task in tasks:
            if away or self._deadline.remaining() == 0:
                outcomes.append(SingleOutcome(task.fingerprint, ""))
                continue
            try:
                ref = self._write_single(task)
            except SinkInvalid as error:
                content = single_content(self._claim, task, task.want or "Active")
                self._bury(error, single_manifest(content), (task.fingerprint, task.opened_ms))
                outcomes.append(SingleOutcome(task.fingerprint, task.want, silenced=task.silenced))
            except SinkError as error:
                self._report(error, single_name(task.fingerprint, task.opened_ms))
                wait = max(wait, retry_ms(error, self._claim.failures))
                away = not isinstance(error, SinkRefused)
                waits = isinstance(error, NotYet) and (waits or not any(o.phase == "" for o in outcomes))
                outcomes.append(SingleOutcome(task.fingerprint, ""))
            else:
                outcomes.append(
                    SingleOutcome(
                        task.fingerprint, task.want, ref.uid, ref.resource_version, ref.namespace, task.silenced
                    )
                )
        ended = self._leases.settle_singles(
            self._storm_id, self._claim.token, self._rules, outcomes, wait or RETRY_MS, waits=waits
        )
        return sum(outcome.phase != "" for outcome in outcomes), ended

    def _write_single(self, task: SingleTask) -> ObjectRef:
        phase = task.want
        if phase == "":
            raise ValueError(f"Single {task.fingerprint} wants no phase")
        name = single_name(task.fingerprint, task.opened_ms)
        known = _known(task.uid, task.resource_version, name, task.namespace)
        ref = self._write(lambda claim: single_manifest(single_content(claim, task, phase)), known, status_only=True)
        if task.wrote and known is None:
            # Settled as written without being so: it was refused.
            self._refusals.clear(name, self._storm_id)
        return ref

    def _supersede(self, singles: Sequence[NamedSingle]) -> tuple[list[str], SinkError | None]:
        """Marks Singles as Superseded, as many as fit into this turn. (fingerprints done, what stopped it)."""
        done: list[str] = []
        for single in singles[:SUPERSEDED_A_TURN]:
            if self._deadline.remaining() == 0:
                break
            name = single_name(single.fingerprint, single.opened_ms)
            known = _known(single.uid, single.resource_version, name, single.namespace)
            try:
                # One that was named but perhaps not written is created as Superseded, so that a late writer meets it.
                self._write(
                    lambda claim, single=single: single_manifest(superseded_content(claim, single)),  # type: ignore[misc]
                    known,
                    status_only=True,
                    recreate=False,
                )
            except ObjectGone:
                pass  # deleted by hand: nothing is left that could mislead anybody
            except SinkInvalid as error:
                self._bury(error, single_manifest(superseded_content(self._claim, single)), None)
            except SinkError as error:
                self._report(error, name)
                return done, error
            done.append(single.fingerprint)
        return done, None

    def _tell(self, manifest: Manifest, ref: ObjectRef) -> tuple[str, SinkError | None]:
        """Events about what the RR says now. (The stage that is told of, what made the rest wait)."""
        told = self._claim.told
        try:
            for event in events(manifest, told):
                self._sink.announce(ref, event, self._deadline, self._storm_id)
        except SinkRefused as error:
            # The object itself says it all: for want of a right, say, nobody is to wait.
            log.warning("an Event is left out", rr=ref.name, reason=str(error))
        except SinkError as error:
            return told, error
        return stage_of(manifest), None

    def _write(
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
                    return self._sink.put_status(manifest, known, self._deadline)
                return self._sink.put(manifest, known, self._deadline)
            except NewerFence as error:
                self._raise_fence(error.existing)
            except ObjectGone:
                if not recreate or known is None:
                    raise
                known = None
        raise SinkUnavailable("the object kept changing under the write")

    def _raise_fence(self, existing: int) -> None:
        """Goes on above a higher fence, but only with a lease that Redis confirms: else the higher one is right."""
        renewed = self._leases.claim(
            self._storm_id, self._claim.token, self._lease_ms, self._rules, above_fence=existing
        )  # fmt: skip
        if isinstance(renewed, NotClaimed):
            raise LostLease(self._claim.storm.name)
        log.warning("fence raised above one met in the sink", storm=self._claim.storm.name, fence=existing)
        self._claim = replace(self._claim, storm=replace(self._claim.storm, fence=renewed.storm.fence))

    def _storm_failed(self, error: SinkError) -> Settled:
        self._report(error, self._claim.storm.name)
        outcome = StormOutcome(
            phase="", retry_ms=retry_ms(error, self._claim.failures), told=self._claim.told,
            waits=isinstance(error, NotYet),
        )  # fmt: skip
        return self._leases.settle_storm(self._storm_id, self._claim.token, self._rules, outcome)

    def _bury(self, error: SinkInvalid, manifest: Manifest, single: tuple[str, int] | None) -> None:
        """A dead letter in place of the object; its alerts are members of their storm as before."""
        name, where = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        self._refusals.bury(name, self._storm_id, str(error), f"{where}/{name}", json.dumps(manifest), single)
        log.error("the sink takes no such object; it is a dead letter until it changes", rr=name, reason=str(error))

    @staticmethod
    def _report(error: SinkError, name: str) -> None:
        if isinstance(error, NotYet):
            log.debug("the write waits for its turn", rr=name, wait_s=error.retry_after_s)
        elif isinstance(error, SinkRefused):
            log.error("the sink refuses; somebody must mend it", rr=name, reason=str(error))
        else:
            log.warning("the sink did not take the write, it will be tried again", rr=name, reason=str(error))


def _known(uid: str, resource_version: str, name: str, namespace: str) -> ObjectRef | None:
    """The object as it was last written, None where it may never have been."""
    return ObjectRef(namespace, name, uid, resource_version) if uid else None
