"""A real Alertmanager with a real configuration, as a local process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from app.cli.payloads import timestamp
from tests.support.absent import absent
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import wait_until
from tests.support.webhook import Alert, request

CONFIGURATION = """\
route:
  receiver: stormfold
  group_by: [cluster, namespace, alertname]
  group_wait: 300ms
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: stormfold
    webhook_configs:
      - url: {url}
        send_resolved: true
        max_alerts: {max_alerts}
        http_config:
          authorization:
            type: Bearer
            credentials: {token}
"""


def executable() -> str:
    """Debian calls it prometheus-alertmanager, everybody else alertmanager."""
    for name in ("prometheus-alertmanager", "alertmanager"):
        found = shutil.which(name)
        if found is not None:
            return found
    return absent("Alertmanager (Debian: prometheus-alertmanager) is not installed")


class Alertmanager:
    """Sends what it is given to one webhook. Used as a context manager. ``port``: where somebody knows it already."""

    def __init__(self, folder: Path, *, webhook_url: str, token: str, port: int = 0, max_alerts: int = 0) -> None:
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "alertmanager.yml"
        configuration.write_text(CONFIGURATION.format(url=webhook_url, token=token, max_alerts=max_alerts))
        self.process = Process(
            "alertmanager",
            [
                executable(), f"--config.file={configuration}", f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address=",
            ],
            environ={"PATH": os.environ["PATH"], "HOME": str(folder)},
            folder=folder,
        )  # fmt: skip

    def __enter__(self) -> Alertmanager:
        self.start()
        return self

    def start(self) -> None:
        """Start it, or start it again: what it knew of alerts is gone."""
        self.process.start()
        wait_until(self._ready, "Alertmanager to be ready", describe=self.process.log)

    def __exit__(self, *_: object) -> None:
        self.process.kill()

    def _ready(self) -> bool:
        assert self.process.running, f"Alertmanager ended with {self.process.exit_code}:\n{self.process.log()}"
        try:
            return request(self.port, "GET", "/-/ready").status == 200
        except OSError:
            return False

    def tell(self, alerts: Iterable[Alert]) -> None:
        """What Prometheus does at every evaluation: the alerts that fire, and those that ceased to, with their end."""
        body: list[dict[str, Any]] = []
        for alert in alerts:
            one = {
                "labels": dict(alert.labels),
                "annotations": dict(alert.annotations),
                "startsAt": timestamp(alert.starts_at),
                "generatorURL": alert.generator_url,
            }
            body.append(one if alert.ends_at is None else one | {"endsAt": timestamp(alert.ends_at)})
        headers = {"Content-Type": "application/json"}
        answer = request(self.port, "POST", "/api/v2/alerts", body=json.dumps(body).encode(), headers=headers)
        assert answer.status == 200, answer

    def silence(self, **labels: str) -> str:
        """Silence the alerts with these labels for an hour; the silence's id."""
        now = datetime.now(UTC)
        body = {
            "matchers": [{"name": name, "value": value, "isRegex": False} for name, value in labels.items()],
            "startsAt": timestamp(now), "endsAt": timestamp(now + timedelta(hours=1)), "createdBy": "a test",
            "comment": "a test",
        }  # fmt: skip
        headers = {"Content-Type": "application/json"}
        answer = request(self.port, "POST", "/api/v2/silences", body=json.dumps(body).encode(), headers=headers)
        assert answer.status == 200, answer
        return str(answer.json["silenceID"])

    def end_silence(self, silence: str) -> None:
        answer = request(self.port, "DELETE", f"/api/v2/silence/{silence}")
        assert answer.status == 200, answer
