"""Where RemediationRequests are written: a directory of manifests or a Kubernetes API server."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tasks.sinks.base import Deadline, ObjectRef, Sink
from tasks.sinks.errors import NewerFence, NotYet, ObjectGone, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from tasks.sinks.gate import Gate

__all__ = [
    "Deadline",
    "NewerFence",
    "NotYet",
    "ObjectGone",
    "ObjectRef",
    "Sink",
    "SinkError",
    "SinkRefused",
    "SinkThrottled",
    "SinkUnavailable",
    "open_sink",
]


class SinkSettings(Protocol):
    """What a sink needs of the settings."""

    @property
    def sink(self) -> str: ...
    @property
    def fallback_namespace(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def kube_timeout(self) -> int: ...
    @property
    def field_manager(self) -> str: ...


def open_sink(settings: SinkSettings, gate: Gate | None = None) -> Sink:
    """The sink that the settings name; one per process, for it holds connections that a fork must not share.

    Writes to Kubernetes pass the gate, where there is one.
    """
    kind, _, path = settings.sink.partition(":")
    if kind == "directory" and path:
        from tasks.sinks.directory import DirectorySink

        return DirectorySink(Path(path), settings.field_manager)
    if settings.sink == "kubernetes":
        # Imported here: the client costs 0.3 s and 43 MiB, which a run with a directory need not pay.
        from tasks.sinks.kubernetes import KubernetesSink, connect

        timeout_s = settings.kube_timeout / 1000
        return KubernetesSink(
            connect(), settings.fallback_namespace, timeout_s, settings.namespace, gate, settings.field_manager
        )
    raise SinkRefused(f"no such sink: {settings.sink!r} (directory:PATH or kubernetes)")
