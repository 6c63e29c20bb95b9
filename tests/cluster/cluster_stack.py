"""stormfold as in production, small, writing into a real cluster as an installation of its own."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.manifests import INSTALLATION_LABEL
from tests.cluster.servers import ControlPlane
from tests.support import objects
from tests.support.processes import Process
from tests.support.stack import Stack
from tests.support.steps import Steps
from tests.support.waiting import wait_until
from tests.support.webhook import Answer


class ClusterStack(Stack):
    """Under KUBECONFIG's rights. A request has less time than a short lease, and the budget makes nothing wait."""

    def __init__(
        self, plane: ControlPlane, folder: Path, settings: Mapping[str, str] | None = None, *, workers: int = 2
    ) -> None:
        self.plane = plane
        self.selector = f"{INSTALLATION_LABEL}=cells-{uuid.uuid4().hex[:12]}"
        own = {
            "SINK": "kubernetes", "FIELD_MANAGER": self.selector.partition("=")[2], "KUBE_TIMEOUT": "1s",
            "KUBE_WRITES_PER_SECOND": "1000",
        }  # fmt: skip
        super().__init__(folder, dict(settings or {}) | own, workers=workers)
        self.watch = Watch(plane, self.selector, folder)
        self._namespaces: set[str] = set()
        self._creating = threading.Lock()

    def __enter__(self) -> ClusterStack:
        self.watch.start()
        super().__enter__()
        return self

    def close(self) -> None:
        super().close()
        self.watch.close()

    def post_raw(self, body: bytes) -> Answer:
        """Makes the namespaces of the alerts first, as they are there before anything in them fails."""
        self._create({alert["labels"]["namespace"] for alert in json.loads(body)["alerts"]})
        return super().post_raw(body)

    def _create(self, namespaces: set[str]) -> None:
        with self._creating:
            for name in sorted(namespaces - self._namespaces):
                self.plane.kubectl("create", "namespace", name)
                self._namespaces.add(name)

    def all_objects(self) -> list[dict[str, Any]]:
        text = self.plane.kubectl("get", "rr", "--all-namespaces", "--selector", self.selector, "-o", "json")
        found = [objects.checked(rr) for rr in json.loads(text)["items"]]
        found.sort(key=lambda rr: (rr["metadata"]["namespace"], rr["metadata"]["name"]))
        return found


class ClusterSteps(Steps):
    """Orders to the processes of such a stack; what they wrote is told by the cluster."""

    stack: ClusterStack

    def journal(self, key: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
        standing = {objects.identity(rr["metadata"]) for rr in self.stack.objects(key)}

        def complete() -> bool:
            return standing <= {objects.identity(line["metadata"]) for line in self.stack.watch.lines()}

        wait_until(complete, "the watch to have shown what stands", deadline_s=10)
        return [line for line in self.stack.watch.lines() if line["key"] == dict(key)]


class Watch:
    """Every version of every object of an installation, in the order in which the server stored them.

    Whoever wrote it, and whatever became of the writer: no note that a process makes of its own writes can tell that.
    """

    def __init__(self, plane: ControlPlane, selector: str, folder: Path) -> None:
        command = [
            f"{plane.assets}/kubectl", f"--kubeconfig={plane.kubeconfig()}", "get", "rr", "--all-namespaces",
            "--selector", selector, "--watch", "--output-watch-events", "-o", "json",
        ]  # fmt: skip
        self._process = Process("watch", command, environ={"KUBECACHEDIR": f"{folder}/kubectl-cache"}, folder=folder)
        self._read = 0
        self._lines: list[dict[str, Any]] = []

    def start(self) -> None:
        self._process.start()

    def close(self) -> None:
        self._process.kill()

    def lines(self) -> Sequence[Mapping[str, Any]]:
        """In the form of a journal; an object that was deleted shows in its last version once more."""
        assert self._process.running, self._process.log()[-2000:]
        log = self._process.log()
        while (told := _next(log, self._read)) is not None:
            event, self._read = told
            self._lines.append(_line(event["object"]))
        return self._lines


def _line(rr: objects.RR) -> dict[str, Any]:
    spec = rr["spec"]
    return {"metadata": rr["metadata"], "status": rr.get("status", {}), "type": spec["type"], "key": spec["stormKey"]}


def _next(text: str, start: int) -> tuple[dict[str, Any], int] | None:
    """The next whole JSON value of a text, and where it ends; None where none is whole yet."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, len(text) - len(text[start:].lstrip()))
    except json.JSONDecodeError:
        return None
    return value, end
