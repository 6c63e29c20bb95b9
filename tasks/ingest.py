"""Draining a shard's inbox into its storms: every entry once, and an entry that fails for its content alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from app.alerts import Alert, cause_values, severity_rank, slug, target_resource
from app.entries import BadEntry, Entry, alerts_in, pack, unpack
from app.letters import make_letter
from app.times import rfc3339
from lua_scripts.errors import StoreBroken, StoreError
from lua_scripts.inbox import Inbox
from lua_scripts.packing import Detail
from lua_scripts.records import DeadLetter, Rules, StoredEntry, StormAlert, Taken
from lua_scripts.storms import EntryToTake, Storms

TIME_BUDGET_S: Final = 2.0
"""After this long the rest of a shard waits for its next turn, so that other shards have theirs."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Drained:
    """What one drain did, in alerts; ``more`` when entries were left for another turn."""

    entries: int = 0
    new: int = 0
    duplicate: int = 0
    reopened: int = 0
    resolved: int = 0
    outdated: int = 0
    dead_lettered: int = 0
    more: bool = False

    def add(self, taken: Taken) -> None:
        self.entries += 1
        self.new += taken.new
        self.duplicate += taken.duplicate
        self.reopened += taken.reopened
        self.resolved += taken.resolved
        self.outdated += taken.outdated


def storm_alert(alert: Alert, cause_labels: Sequence[str] = ()) -> StormAlert:
    """An alert as the scripts take it."""
    resource = target_resource(alert.labels)
    return StormAlert(
        fingerprint=alert.fingerprint,
        firing=alert.firing,
        starts_at_ms=alert.starts_at_ms,
        ends_at_ms=alert.ends_at_ms,
        severity=severity_rank(alert.labels.get("severity", "")),
        kind=resource.kind,
        name=resource.name,
        namespace=resource.namespace,
        node=resource.node,
        # Without any label it is a resolve that was presumed: the alert itself has some.
        causes=cause_values(alert.labels, cause_labels) if alert.labels else None,
    )


def as_sent(alert: Alert) -> dict[str, Any]:
    """An alert as a webhook brings it: what a dead letter needs to be replayed."""
    sent = {
        "status": "firing" if alert.firing else "resolved", "labels": alert.labels, "annotations": alert.annotations,
        "generatorURL": alert.generator_url, "fingerprint": alert.fingerprint,
    }  # fmt: skip
    times = {"startsAt": alert.starts_at_ms, "endsAt": alert.ends_at_ms}
    return sent | {name: rfc3339(ms) for name, ms in times.items() if ms}


def common_labels(alerts: Sequence[Alert]) -> Mapping[str, str]:
    """The labels that all alerts share."""
    if not alerts:
        return {}
    shared = set(alerts[0].labels.items())
    for alert in alerts[1:]:
        shared &= alert.labels.items()
    return dict(shared)


def to_take(entry_id: str, entry: Entry, cause_labels: Sequence[str] = (), *, details: bool) -> EntryToTake:
    """An entry as ``Storms.ingest`` takes it."""
    key = dict(entry.key)
    name = key.get("alertname", "")
    unsaid = [label for label in cause_labels if label not in key]
    return EntryToTake(
        entry_id=entry_id,
        storm_id=entry.storm_id,
        slug=slug(name),
        namespace=entry.namespace,
        key=entry.key,
        alerts=[storm_alert(alert, unsaid) for alert in entry.alerts],
        common=common_labels(entry.alerts),
        details=[Detail(a.labels, a.annotations, a.generator_url) for a in entry.alerts] if details else (),
        cause_labels=unsaid,
    )


class Drain:
    """Drains shards; all state is in Redis, so any number of drains may run at once."""

    def __init__(self, inbox: Inbox, storms: Storms, rules: Rules, cause_labels: Sequence[str] = ()) -> None:
        self._inbox = inbox
        self._storms = storms
        self._rules = rules
        self._cause_labels = cause_labels

    def run(self, shard: int, budget_s: float = TIME_BUDGET_S) -> Drained:
        """Drains until the inbox is empty or the budget is used up. Raises ``StoreError``; what was done stays done."""
        drained = Drained()
        end = time.monotonic() + budget_s
        while stored := self._inbox.take(shard):
            self._take(shard, stored, drained)
            if time.monotonic() >= end:
                drained.more = True
                break
        return drained

    def _take(self, shard: int, stored: Sequence[StoredEntry], drained: Drained) -> None:
        entries: dict[str, Entry] = {}
        for item in stored:
            try:
                entries[item.entry_id] = unpack(item.payload)
            except BadEntry as error:
                self._bury(shard, item.entry_id, None, str(error), drained)
        gathering = self._gathering([entry.storm_id for entry in entries.values()])
        calls = []
        for entry_id, entry in entries.items():
            # Only the first entry of a storm that gathers brings details: it may well complete the threshold.
            calls.append(to_take(entry_id, entry, self._cause_labels, details=entry.storm_id in gathering))
            gathering.discard(entry.storm_id)
        wanting = self._ingest(shard, calls, entries, drained)
        if wanting:
            again = [to_take(each, entries[each], self._cause_labels, details=True) for each in wanting]
            self._ingest(shard, again, entries, drained)

    def _gathering(self, storm_ids: Sequence[str]) -> set[str]:
        distinct = list(dict.fromkeys(storm_ids))
        phases = self._storms.phases(distinct)
        return {
            storm_id for storm_id, phase in zip(distinct, phases, strict=True) if phase in (None, "GATHERING")
        }  # fmt: skip

    def _ingest(
        self, shard: int, calls: Sequence[EntryToTake], entries: Mapping[str, Entry], drained: Drained
    ) -> list[str]:
        """Takes entries in; the ids of those that want details. Raises the first error that is not an entry's own."""
        wanting: list[str] = []
        failed: StoreError | None = None
        for call, result in zip(calls, self._storms.ingest(calls, self._rules), strict=True):
            if isinstance(result, StoreBroken):
                self._isolate(shard, call.entry_id, entries[call.entry_id], str(result), drained)
            elif isinstance(result, StoreError):
                failed = failed or result
            elif result.status == "detail":
                wanting.append(call.entry_id)
            elif result.status == "ok":
                drained.add(result)
        if failed:
            raise failed
        return wanting

    def _isolate(self, shard: int, entry_id: str, entry: Entry, reason: str, drained: Drained) -> None:
        """One bad alert must not cost its neighbours: an entry that fails is taken apart, an alert is buried."""
        if len(entry.alerts) <= 1:
            self._bury(shard, entry_id, entry, reason, drained)
            return
        log.warning("entry fails for its content, trying its alerts one by one", entry=entry_id, reason=reason)
        stem = entry_id.rpartition("-")[0]
        parts = [(f"{stem}.{at}-1", pack(replace(entry, alerts=(a,)))) for at, a in enumerate(entry.alerts)]
        self._inbox.split(shard, entry_id, parts)

    def _bury(self, shard: int, entry_id: str, entry: Entry | None, reason: str, drained: Drained) -> None:
        alerts = alerts_in(entry_id)
        if entry:
            letter = make_letter(entry_id, entry.delivery_id, reason, "", as_sent(entry.alerts[0]))
        else:
            letter = DeadLetter(entry_id, reason, "", "", entry_id.rpartition("-")[0])
        if self._inbox.bury(shard, entry_id, alerts, letter):
            drained.dead_lettered += alerts
            log.error("alert became a dead letter", letter=entry_id, reason=reason)
