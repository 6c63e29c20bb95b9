"""All settings of stormfold, read from environment variables once, checked together and never changed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from app import setting_types as of
from app.alerts import Matcher

PREFIX: Final = "STORMFOLD_"
_Value = TypeVar("_Value")

_INJECTED_NAME: Final = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_")
_INJECTED_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


class SettingsError(Exception):
    """A setting is wrong; the text is one line that begins with its name."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How a setting is written and what it is for; the README's table is made of these."""

    default: str
    parse: Callable[[str], Any]
    about: str
    secret: bool = False


def _setting(default: str, parse: Callable[[str], _Value], about: str, *, secret: bool = False) -> _Value:
    made: Any = field(metadata={"spec": Spec(default, parse, about, secret)}, repr=not secret)
    return made  # type: ignore[no-any-return]  # a dataclass field poses as its value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations are milliseconds, sizes bytes; the attribute is the setting's name in lower case without prefix."""

    redis_url: str = _setting("redis://127.0.0.1:6379/0", of.redis_url, "where the state is kept", secret=True)
    broker_url: str = _setting("", of.broker_url, "Celery's broker; empty: REDIS_URL", secret=True)
    redis_wait_replicas: int = _setting("0", of.count(0, 100), "replicas that must have an alert before the 202")

    group_by: tuple[str, ...] = _setting("cluster,namespace,alertname", of.labels, "labels that make the storm key")
    ignore: tuple[Matcher, ...] = _setting(
        "alertname=Watchdog,alertname=InfoInhibitor", of.matchers, "alerts that are counted and else passed over"
    )
    rate_threshold: int = _setting("10", of.count(1), "distinct alerts within RATE_WINDOW that are a storm")
    rate_window: int = _setting("60s", of.duration(1), "sliding window of RATE_THRESHOLD")
    pattern_threshold: int = _setting(
        "5", of.count(0), "distinct resources within PATTERN_WINDOW that are a storm; 0: off"
    )
    pattern_window: int = _setting("120s", of.duration(1), "sliding window of PATTERN_THRESHOLD")
    debounce: int = _setting("5s", of.duration(), "how long changes gather before they are written")
    max_wait: int = _setting("30s", of.duration(), "the longest that a change waits under steady fire")
    single_hold: int = _setting("5s", of.duration(), "how long a lone alert waits for company")
    reopen_window: int = _setting("5m", of.duration(), "how long after its last resolve a storm may reopen")
    stale_after: int = _setting(
        "6h", of.duration(1), "silence that closes a storm; longer than Alertmanager's repeat_interval"
    )
    tombstone: int = _setting("15m", of.duration(1), "how long a resolved alert is remembered one by one")
    lease: int = _setting("30s", of.duration(1), "how long a worker owns the storm it writes")
    max_members: int = _setting("50000", of.count(1), "alerts of a storm that are kept in detail")
    max_resources: int = _setting("500", of.count(1, 5_000), "resources that a RemediationRequest lists")

    cause_labels: tuple[str, ...] = _setting(
        "node,zone,region,namespace,owner,owner_name,image,version", of.up_to(8, of.labels),
        "labels, 8 at most, whose value is a hint where 90% of the firing alerts of a storm share it",
    )  # fmt: skip

    sink: str = _setting("directory:./manifests", of.sink, "kubernetes, or directory:PATH")
    namespace: str = _setting("", of.namespace, "namespace of every RemediationRequest; empty: the alert's own")
    fallback_namespace: str = _setting(
        "stormfold-system", of.required_namespace, "namespace where the alert's own is none or absent"
    )
    field_manager: str = _setting(
        "stormfold", of.field_manager, "who writes: field manager, and the installation whose objects are looked after"
    )
    kube_writes_per_second: int = _setting("20", of.count(1, 10_000), "writes to Kubernetes, all workers together")
    kube_timeout: int = _setting("5s", of.duration(1), "time limit of one request to Kubernetes")
    retention: int = _setting(
        "24h", of.duration(), "how long closed RemediationRequests and dead letters are kept; 0: for ever"
    )

    webhook_token: str | None = _setting("", of.token, "bearer token that callers must show", secret=True)
    basic_auth: str | None = _setting("", of.user_and_password, "user:password that callers must show", secret=True)
    admit_memory: int = _setting(
        "80%", of.percent, "share of Redis's maxmemory at which intake stops, counting what waiting alerts will become"
    )
    admit_age: int = _setting("2m", of.duration(1), "age of the oldest waiting alert at which intake stops")
    max_body: int = _setting("32MiB", of.size, "largest body of a webhook")
    alertmanager_url: tuple[str, ...] = _setting(
        "", of.http_urls, "every Alertmanager that posts here, a list: what was missed is fetched there", secret=True
    )
    alertmanager_receiver: str = _setting(
        "", of.text, "the receiver in Alertmanager that is stormfold; empty: the only one, else open storms alone"
    )
    reconcile_every: int = _setting("1m", of.duration(1_000), "between two comparisons with ALERTMANAGER_URL")
    reconcile_grace: int = _setting("2m", of.duration(), "how long an alert may fire there before it counts as missed")
    reconcile_peer_uptime: int = _setting(
        "10m", of.duration(), "how long each Alertmanager must be up before an alert that none lists counts as resolved"
    )
    record: str = _setting("", of.text, "folder to record webhooks in; empty: none")

    host: str = _setting("127.0.0.1", of.host, "address the web process listens on")
    port: int = _setting("8080", of.count(1, 65_535), "port of the web process")
    flower_port: int = _setting("5555", of.count(1, 65_535), "port of Flower")
    web_threads: int = _setting("8", of.count(1, 256), "threads that answer requests")
    concurrency: int = _setting("2", of.count(1, 256), "pool processes of a worker")
    worker_heartbeat_file: str = _setting(
        "", of.text, "file that a worker touches while it lives, for a liveness probe; empty: none"
    )
    log_level: str = _setting("info", of.choice("debug", "info", "warning", "error"), "what is logged at all")
    log_format: str = _setting("console", of.choice("console", "json"), "how log lines look")


