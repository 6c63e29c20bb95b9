"""What an Alertmanager's configuration means for us: which routes lead here, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import load
from tasks.doctor.routing import Route, judge, milliseconds, our_receiver, routes

CONFIG = """\
route:
  receiver: mail
  group_by: [alertname]
  group_interval: 1m
  routes:
    - matchers: [team="shop"]
      receiver: stormfold
      group_by: [cluster, namespace, alertname]
      repeat_interval: 4h
      routes:
        - matchers: [severity="info"]
          repeat_interval: 1d
receivers:
  - name: mail
    email_configs: [{to: a@example.org}]
  - name: stormfold
    webhook_configs:
      - url: http://stormfold:8080/api/v1/signals/prometheus
"""


def found(text: str, **settings: str) -> list[str]:
    environ = {f"STORMFOLD_{name}": value for name, value in settings.items()}
    findings = list(judge("am", text, load(environ)))
    assert all(bool(finding.mend) is (finding.level != "ok") for finding in findings)
    return [f"{finding.level} {finding.text.removeprefix('am: ')}" for finding in findings]


def test_routes_inherit() -> None:
    # Given a tree of routes; Then each has what it says, and else what stands above it, and else the default
    groups = ("cluster", "namespace", "alertname")
    assert list(routes(yaml.safe_load(CONFIG)["route"])) == [
        Route("mail", ("alertname",), 60_000, 14_400_000),
        Route("stormfold", groups, 60_000, 14_400_000),
        Route("stormfold", groups, 60_000, 86_400_000),
    ]


def test_every_route_that_leads_here_is_looked_at() -> None:
    # Given a route below ours that repeats less often than a storm goes stale; Then that is told, and not about ours
    assert found(CONFIG) == ["fail repeat_interval 24h is not shorter than STALE_AFTER 6h: storms that fire go stale"]
    # And with a longer STALE_AFTER all is well
    assert found(CONFIG, STALE_AFTER="30h") == ["ok receiver stormfold, repeat_interval 4h, group_interval 1m"]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (("repeat_interval: 1d", "repeat_interval: 6h"), "fail repeat_interval 6h is not shorter than STALE_AFTER 6h"),
        (("repeat_interval: 1d", "repeat_interval: 359m"), "warn repeat_interval 359m and group_interval 1m leave no"),
        (("group_interval: 1m", "group_interval: 10m"), "warn group_interval 10m is longer than REOPEN_WINDOW 5m"),
        (
            ("[cluster, namespace, alertname]", "['...']"),
            "warn group_by ... is not GROUP_BY cluster,namespace,alertname",
        ),
        (("prometheus\n", "prometheus\n        send_resolved: false\n"), "fail send_resolved is false"),
        (("prometheus\n", "prometheus\n        max_alerts: 50\n"), "warn max_alerts 50 cuts off"),
        (("receiver: stormfold", "receiver: mail"), "fail no route leads to receiver stormfold"),
        (("webhook_configs", "slack_configs"), "fail which receiver is stormfold?"),
        (("repeat_interval: 1d", "repeat_interval: often"), "warn its configuration cannot be read"),
        (("route:", "rout:"), "warn its configuration cannot be read"),
        (("receivers:", "receivers: ["), "warn its configuration cannot be read"),
    ],
)
def test_what_does_not_fit_our_settings_is_told(change: tuple[str, str], wanted: str) -> None:
    # Given a configuration that fits but for one thing; Then that one is told
    fits = CONFIG.replace("1d", "2h") if "1d" not in change[0] else CONFIG
    [line] = found(fits.replace(*change))
    assert line.startswith(wanted)


def test_the_configuration_of_the_readme_fits() -> None:
    text = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    [example] = [block.split("```")[0] for block in text.split("```yaml\n")[1:] if block.startswith("route:")]
    assert [line.split()[0] for line in found(example)] == ["ok"]


def hook(url: str) -> dict[str, Any]:
    return {"webhook_configs": [{"url": url}]}


OURS = hook("https://x/api/v1/signals/prometheus")


@pytest.mark.parametrize(
    ("receivers", "given", "wanted"),
    [
        ({"a": OURS, "b": hook("http://other/")}, "", "a"),
        ({"a": hook("<secret>"), "b": {}}, "", "a"),
        ({"a": hook("<secret>"), "b": hook("<secret>")}, "", ""),
        ({"a": OURS, "b": hook("<secret>")}, "b", "b"),
        ({"a": OURS}, "b", ""),
        ({"a": OURS, "b": OURS}, "", ""),
    ],
)
def test_our_receiver_is_found(receivers: dict[str, Any], given: str, wanted: str) -> None:
    # Given receivers, whose URLs newer versions hide; Then ours is told where only one can be meant
    assert our_receiver(receivers, given) == wanted


@pytest.mark.parametrize(
    ("text", "ms"), [("1h30m", 5_400_000), ("1d", 86_400_000), ("300ms", 300), ("1w", 604_800_000)]
)
def test_durations_of_prometheus_are_read(text: str, ms: int) -> None:
    assert milliseconds(text) == ms


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1h30"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        milliseconds(text)
