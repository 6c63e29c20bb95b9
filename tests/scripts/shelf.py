"""RRs beside the model: what workers put on a shelf, and what the design says must stand there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from app.alerts import SEVERITY_NAMES
from lua_scripts.leases import Claim, Leases, StormOutcome
from lua_scripts.records import ResourceRecord
from tasks.content import shown_resources, single_content, single_name, storm_content, superseded_content
from tasks.manifests import FENCE_ANNOTATION, Manifest, manifest_digest, single_manifest, storm_manifest
from tests.scripts.model import Storm

CAUSE_LABELS: Final = ("pod", "severity")
MAX_RESOURCES: Final = 4
"""Fewer than there are pods, so that some are left out."""

Words = dict[str, Any]
"""What is compared of an RR."""


@dataclass(frozen=True)
class Write:
    """One write of a worker. ``status_only``: of an RR that was there before."""

    manifest: Manifest
    status_only: bool = False

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def fence(self) -> int:
        return int(self.manifest["metadata"]["annotations"][FENCE_ANNOTATION])


@dataclass(frozen=True)
class Rendered:
    """What a worker holds in its hands after a claim. ``outcome`` is that of a storm's RR that was written."""

    claim: Claim
    writes: dict[str, Write]
    outcome: dict[str, Any]
    resources: list[ResourceRecord]


def render(leases: Leases, claim: Claim) -> Rendered:
    """The RRs of a claim, as aggregation renders them; by fingerprint, the storm's own under ''."""
    if claim.singles is not None:
        writes = {}
        for task in claim.singles:
            assert task.want
            writes[task.fingerprint] = Write(single_manifest(single_content(claim, task, task.want)), task.uid != "")
        return Rendered(claim, writes, {}, [])
    storm = claim.storm.storm_id
    shown, obsolete = shown_resources(leases.resources(storm), claim.generation, firing=claim.storm.alert_count > 0)
    singles = list(leases.singles(storm))
    dropped = {one.fingerprint for one in singles if one.state == "pending" or one.wrote == "Resolved"}
    covered = [one for one in singles if one.fingerprint not in dropped]
    names = [single_name(one.fingerprint, one.opened_ms) for one in covered]
    manifest = storm_manifest(storm_content(claim, shown, names, MAX_RESOURCES, CAUSE_LABELS))
    digest, still_open = manifest_digest(manifest), [one for one in covered if one.state != "superseded"]
    writes = {"": Write(manifest)} if not claim.uid or digest != claim.digest else {}
    for one in still_open:
        writes[one.fingerprint] = Write(single_manifest(superseded_content(claim, one)), one.uid != "")
    outcome = StormOutcome(
        manifest["status"]["phase"], digest=digest, superseded=[one.fingerprint for one in still_open],
        dropped=sorted(dropped), obsolete=obsolete,
    )  # fmt: skip
    changes = {name: getattr(outcome, name) for name in ("phase", "digest", "superseded", "dropped", "obsolete")}
    return Rendered(claim, writes, changes, shown)


@dataclass
class Shelf:
    """The sink: objects by name, each under the fence of who wrote it last."""

    objects: dict[str, Write] = field(default_factory=dict)

    def write(self, new: Write, *, holder: bool) -> None:
        """Refuses what is behind the fence; the ``holder`` of the lease would raise its own and go on."""
        there = self.objects.get(new.name)
        if there and there.fence > new.fence and not holder:
            return
        if new.status_only:
            assert there is not None, f"{new.name} is not there to be updated"
            spec = {"spec": there.manifest["spec"]}
            new = Write(new.manifest | spec)
        self.objects[new.name] = new

    def words(self) -> dict[str, Words]:
        return {name: _words(one.manifest) for name, one in self.objects.items()}


def _words(manifest: Manifest) -> Words:
    spec, status = manifest["spec"], manifest["status"]
    words = {
        "type": spec["type"], "phase": status["phase"], "flaps": status["flaps"],
        "severity": spec["signal"]["severity"], "labels": spec["signal"]["labels"],
    }  # fmt: skip
    if spec["type"] == "Single":
        return words | {"target": tuple(spec["targetResource"].values())}
    said = spec["stormAggregation"]
    return words | {
        "stormType": said["stormType"], "alertCount": said["alertCount"], "totalAlerts": said["totalAlerts"],
        "resources": [(each["kind"], each["name"], each["alertCount"]) for each in said["affectedResources"]],
        "causes": {each["label"]: (each["value"], each["share"]) for each in said.get("causeHint", [])},
        "omitted": said["omittedResources"], "byKind": said["totals"]["byKind"], "supersedes": said["supersedes"],
    }  # fmt: skip


@dataclass
class Expected:
    """What must stand on the shelf, by what the model knows; ``turns`` tells older claims from newer ones."""

    objects: dict[str, tuple[int, Words]] = field(default_factory=dict)
    turns: int = 0

    def turn(self) -> int:
        self.turns += 1
        return self.turns

    def write(self, name: str, turn: int, words: Words, *, status_only: bool = False) -> None:
        before, there = self.objects.get(name, (0, {}))
        if before <= turn:
            only = {key: words[key] for key in ("phase", "flaps")}
            self.objects[name] = turn, there | only if status_only else words

    def words(self) -> dict[str, Words]:
        return {name: words for name, (_, words) in self.objects.items()}


def storm_words(storm: Storm, claim: Claim, shown: list[ResourceRecord]) -> Words:
    """Of the storm's RR. When a resource was first seen is taken from ``shown``, all else from the model.

    But for the causes: they may say less than is so, and it is compared at the claim whether they do.
    """
    first = {record.name: record.first_seen_ms for record in shown}
    listed = storm.listed
    if listed is None:
        # Over before it was ever written: it lists what it was, and the tests of its life look at that.
        listed = {record.name: record.alert_count for record in shown}
    assert set(first) == set(listed)
    assert all(first[name] in storm.receipts[name] for name in listed)
    worst = sorted(listed, key=lambda name: (-listed[name], first[name], name))
    firing = storm.firing
    severity = SEVERITY_NAMES[storm.worst] if storm.worst else storm.common.get("severity", SEVERITY_NAMES[0])
    return {
        "type": "Storm", "phase": "Stale" if claim.stale else "Active" if firing else "Resolved", "flaps": storm.flaps,
        "severity": severity, "labels": dict(storm.common), "stormType": storm.type, "alertCount": firing,
        "totalAlerts": storm.counts["new"] + storm.counts["reopened"],
        "resources": [("Pod", name, listed[name]) for name in worst[:MAX_RESOURCES]],
        "causes": {cause.label: (cause.value, cause.percent / 100) for cause in claim.causes},
        "omitted": max(0, len(worst) - MAX_RESOURCES), "byKind": {"Pod": len(worst)} if worst else {},
        "supersedes": sorted(single_name(name, one.opened) for name, one in storm.covered().items()),
    }  # fmt: skip


def single_words(phase: str, flaps: int, labels: dict[str, str]) -> Words:
    """Of an alert by itself; one that its storm covers before it was surely written says what all alerts share."""
    target = ("Pod", labels["pod"], "shop") if phase != "Superseded" else ("Unknown", "unknown", "")
    severity = labels.get("severity", SEVERITY_NAMES[0])
    return {
        "type": "Single", "phase": phase, "flaps": flaps, "severity": severity, "labels": labels, "target": target,
    }  # fmt: skip
