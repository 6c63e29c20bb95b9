"""Redis's own time per alert in ``ingest``, by the size of the storm that the alerts belong to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.alerts import Alert
from app.cli.payloads import storm
from tasks.services import Services
from tests.benchmarks.direct import accept, call_for, record, services, to_alert
from tests.benchmarks.report import Measure
from tests.support.redis_server import RedisServer

SIZES = (15, 1_000, 10_000)
CALLS = 8
"""Script calls per size and round, the sizes taking turns."""
KNOWN, NEW = 15, 85
MARK = 1.5


class _Storm:
    """A storm of about one size that gets entries: a small one is made anew for each, as an entry outgrows it."""

    def __init__(self, services: Services, size: int) -> None:
        self._services = services
        self._size = size
        self._made = 0
        self._alerts: list[Alert] = []
        self._used = 0

    def prepare(self) -> None:
        """Sees to it that the storm stands at its size."""
        if self._alerts and self._size > 10 * NEW:
            return
        self._made += 1
        now = datetime.now(UTC)
        posted = storm("pods", self._size, starts_at=now, number=self._made, seed=self._size, cluster="bench")
        self._alerts = [to_alert(alert) for alert in posted]
        for at in range(0, self._size, 1000):
            record(self._services, self._alerts[at : at + 1000])

    def duplicates(self) -> list[Alert]:
        """Alerts that the storm knows, others each time where it has so many."""
        self._used += KNOWN
        return [self._alerts[(self._used + at) % self._size] for at in range(KNOWN)]

    def mixed(self) -> list[Alert]:
        """A full entry: some that the storm knows, the others new."""
        self._made += 1
        first, namespace = self._alerts[0], self._alerts[0].labels["namespace"]
        more = storm("pods", NEW, starts_at=datetime.now(UTC), number=self._made, seed=-self._size, cluster="bench")
        fresh = [to_alert(alert) for alert in more]
        for alert in fresh:
            alert.labels["namespace"] = namespace
        assert first.labels["cluster"] == fresh[0].labels["cluster"]
        return [*self.duplicates(), *fresh]


def measure(folder: Path, rounds: int, say: Callable[[str], None]) -> list[Measure]:
    """Two ratios: a full entry, mostly news, and a short one that brings nothing new."""
    server = RedisServer(folder / "scripts", maxmemory="512mb").start()
    try:
        made = services(server, folder)
        storms = {size: _Storm(made, size) for size in SIZES}
        for one in storms.values():
            one.prepare()
        mixed = _compare(made, storms, _Storm.mixed, rounds)
        known = _compare(made, storms, _Storm.duplicates, rounds)
    finally:
        server.stop()
    measures = []
    for what, times in ((f"{KNOWN} known and {NEW} new", mixed), (f"{KNOWN} known", known)):
        for size in SIZES[1:]:
            ratios = [large / small for small, large in zip(times[SIZES[0]], times[size], strict=True)]
            medians = [statistics.median(times[which]) for which in (SIZES[0], size)]
            note = f"{medians[1]:.1f} against {medians[0]:.1f} µs/alert here"
            name = f"Lua per alert, entry of {what}: {size:,} / {SIZES[0]} members"
            details = {f"us_per_alert_{which}": times[which] for which in (SIZES[0], size)}
            measures.append(Measure(name, ratios, MARK, "lower", note, details))
            say(f"  {name}: {statistics.median(ratios):.2f}")
    return measures


def _compare(
    services: Services, storms: dict[int, _Storm], alerts_of: Callable[[_Storm], list[Alert]], rounds: int
) -> dict[int, list[float]]:
    """Microseconds per alert, of each round, by size."""
    times: dict[int, list[float]] = {size: [] for size in storms}
    for number in range(rounds + 1):
        calls: dict[int, list[float]] = {size: [] for size in storms}
        for _ in range(CALLS):
            for size, one in storms.items():
                one.prepare()
                calls[size].append(_microseconds(services, alerts_of(one)))
        if number:  # the first round warms up
            for size, values in calls.items():
                times[size].append(statistics.median(values))
    return times


def _microseconds(services: Services, alerts: Sequence[Alert]) -> float:
    (entry,) = accept(services, alerts)
    call = call_for(entry)
    before = _spent(services)
    (taken,) = services.storms.ingest([call], services.rules)
    spent = _spent(services) - before
    if isinstance(taken, Exception):
        raise taken
    if taken.status != "ok" or taken.phase != "ACTIVE":
        raise RuntimeError(f"the storm was not active: {taken}")
    return spent / len(alerts)


def _spent(services: Services) -> float:
    stats = services.client.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec"])
