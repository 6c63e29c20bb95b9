"""What Prometheus sees: the ledger and the queues as they stand in Redis, and the requests of this process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from flask import Blueprint, Response, current_app
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.notify import Notifier
from app.store import Store
from lua_scripts.errors import StoreError
from lua_scripts.polls import PollReport

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "OPTIONS"))

blueprint = Blueprint("metrics", __name__)


class Metrics:
    """One registry per app, so that two apps in a process (tests) do not share figures."""

    def __init__(self, store: Store, notifier: Notifier) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_StoreCollector(store))
        self.registry.register(_WakeUpCollector(notifier))
        self._requests = Counter(
            "stormfold_http_requests", "Requests answered by this process.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "stormfold_http_request_seconds", "Time taken to answer a request.", ("route",),
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5), registry=self.registry,
        )  # fmt: skip
        self._problems = Counter(
            "stormfold_http_problems", "Answers other than success, by the type of the problem.", ("type",),
            registry=self.registry,
        )  # fmt: skip
        self._truncated = Counter(
            "stormfold_truncated_alerts", "Alerts that Alertmanager says it left out (max_alerts).",
            registry=self.registry,
        )  # fmt: skip

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Notes one answered request. A method that nobody serves is not worth a series of its own."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def problem(self, kind: str) -> None:
        self._problems.labels(kind).inc()

    def truncated(self, alerts: int) -> None:
        self._truncated.inc(alerts)


class _StoreCollector(Collector):
    """Reads Redis at each scrape: the truth, whichever process answers, and nothing to lose at a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        return ()  # else the registry would collect at once, and Redis may be away

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("stormfold_redis_up", "Whether Redis answered this scrape.")
        try:
            ledger, depth, due = self._store.totals(), self._store.depth(), self._store.due_counts()
            polls, letters, audited = self._store.poll_report(), self._store.letter_counts(), self._store.audited()
            beats, kube, rivals = self._store.last_beats(), self._store.kube_health(), self._store.rival_objects()
        except StoreError:
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        counts = ledger.as_json()
        pending = counts.pop("pending")
        alerts = CounterMetricFamily(
            "stormfold_alerts", "Alerts by what became of them; received is their sum and pending.", labels=("class",)
        )
        # A counter must not fall: what was replayed stays here as both, while the ledger has it once.
        counts["received"] += letters.replayed
        counts["deadLettered"] += letters.replayed
        for name, value in counts.items():
            alerts.add_metric((name,), value)
        yield alerts
        for name, text, count in (
            ("dead_letters_shed", "Dead letters dropped beyond the bounds of number, bytes and age.", letters.shed),
            ("dead_letters_replayed", "Dead letters put into the inbox again.", letters.replayed),
            ("kube_refused", "Requests that Kubernetes refused until somebody mends something.", kube.refused),
            ("kube_writes", "Requests to Kubernetes that were to write something.", kube.writes),
            ("kube_throttled", "Requests that Kubernetes turned away for now (429, 503).", kube.throttled),
        ):
            yield CounterMetricFamily(f"stormfold_{name}", text, value=count)
        beat = GaugeMetricFamily(
            "stormfold_worker_last_live_timestamp_seconds",
            "When a worker last consumed, or found nothing to consume.",
            labels=("worker",),
        )
        for worker, at_ms in sorted(beats.items()):
            beat.add_metric((worker,), at_ms / 1000)
        yield beat
        age_s = max(0.0, time.time() - depth.oldest_ms / 1000) if depth.entries else 0.0
        for name, text, figure in (
            ("alerts_pending", "Accepted alerts that no worker has taken in yet.", pending),
            ("inbox_entries", "Entries that wait in the inbox.", depth.entries),
            ("inbox_oldest_age_seconds", "Age of the oldest entry in the inbox.", age_s),
            ("storms_open", "Storm keys with an open history.", due.open),
            ("storms_due", "Storms whose time to act has come.", due.due),
            ("dead_letters", "Dead letters that are held.", letters.held),
            ("ledger_unbalanced", "Shards and storms whose ledger did not balance when last looked at; 0 is right.",
             audited.unbalanced),
            ("ledger_checked_timestamp_seconds", "When the shard looked at longest ago was looked at; 0: not yet.",
             audited.oldest_ms / 1000),
            ("kube_paused_seconds", "For how long all workers leave Kubernetes alone.", kube.paused_ms / 1000),
            ("kube_failures", "Requests in a row that Kubernetes did not answer, or failed by itself.", kube.failures),
            ("kube_definition_missing", "1: Kubernetes does not know RemediationRequest; nothing can be written.",
             int(kube.undefined_since_ms > 0)),
            ("kube_waiting", "Storms that wait for their turn to be written.", kube.waiting),
            ("rival_objects", "Open objects of other installations for storms that are open here, at the last look.",
             rivals),
            ("due_lag_seconds", "How late the most overdue storm is.", max(due.overdue_ms, kube.waiting_ms) / 1000),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"stormfold_{name}", text, value=figure)
        if polls:
            yield from _poll_metrics(polls)


def _poll_metrics(report: PollReport) -> Iterator[Metric]:
    polls = CounterMetricFamily(
        "stormfold_reconcile_polls", "Comparisons with Alertmanager; partial: not every peer answered and was up long.",
        labels=("outcome",),
    )  # fmt: skip
    polls.add_metric(("complete",), report.complete)
    polls.add_metric(("partial",), report.partial)
    yield polls
    alerts = CounterMetricFamily(
        "stormfold_reconcile_alerts", "Alerts that comparing fed as firing, and members it presumed resolved.",
        labels=("outcome",),
    )  # fmt: skip
    alerts.add_metric(("fed",), report.fed)
    alerts.add_metric(("presumed",), report.presumed)
    yield alerts
    success = GaugeMetricFamily(
        "stormfold_reconcile_last_success_timestamp_seconds", "When an Alertmanager was last read.", labels=("peer",)
    )
    for peer, at_ms in sorted(report.last_success_ms.items()):
        success.add_metric((peer,), at_ms / 1000)
    yield success


class _WakeUpCollector(Collector):
    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def collect(self) -> Iterator[Metric]:
        counts = self._notifier.counts()
        family = CounterMetricFamily(
            "stormfold_wakeups",
            "Wake-ups given to the broker; failed ones are made good by a sweep.",
            labels=("outcome",),
        )
        family.add_metric(("published",), counts.published)
        family.add_metric(("failed",), counts.failed)
        yield family


@blueprint.get("/metrics")
def metrics() -> Response:
    shown: Metrics = current_app.extensions["stormfold"].metrics
    return Response(generate_latest(shown.registry), content_type=CONTENT_TYPE)
