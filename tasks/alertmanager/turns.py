"""Whose turn it is to poll Alertmanager: once a period over all workers, and soon where somebody asks."""

from __future__ import annotations

from typing import Final

import structlog
from kombu.exceptions import OperationalError

from app.broker import publish_ingest
from lua_scripts.errors import StoreError
from lua_scripts.memory import read_memory
from tasks.alertmanager.reconcile import AlertReconciler, Compared, Doors
from tasks.services import Services

ASKED_MS: Final = 5_000
"""Between two polls that somebody asked for: every notification of a group that is always cut asks."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def poll_is_due(services: Services) -> bool:
    """Whether the caller is to have a poll made now. Raises ``StoreError``."""
    every = services.settings.reconcile_every
    if not services.settings.alertmanager_url:
        return False
    if services.jobs.my_turn("reconcile-alerts", every):
        return True
    return services.polls.asked() > 0 and services.jobs.my_turn("reconcile-asked", min(every, ASKED_MS))


def reconcile_alerts(services: Services) -> Compared:
    """One poll, where it is time for one: a task may come twice, and any number of times by request."""
    settings = services.settings
    if not settings.alertmanager_url:
        return Compared(skipped="ALERTMANAGER_URL is not set")
    try:
        # Somewhat less than a period, so that a task that came late does not make the next one miss its turn.
        counting = services.jobs.my_turn("reconcile-poll", settings.reconcile_every * 3 // 4)
        asked = services.polls.asked()
        if not counting:
            if not asked:
                return Compared(skipped="polled already")
            if not services.jobs.my_turn("reconcile-asked-poll", min(settings.reconcile_every, ASKED_MS) * 3 // 4):
                return Compared(skipped="asked again too soon: the question stands")
        doors = Doors(
            services.inbox, services.storms, services.presence, services.polls, lambda: read_memory(services.client),
            lambda shard: _wake(services, shard),
        )  # fmt: skip
        refresh = counting and services.jobs.my_turn("reconcile-refresh", settings.stale_after // 3)
        return AlertReconciler(settings, services.rules, doors).poll(counting=counting, asked=asked, refresh=refresh)
    except StoreError as error:
        log.warning("not compared with Alertmanager, the next turn will be", reason=str(error))
        return Compared(skipped=str(error))


def _wake(services: Services, shard: int) -> None:
    try:
        publish_ingest(services.publisher, shard)
    except OperationalError as error:
        log.warning("no wake-up for what was fed, the sweep sees to it", shard=shard, reason=str(error))
