"""The Kubernetes sink of a soak: an API server of its own, the objects in it, and what may happen to both."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tests.cluster.servers import WORKER, Servers, lacking
from tests.soak.faults import Kinds, freeze_as_it_writes
from tests.soak.hands import Hands, fences, is_edited
from tests.soak.seen import Gone, Seen, seen_of
from tests.soak.stage import LEASE_S, Stage
from tests.soak.world import NAMESPACES

GROUP: Final = "/apis/remediation.stormfold.io/v1alpha1"
ANSWER_S: Final = 4.0
Manifest = dict[str, Any]


def assets() -> Path:
    """The folder with the control plane's programs, as KUBEBUILDER_ASSETS names it."""
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "absent").resolve()


class Cluster:
    """Used as a context manager; workers have a worker's rights there and no others."""

    kind: Final = "kubernetes"

    def __init__(self, folder: Path) -> None:
        self._servers = Servers(folder / "plane", assets(), controllers=False)
        # They die with the thread that started them, so that is one which lives as long as they are wanted.
        self._starter = ThreadPoolExecutor(1, "servers")
        self._trust = ssl.create_default_context()
        self._trust.check_hostname, self._trust.verify_mode = False, ssl.CERT_NONE
        self._url = ""
        self._environ = patch.dict(os.environ)
        self._seen: dict[str, tuple[str, Seen]] = {}
        self.wrong: list[str] = []
        self._hands = Hands(self.call, self.wrong.append)
        self.settings: Mapping[str, str] = {
            "SINK": "kubernetes", "KUBE_TIMEOUT": f"{LEASE_S - 1:.0f}s", "KUBE_WRITES_PER_SECOND": "200",
        }  # fmt: skip
        self.lanes: Mapping[str, Kinds] = {
            "sink": {
                "API server killed": (2, self._dies),
                "API server frozen": (2, self._hangs),
                "worker frozen as it writes": (3, freeze_as_it_writes),
            },
            "hands": {
                "object deleted by hand": (1, self._hands.delete),
                "object edited by hand": (1, self._hands.edit),
            },
        }

    def __enter__(self) -> Cluster:
        try:
            plane = self._starter.submit(self._servers.start).result()
            self._url = plane.url
            for namespace in NAMESPACES:
                status, answer = self.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
                assert status == 201, answer
            self._environ.start()
            os.environ["KUBECONFIG"] = str(plane.kubeconfig(WORKER))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._environ.stop()
        self._stop()

    def _stop(self) -> None:
        self._starter.submit(self._servers.stop).result()
        self._starter.shutdown()

    def call(
        self, method: str, path: str, body: Manifest | None = None, kind: str = "application/json"
    ) -> tuple[int, Manifest]:
        """The answer to an administrator's request. Raises ``Gone`` where there is none, or the server is not well."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": "Bearer admin", "Content-Type": kind}
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S, context=self._trust) as answer:
                return answer.status, dict(json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            # For some moments after its start the server does not know our kind, or the rights of anybody.
            if error.code in (403, 429) or error.code >= 500 or not text.startswith(b"{"):
                raise Gone(f"{method} {path}: {error.code} {text[:200]!r}") from error
            return error.code, dict(json.loads(text))
        except (OSError, ValueError) as error:
            raise Gone(f"{method} {path}: {error}") from error

    def read(self) -> Mapping[str, Seen]:
        status, answer = self.call("GET", f"{GROUP}/remediationrequests")
        if status != 200:
            raise Gone(f"list: {status} {answer}")
        now = time.time()  # not the time of the write: that is kept in whole seconds
        found = {}
        for rr in answer["items"]:
            metadata = rr["metadata"]
            place, version = f"{metadata['namespace']}/{metadata['name']}", metadata["resourceVersion"]
            known = self._seen.get(place)
            found[place] = known if known and known[0] == version else (version, _seen(rr, now))
        self._seen = found
        return {place: seen for place, (_, seen) in found.items()}

    def removed(self, uid: str) -> bool:
        return uid in self._hands.removed

    @contextlib.contextmanager
    def held(self, *, every: int = 1) -> Iterator[None]:
        """The server is silent, to all. What it was asked meanwhile it does afterwards, though nobody waits for it."""
        self._servers.signal_api(signal.SIGSTOP)
        try:
            yield
        finally:
            self._servers.signal_api(signal.SIGCONT)

    def _dies(self, stage: Stage, chance: random.Random) -> bool:
        self._starter.submit(self._servers.kill_api).result()
        stage.pause(chance.choice((0.0, 2, 5)) * chance.uniform(0.8, 1.2))
        self._starter.submit(self._servers.start_api).result()
        return True

    def _hangs(self, stage: Stage, chance: random.Random) -> bool:
        """At times for longer than a lease lasts."""
        with self.held():
            stage.pause(chance.choice((0.5, 2, LEASE_S + 1)))
        return True


def _seen(rr: Manifest, at: float) -> Seen:
    annotated, observed = fences(rr)
    seen = seen_of(rr, fence=max(annotated, observed), uid=rr["metadata"]["uid"], written_at=at)
    return replace(seen, by_hand=is_edited(rr), half=seen.type == "Storm" and annotated > observed)


def lacks_assets() -> str:
    """What speaks against a soak of this kind here; empty where nothing does."""
    return lacking(assets())
