"""Redis memory of a storm of 15, its RR written, against 2 KB plus 1.3 times the sample that is stored of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from app.cli.payloads import storm
from lua_scripts import packing
from lua_scripts.keys import StormKeys
from tasks.services import Services
from tasks.work import aggregate
from tests.benchmarks.direct import id_of, record, services, to_alert
from tests.benchmarks.report import Measure
from tests.support.redis_server import RedisServer

MEMBERS = 15
STORMS = 100
"""Storms of a round: the memory of one is their share of what the server's memory grew by."""
FIXED, PER_SAMPLE_BYTE = 2048, 1.3


def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Measure]:
    """The sum of all keys' MEMORY USAGE, and the growth of used_memory, both as a share of what a storm may take."""
    server = RedisServer(folder / "memory").start()
    try:
        made = services(server, folder, DEBOUNCE="0")
        _round(made, -1)  # what the server allocates once
        found = [_round(made, number) for number in range(rounds)]
    finally:
        server.stop()
    keys, grown, samples = (statistics.median(values) for values in zip(*found, strict=True))
    allowed = [FIXED + PER_SAMPLE_BYTE * sample for _, _, sample in found]
    details = {"key_bytes": keys, "used_memory_bytes": grown, "sample_bytes": samples, "members": MEMBERS}
    name = f"memory of a storm of {MEMBERS} / (2 KB + 1.3 x sample)"
    measures = [
        Measure(
            f"{name}, {how}", [one[at] / allow for one, allow in zip(found, allowed, strict=True)], 1.0, "lower",
            f"{value:,.0f} B: sample {samples:,.0f}, rest {value - samples:,.0f}", details,
        )
        for at, how, value in ((0, "its keys", keys), (1, "used_memory", grown))
    ]  # fmt: skip
    for one in measures:
        say(f"  {one.name}: {one.note}")
    return measures


def _round(services: Services, number: int) -> tuple[float, float, float]:
    """Bytes per storm: by its keys, by the server's growth, and those of the stored sample."""
    alerts = [
        to_alert(alert)
        for at in range(STORMS)
        for alert in storm("pods", MEMBERS, starts_at=datetime.now(UTC), number=at, cluster=f"round-{number}")
    ]
    ids = list(dict.fromkeys(id_of(services, alert) for alert in alerts))
    before = services.client.info("memory")["used_memory"]
    record(services, alerts)
    for storm_id in ids:
        aggregated = aggregate(services, storm_id)
        if aggregated.written != 1:
            raise RuntimeError(f"the RR of storm {storm_id} was not written: {aggregated}")
    grown = services.client.info("memory")["used_memory"] - before
    keys = [sum(_usage(services, key) for key in StormKeys(storm_id).all()) for storm_id in ids]
    samples = [_sample(services, storm_id) for storm_id in ids]
    return statistics.fmean(keys), grown / len(ids), statistics.fmean(samples)


def _usage(services: Services, key: str) -> int:
    return services.client.memory_usage(key, samples=0) or 0


def _sample(services: Services, storm_id: str) -> int:
    raw = services.client.get(StormKeys(storm_id).text)
    if not isinstance(raw, bytes):
        raise RuntimeError(f"storm {storm_id} has no text")
    return len(packing.unpack(raw)[2])
