"""The two pieces of work, ready to be run by a Celery task or by the sweep."""

from __future__ import annotations

from lua_scripts.keys import SHARDS
from tasks.aggregate import Aggregated, Aggregation
from tasks.ingest import TIME_BUDGET_S, Drain, Drained
from tasks.services import Services


def ingest(services: Services, shard: int, budget_s: float = TIME_BUDGET_S) -> Drained:
    """Drains a shard's inbox. Raises ``StoreError``."""
    return Drain(services.inbox, services.storms, services.rules).run(shard, budget_s)


def aggregate(services: Services, storm_id: str) -> Aggregated:
    """Writes what is due of a storm. Raises ``StoreError``."""
    settings = services.settings
    aggregation = Aggregation(
        services.leases, services.sink, services.rules, lease_ms=settings.lease, max_resources=settings.max_resources
    )
    return aggregation.run(storm_id)


def trim(services: Services) -> int:
    """Sheds dead letters beyond their bounds; how many went. Raises ``StoreError``."""
    return sum(services.inbox.trim(shard) for shard in range(SHARDS))
