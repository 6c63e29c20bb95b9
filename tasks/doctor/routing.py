"""The routes of an Alertmanager that lead to us, and what is wrong with them; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from app.settings import Settings
from tasks.doctor.findings import Finding, duration_text, fail, ok, warn

WEBHOOK_PATH: Final = "/api/v1/signals/prometheus"
_UNITS: Final = {
    "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Route:
    """What is inherited along the tree of routes."""

    receiver: str = ""
    group_by: tuple[str, ...] = ()
    group_interval: int = 300_000
    repeat_interval: int = 14_400_000


def milliseconds(text: str) -> int:
    """Prometheus's durations: ``1d``, ``5m``, ``1h30m``. ValueError for what is none."""
    parts = re.findall(r"(\d+)(ms|[smhdwy])", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise ValueError(f"{text!r} is no duration")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def routes(tree: Mapping[str, Any], above: Route = Route()) -> Iterator[Route]:
    """Every route of the tree, with what it inherits. Raises ValueError."""
    here = replace(
        above,
        receiver=str(tree.get("receiver") or above.receiver),
        group_by=tuple(str(name) for name in tree["group_by"]) if "group_by" in tree else above.group_by,
        **{name: milliseconds(str(tree[name])) for name in ("group_interval", "repeat_interval") if tree.get(name)},
    )
    yield here
    for below in tree.get("routes") or ():
        yield from routes(below, here)


def judge(peer: str, text: str, settings: Settings) -> Iterator[Finding]:
    """What an Alertmanager's configuration means for us."""
    about = "alertmanager"
    try:
        config = yaml.safe_load(text)
        receivers = {str(one["name"]): one for one in config["receivers"]}
        ways = list(routes(config["route"]))
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        yield warn(about, f"{peer}: its configuration cannot be read: {error}", "compare it with README.md by hand")
        return
    name = our_receiver(receivers, settings.alertmanager_receiver)
    if not name:
        mend = "set STORMFOLD_ALERTMANAGER_RECEIVER to the name of a receiver with a webhook to stormfold"
        yield fail(about, f"{peer}: which receiver is stormfold?", mend)
        return
    leading = [way for way in dict.fromkeys(ways) if way.receiver == name]
    if not leading:
        yield fail(about, f"{peer}: no route leads to receiver {name}", "add a route with that receiver")
        return
    wrong = [finding for way in leading for finding in _judge_route(peer, way, settings)]
    wrong += _judge_receiver(peer, receivers[name])
    yield from dict.fromkeys(wrong)
    if not wrong:
        repeat, interval = duration_text(leading[0].repeat_interval), duration_text(leading[0].group_interval)
        yield ok(about, f"{peer}: receiver {name}, repeat_interval {repeat}, group_interval {interval}")


def our_receiver(receivers: Mapping[str, Any], given: str) -> str:
    """The name that was given, else of the receiver whose webhook leads here (newer versions hide URLs), else of the
    only one that has a webhook; '' where none can be told.
    """
    if given:
        return given if given in receivers else ""
    hooks = {
        name: [str(hook.get("url", "")) for hook in one.get("webhook_configs") or ()] for name, one in receivers.items()
    }
    ours = [name for name, urls in hooks.items() if any(urlsplit(url).path == WEBHOOK_PATH for url in urls)]
    candidates = ours or [name for name, urls in hooks.items() if urls]
    return candidates[0] if len(candidates) == 1 else ""


def _judge_route(peer: str, way: Route, settings: Settings) -> Iterator[Finding]:
    about, stale = "alertmanager", settings.stale_after
    repeat, interval = duration_text(way.repeat_interval), duration_text(way.group_interval)
    if way.repeat_interval >= stale:
        yield fail(
            about, f"{peer}: repeat_interval {repeat} is not shorter than STALE_AFTER {duration_text(stale)}: "
            "storms that fire go stale", "set STORMFOLD_STALE_AFTER to more than repeat_interval",
        )  # fmt: skip
    elif way.repeat_interval + way.group_interval >= stale:
        yield warn(
            about, f"{peer}: repeat_interval {repeat} and group_interval {interval} leave no room below STALE_AFTER "
            f"{duration_text(stale)}", "set STORMFOLD_STALE_AFTER to more than both",
        )  # fmt: skip
    if way.group_interval > settings.reopen_window:
        yield warn(
            about, f"{peer}: group_interval {interval} is longer than REOPEN_WINDOW "
            f"{duration_text(settings.reopen_window)}: what flaps gets a new object each time",
            "shorten group_interval, or set STORMFOLD_REOPEN_WINDOW to more",
        )  # fmt: skip
    if set(way.group_by) != set(settings.group_by):
        groups, ours = ",".join(way.group_by) or "(nothing)", ",".join(settings.group_by)
        yield warn(
            about, f"{peer}: group_by {groups} is not GROUP_BY {ours}: notifications and storms do not match",
            f"group_by: [{', '.join(settings.group_by)}]",
        )  # fmt: skip


def _judge_receiver(peer: str, receiver: Mapping[str, Any]) -> Iterator[Finding]:
    for hook in receiver.get("webhook_configs") or ():
        if hook.get("send_resolved") is False:
            yield fail("alertmanager", f"{peer}: send_resolved is false: no storm ever resolves", "send_resolved: true")
        if hook.get("max_alerts"):
            yield warn(
                "alertmanager",
                f"{peer}: max_alerts {hook['max_alerts']} cuts off alerts of a big storm",
                "max_alerts: 0",
            )
