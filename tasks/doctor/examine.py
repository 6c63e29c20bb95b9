"""All checks in the order in which a person would make them, and the repair."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from app.settings import Settings
from lua_scripts.connection import Limits, connect
from lua_scripts.errors import StoreError
from lua_scripts.server import server_ms
from tasks.doctor.alertmanagers import check_alertmanagers
from tasks.doctor.clocks import compare
from tasks.doctor.findings import Finding, fail, ok
from tasks.doctor.sinks import check_sink
from tasks.doctor.stores import START, check_broker, check_redis, check_workers
from tasks.services import Services
from tasks.sinks.errors import SinkError
from tasks.work import reconcile

IMPATIENT: Final = Limits(timeout_s=2.0, retries=0)


def examine(settings: Settings) -> Iterator[Finding]:
    """Looks at everything; changes nothing but to load scripts that Redis lacks."""
    clocks: dict[str, int] = {}
    yield from _redis(settings, clocks)
    yield from check_broker(Services(settings))
    yield from check_sink(settings, clocks)
    yield from check_alertmanagers(settings, clocks)
    yield from compare(clocks)


def _redis(settings: Settings, clocks: dict[str, int]) -> Iterator[Finding]:
    try:
        client = connect(settings.redis_url, IMPATIENT)
    except StoreError as error:  # a cluster is asked for its nodes at once
        yield fail("redis", str(error), START)
        return
    yield from check_redis(client, settings)
    try:
        clocks["Redis"] = server_ms(client) - int(time.time() * 1000)
        yield check_workers(client)
    except StoreError:
        return  # it was said already that Redis does not answer


def repair(settings: Settings) -> Finding:
    """Holds the sink against the state at once, as the workers do every five minutes."""
    try:
        done = reconcile(Services(settings))
    except (StoreError, SinkError) as error:
        return fail("repair", str(error), "mend what is said above, then try again")
    return ok("repair", ", ".join(f"{name} {count}" for name, count in asdict(done).items()))
