"""The alerts of one test: names and namespace of its own, so that tests share a stack without meeting."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

from tests.support.webhook import Alert, at

_numbers = itertools.count(1)


def new_scene(title: str = "t") -> Scene:
    """A scene that no other test of this run, in this process or another, has."""
    return Scene(f"{title}-{os.getpid():x}-{next(_numbers)}")


@dataclass(frozen=True, slots=True)
class Scene:
    """A namespace and a way to name alerts in it."""

    tag: str

    @property
    def namespace(self) -> str:
        return f"shop-{self.tag}"

    def name(self, kind: str) -> str:
        """The alertname of a kind of alert."""
        return f"{kind}-{self.tag}"

    def key(self, kind: str = "PodCrashLooping") -> dict[str, str]:
        """The storm key under the default GROUP_BY."""
        return {"cluster": "lab", "namespace": self.namespace, "alertname": self.name(kind)}

    def pod_alert(
        self,
        pod: str,
        kind: str = "PodCrashLooping",
        *,
        container: str = "app",
        severity: str = "critical",
        starts: float = 0,
        ends: float | None = None,
    ) -> Alert:
        """An alert about a pod, with the labels that kube-prometheus gives it."""
        labels = {
            "alertname": self.name(kind), "cluster": "lab", "namespace": self.namespace, "pod": pod,
            "container": container, "job": "kube-state-metrics", "severity": severity,
        }  # fmt: skip
        annotations = {
            "summary": f"{pod} ({container}) needs attention",
            "runbook_url": f"https://runbooks.example.com/{kind.lower()}",
        }
        return Alert(labels, at(starts), annotations, None if ends is None else at(ends))

    def pods(self, count: int, kind: str = "PodCrashLooping", *, first: int = 0, starts: float = 0) -> list[Alert]:
        """Alerts about ``count`` pods, one each; the names sort as the numbers do."""
        return [self.pod_alert(f"web-{number:05d}", kind, starts=starts) for number in range(first, first + count)]
