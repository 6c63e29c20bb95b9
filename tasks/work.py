"""The two pieces of work, ready to be run by a Celery task or by the sweep."""

from __future__ import annotations

from typing import Final

import structlog

from lua_scripts.keys import SHARDS
from tasks.aggregate import Aggregated, Aggregation
from tasks.ingest import TIME_BUDGET_S, Drain, Drained
from tasks.reconcile import Reconciled, Reconciler
from tasks.services import Services
from tasks.sinks.errors import SinkError
from tasks.writer import Means

RECONCILE_RETRY_MS: Final = 2000
WRITES_A_STORM: Final = 2
"""Its spec, and its status."""
FOR_EVER_MS: Final = 10**12
"""An age that no dead letter reaches; their number and bytes stay bounded."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def ingest(services: Services, shard: int, budget_s: float = TIME_BUDGET_S) -> Drained:
    """Drains a shard's inbox. Raises ``StoreError``."""
    drain = Drain(services.inbox, services.storms, services.rules, services.settings.cause_labels)
    return drain.run(shard, budget_s)


def waits_for_its_turn(services: Services, storm_id: str) -> bool:
    """Whether a due storm has to wait for Kubernetes; then nobody looks at it before its turn. Raises ``StoreError``.

    Asked before it is claimed, for a claim that ends in waiting is work for nothing.
    """
    if services.settings.sink != "kubernetes" or (due := services.due.flush_due(storm_id)) == "no":
        return False
    urgent = due == "storm"
    wait_ms = services.gate.wait_ms(WRITES_A_STORM if urgent else 1, storm_id, urgent=urgent)
    if wait_ms:
        services.due.postpone(storm_id, wait_ms)
    return wait_ms > 0


def aggregate(services: Services, storm_id: str) -> Aggregated:
    """Writes what is due of a storm. Raises ``StoreError``."""
    if waits_for_its_turn(services, storm_id):
        return Aggregated(0, "waits")
    settings = services.settings
    means = Means(services.leases, services.refusals, services.sink, services.rules, settings.lease)
    aggregation = Aggregation(means, max_resources=settings.max_resources, cause_labels=settings.cause_labels)
    done = aggregation.run(storm_id)
    if done.ended == "unreconciled" and services.jobs.my_turn("reconcile-first", RECONCILE_RETRY_MS):
        try:
            # A storm waits for this look: what has expired can wait for the next.
            reconcile(services, retain=False)
        except SinkError as error:
            log.warning("nothing is written before the sink was looked through", reason=str(error))
            return done
        done = aggregation.run(storm_id)
    return done


def reconcile(services: Services, *, retain: bool = True) -> Reconciled:
    """Holds the RRs in the sink against the state, and deletes those that were closed long enough ago.

    Raises ``StoreError`` and ``SinkError``.
    """
    settings = services.settings
    retention_ms = settings.retention if retain else 0
    return Reconciler(services.orphans, services.sink, grace_ms=settings.stale_after, retention_ms=retention_ms).run()


def trim(services: Services) -> int:
    """Sheds dead letters beyond their bounds; how many went. Raises ``StoreError``."""
    age_ms, shed = services.settings.retention or FOR_EVER_MS, 0
    for shard in range(SHARDS):
        while gone := services.inbox.trim(shard, age_ms):  # a call sheds some hundred
            shed += gone
    return shed
