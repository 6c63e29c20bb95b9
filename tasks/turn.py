"""What one lease of a storm is used for: its RR and the Singles that it supersedes, or Singles; then it is settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lua_scripts.leases import Claim, Leases, NamedSingle, Settled, SingleOutcome, SingleTask, StormOutcome
from lua_scripts.records import Rules
from tasks.content import shown_resources, single_content, single_name, storm_content, superseded_content
from tasks.manifests import Manifest, manifest_digest, single_manifest, storm_manifest
from tasks.sinks.base import ObjectRef
from tasks.sinks.errors import ObjectGone, SinkError, SinkInvalid, SinkRefused
from tasks.writer import RETRY_MS, Writer, known_as, no_failure, report, retry_ms

SUPERSEDED_A_TURN: Final = 50
EVENT_RETRY_MS: Final = 5_000
REFUSED: Final = "!"
"""Before the digest of what the sink refused: sent again once it says something else."""


class Turn:
    """One lease of one storm. Raises ``LostLease`` and ``StoreError``; errors of the sink are settled."""

    def __init__(self, leases: Leases, writer: Writer, rules: Rules) -> None:
        self._leases = leases
        self._writer = writer
        self._rules = rules
        self._claim = writer.claim
        self._storm_id = writer.claim.storm.storm_id

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
        known = known_as(claim.uid, claim.resource_version, claim.storm.name, claim.storm.namespace)
        refused = claim.digest.startswith(REFUSED)
        changed = digest != claim.digest.removeprefix(REFUSED)
        try:
            ref = self._writer.write(render, known) if changed else known
        except SinkInvalid as error:
            self._writer.bury(error, manifest, None)
            refused, ref = True, None
        except SinkError as error:
            return 0, self._storm_failed(error)
        if ref is None or (refused and not changed):
            # Refused for what it says, now or the last time: settled like what is written, until it says other things.
            outcome = StormOutcome(phase=phase, digest=REFUSED + digest, told=claim.told, obsolete=obsolete)
            return 0, self._leases.settle_storm(self._storm_id, claim.token, self._rules, outcome)
        if refused:
            self._writer.taken_after_all(claim.storm.name)
        open_singles = [s for s in covered if s.state != "superseded"]
        done, failure = self._supersede(open_singles)
        told, waiting = self._writer.tell(manifest, ref)
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
            if away or self._writer.seconds_left == 0:
                outcomes.append(SingleOutcome(task.fingerprint, ""))
                continue
            try:
                ref = self._write_single(task)
            except SinkInvalid as error:
                content = single_content(self._writer.claim, task, task.want or "Active")
                self._writer.bury(error, single_manifest(content), (task.fingerprint, task.opened_ms))
                outcomes.append(SingleOutcome(task.fingerprint, task.want, silenced=task.silenced, refused=True))
            except SinkError as error:
                report(error, single_name(task.fingerprint, task.opened_ms))
                wait = max(wait, retry_ms(error, self._claim.failures))
                away = not isinstance(error, SinkRefused)
                waits = no_failure(error) and (waits or not any(o.phase == "" for o in outcomes))
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
        known = known_as(task.uid, task.resource_version, name, task.namespace)
        ref = self._writer.write(
            lambda claim: single_manifest(single_content(claim, task, phase)), known, status_only=True
        )
        if task.wrote and known is None:
            # Settled as written without being so: it was refused.
            self._writer.taken_after_all(name)
        return ref

    def _supersede(self, singles: Sequence[NamedSingle]) -> tuple[list[str], SinkError | None]:
        """Marks Singles as Superseded, as many as fit into this turn. (fingerprints done, what stopped it)."""
        done: list[str] = []
        for single in singles[:SUPERSEDED_A_TURN]:
            if self._writer.seconds_left == 0:
                break
            name = single_name(single.fingerprint, single.opened_ms)
            known = known_as(single.uid, single.resource_version, name, single.namespace)
            try:
                # One that was named but perhaps not written is created as Superseded, so that a late writer meets it.
                self._writer.write(
                    lambda claim, single=single: single_manifest(superseded_content(claim, single)),  # type: ignore[misc]
                    known,
                    status_only=True,
                    recreate=False,
                )
            except ObjectGone:
                pass  # deleted by hand: nothing is left that could mislead anybody
            except SinkInvalid as error:
                self._writer.bury(error, single_manifest(superseded_content(self._writer.claim, single)), None)
            except SinkError as error:
                report(error, name)
                return done, error
            done.append(single.fingerprint)
        return done, None

    def _storm_failed(self, error: SinkError) -> Settled:
        report(error, self._claim.storm.name)
        outcome = StormOutcome(
            phase="", retry_ms=retry_ms(error, self._claim.failures), told=self._claim.told,
            waits=no_failure(error),
        )  # fmt: skip
        return self._leases.settle_storm(self._storm_id, self._claim.token, self._rules, outcome)
