"""Leasing a due storm, reading what its RRs must say, and settling what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from lua_scripts import packing
from lua_scripts.keys import ShardKeys, StormKeys, shard_of, storm_key_names
from lua_scripts.loader import Client, Scripts, translated
from lua_scripts.packing import Detail, ResourceState, StormText
from lua_scripts.records import Cause, ResourceRecord, Rules, StormRecord
from lua_scripts.storms import storm_namespace, storm_record, text_fields

WrittenPhase = Literal["", "Active", "Resolved", "Superseded", "Stale"]
_PHASES: Final[dict[str, WrittenPhase]] = {"": "", "A": "Active", "R": "Resolved", "T": "Stale", "S": "Superseded"}
_CODES: Final = {phase: code for code, phase in _PHASES.items()}
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class SingleTask:
    """A Single that needs ``want`` written. ``uid`` is empty until it was written once, ``detail`` None after."""

    fingerprint: str
    want: WrittenPhase
    opened_ms: int
    wrote: WrittenPhase
    flaps: int
    uid: str
    resource_version: str
    namespace: str
    severity: int
    resource: ResourceRecord | None
    detail: Detail | None
    silenced: bool | None
    """What its RR is to say of it; None where it never was. What is resolved is not silenced."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A confirmed lease: what the storm was when it was taken. ``singles`` is None for a storm's own RR.

    ``worst_severity`` is the worst rank firing, or the last one that was where all are resolved.
    """

    storm: StormRecord
    text: StormText
    token: str
    now_ms: int
    stale: bool
    uid: str
    resource_version: str
    digest: str
    wrote: WrittenPhase
    told: str
    """The stage of the storm that Events told of last."""
    failures: int
    generation: int
    overflow: int
    worst_severity: int
    singles: tuple[SingleTask, ...] | None
    causes: tuple[Cause, ...] = ()
    """Label values that nearly all firing members share; where none fires, those that the last flush told."""


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """Nothing was leased: no such storm, somebody else's lease, nothing due yet, the storm just closed, or the sink
    must be looked through first (``Orphans``)."""

    reason: Literal["gone", "busy", "idle", "closed", "unreconciled"]


@dataclass(frozen=True, slots=True)
class NamedSingle:
    """A Single that was named while the storm gathered. ``uid`` is empty where it may not have been written."""

    fingerprint: str
    state: Literal["pending", "named", "written", "superseded"]
    opened_ms: int
    wrote: WrittenPhase
    uid: str
    resource_version: str
    namespace: str


@dataclass(frozen=True, slots=True)
class StormOutcome:
    """What became of a storm's RR. ``phase`` empty: nothing was written, try again after ``retry_ms``; ``waits``: for
    no failure's sake, but because its turn has not come. Where it was written, ``waits``: with Events alone.

    ``more``: Singles are still to be superseded, or Events to be told; ``told`` is how far those are.
    """

    phase: WrittenPhase
    uid: str = ""
    resource_version: str = ""
    digest: str = ""
    namespace: str = ""
    more: bool = False
    retry_ms: int = 0
    superseded: Sequence[str] = ()
    dropped: Sequence[str] = ()
    obsolete: Sequence[bytes] = ()
    told: str = ""
    waits: bool = False


@dataclass(frozen=True, slots=True)
class SingleOutcome:
    """What became of one Single; ``phase`` empty: not written. ``silenced``: what its RR says of that now.

    ``refused``: not for now, but for what it says; it counts as written until it is to say something else.
    """

    fingerprint: str
    phase: WrittenPhase
    uid: str = ""
    resource_version: str = ""
    namespace: str = ""
    silenced: bool | None = None
    refused: bool = False


Settled = Literal["settled", "dirty", "lost", "closed"]


class Leases:
    """Claims and settles. Every method raises the ``StoreError`` tree."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)

    def claim(
        self,
        storm_id: str,
        token: str,
        lease_ms: int,
        rules: Rules,
        *,
        max_singles: int = 32,
        above_fence: int = 0,
        reconciled: bool = False,
    ) -> Claim | NotClaimed:
        """Leases a storm; the same token renews. ``above_fence`` lifts the fence past one met outside.

        ``reconciled``: not before the sink was looked through since Redis was last empty.
        """
        args = (storm_id, token, lease_ms, packing.pack(rules.as_list()), max_singles, above_fence, int(reconciled))
        keys = (*storm_key_names(storm_id), ShardKeys(shard_of(storm_id)).orphans)
        reply = self._scripts.run("claim", keys, args)
        kind = reply[0].decode()
        if kind not in ("storm", "singles"):
            return NotClaimed(kind)
        _, now, flat, text, last, *causes = reply
        header = text_fields(dict(zip(flat[::2], flat[1::2], strict=True)))
        texts = packing.unpack_text(text)
        return Claim(
            storm=storm_record(storm_id, header, texts.key),
            text=texts,
            token=token,
            now_ms=int(now),
            stale=kind == "storm" and last == 1,
            uid=header.get("uid", ""),
            resource_version=header.get("rv", ""),
            digest=header.get("dg", ""),
            wrote=_PHASES[header.get("wp", "")],
            told=header.get("ev", ""),
            failures=int(header.get("fa", 0)),
            generation=int(header.get("gn", 0)),
            overflow=int(header.get("of", 0)),
            worst_severity=max(0, int(header.get("sx", 1)) - 1),
            singles=tuple(_single_task(raw, texts) for raw in last) if kind == "singles" else None,
            causes=packing.unpack_causes(causes[0]) if causes else (),
        )

    def resources(self, storm_id: str) -> Iterator[tuple[bytes, ResourceState]]:
        """All resources of a storm, read in bounded pages; each comes once, as it was when its page was read."""
        seen: set[bytes] = set()
        with translated():
            own = storm_namespace(self._client, StormKeys(storm_id))
        for page in self._pages(StormKeys(storm_id).resources):
            for rid, raw in page.items():
                if rid not in seen:
                    seen.add(rid)
                    yield rid, packing.unpack_resource(raw, own)

    def singles(self, storm_id: str) -> Iterator[NamedSingle]:
        """All Singles of a storm that have a record."""
        seen: set[bytes] = set()
        states: dict[bytes, Literal["pending", "named", "written", "superseded"]] = {
            b"P": "pending", b"N": "named", b"W": "written", b"S": "superseded",
        }  # fmt: skip
        for page in self._pages(StormKeys(storm_id).singles):
            for raw_fingerprint, raw in page.items():
                if raw_fingerprint in seen:
                    continue
                seen.add(raw_fingerprint)
                state, opened, _, _, wrote, uid, version, namespace, *_ = packing.unpack(raw)
                yield NamedSingle(
                    packing.unpack_fingerprint(raw_fingerprint), states[state], int(opened), _PHASES[wrote.decode()],
                    uid.decode(), version.decode(), namespace.decode(),
                )  # fmt: skip

    def _pages(self, key: str) -> Iterator[dict[bytes, bytes]]:
        cursor = 0
        while True:
            with translated():
                cursor, page = self._client.hscan(key, cursor, count=PAGE)
            yield page
            if cursor == 0:
                return

    def settle_storm(self, storm_id: str, token: str, rules: Rules, outcome: StormOutcome) -> Settled:
        """Ends the lease of a storm whose own RR was to be written."""
        packed = packing.pack([
            "storm", _CODES[outcome.phase], outcome.uid, outcome.resource_version, outcome.digest, outcome.namespace,
            int(outcome.more), outcome.retry_ms, [packing.pack_fingerprint(f) for f in outcome.superseded],
            [packing.pack_fingerprint(f) for f in outcome.dropped], list(outcome.obsolete),
            outcome.told, int(outcome.waits),
        ])  # fmt: skip
        return self._settle(storm_id, token, rules, packed)

    def settle_singles(
        self,
        storm_id: str,
        token: str,
        rules: Rules,
        outcomes: Sequence[SingleOutcome],
        retry_ms: int,
        *,
        waits: bool = False,
    ) -> Settled:
        """Ends the lease of a storm whose Singles were to be written; what was not is due again after ``retry_ms``.

        ``waits``: what was not only waits for its turn.
        """
        items = [
            [
                packing.pack_fingerprint(o.fingerprint), _CODES[o.phase], o.uid, o.resource_version, o.namespace,
                0 if o.silenced is None else 1 + o.silenced, int(o.refused),
            ]
            for o in outcomes
        ]  # fmt: skip
        return self._settle(storm_id, token, rules, packing.pack(["singles", retry_ms, items, int(waits)]))

    def _settle(self, storm_id: str, token: str, rules: Rules, outcome: bytes) -> Settled:
        args = (storm_id, token, packing.pack(rules.as_list()), outcome)
        reply: Settled = self._scripts.run("settle", storm_key_names(storm_id), args).decode()
        return reply


def _single_task(raw: Sequence[Any], texts: StormText) -> SingleTask:
    fingerprint, want, opened, wrote, flaps, uid, version, namespace, severity, resource, detail, silenced = raw
    return SingleTask(
        fingerprint=packing.unpack_fingerprint(fingerprint),
        want=_PHASES[want.decode()],
        opened_ms=int(opened),
        wrote=_PHASES[wrote.decode()],
        flaps=int(flaps),
        uid=uid.decode(),
        resource_version=version.decode(),
        namespace=namespace.decode(),
        severity=int(severity),
        resource=packing.unpack_resource(resource, texts.key.get("namespace", "")).record if resource else None,
        detail=packing.unpack_detail(detail),
        silenced=(silenced == 2 and want != b"R") if silenced else None,
    )