def specs() -> dict[str, Spec]:
    """Every setting by its full name, in the order of the documentation."""
    return {PREFIX + each.name.upper(): each.metadata["spec"] for each in fields(Settings)}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of an environment, the process's own by default. Raises SettingsError at the first that is wrong."""
    given = _given(os.environ if environ is None else environ)
    values: dict[str, Any] = {}
    for name, spec in specs().items():
        try:
            values[name.removeprefix(PREFIX).lower()] = spec.parse(given.get(name, spec.default))
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from error
    if not values["broker_url"]:
        values["broker_url"] = "" if values["redis_url"].startswith("redis+cluster:") else values["redis_url"]
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _given(environ: Mapping[str, str]) -> dict[str, str]:
    """The texts of all settings that are set; secrets read from their files, Kubernetes' own variables left out."""
    known = specs()
    given: dict[str, str] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or _injected(name, value):
            continue
        plain = name.removesuffix("_FILE")
        if name in known:
            target = name
        elif plain in known and known[plain].secret:
            target, value = plain, _read(name, value)
        else:
            close = difflib.get_close_matches(
                name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], 1
            )
            hint = f"; is it {PREFIX}{close[0]}?" if close else ""
            raise SettingsError(f"{name}: there is no such setting{hint}")
        if target in given:
            raise SettingsError(f"{target}: given twice, as {target} and as {target}_FILE")
        given[target] = value
    return given


def _injected(name: str, value: str) -> bool:
    """Whether the kubelet made the variable for a Service, such as STORMFOLD_PORT=tcp://10.0.0.1:80."""
    return bool(_INJECTED_NAME.search(name) or (name.endswith("_PORT") and _INJECTED_VALUE.match(value)))


def _read(name: str, path: str) -> str:
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{name}: cannot read {path!r}: {reason}") from error
    if not value:
        raise SettingsError(f"{name}: {path!r} is empty")
    return value


def _check_together(settings: Settings) -> None:
    def refuse(name: str, why: str) -> None:
        raise SettingsError(f"{PREFIX}{name}: {why}")

    if "namespace" not in settings.group_by and not settings.namespace:
        refuse("NAMESPACE", "needed, because GROUP_BY has no namespace")
    if settings.max_wait < settings.debounce:
        refuse("MAX_WAIT", "shorter than DEBOUNCE")
    if not settings.broker_url:
        refuse("BROKER_URL", "needed, because a Redis Cluster cannot be Celery's broker")
    if settings.sink == "kubernetes" and settings.kube_timeout >= settings.lease:
        refuse("KUBE_TIMEOUT", "must be shorter than LEASE")
    if not (of.is_loopback(settings.host) or settings.webhook_token or settings.basic_auth):
        refuse("HOST", "off this machine's loopback only with WEBHOOK_TOKEN or BASIC_AUTH")
