"""Kubernetes Events about RemediationRequests: what `kubectl describe` shows below the object."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Final

from tasks.events import Event
from tasks.manifests import API_VERSION, GROUP, KIND
from tasks.sinks.api import Api, failure
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.errors import DefinitionAbsent, SinkRefused
from tasks.sinks.objects import check_name

_INSTANCE_MAX: Final = 128


def post_event(api: Api, manager: str, about: ObjectRef, event: Event, deadline: Deadline) -> None:
    """Creates it, once: its name says what is told of which object. Raises the tree of ``tasks.sinks.errors``."""
    check_name(about.namespace, "namespace")
    path = f"/apis/events.k8s.io/v1/namespaces/{about.namespace}/events"
    reply = api.send("POST", path, deadline, _body(manager, about, event), query={"fieldManager": manager})
    told = reply.status == 201 and "metadata" in reply.body
    if not told and not (reply.status == 409 and reply.reason == "AlreadyExists"):
        error = failure(reply, f"tell {event.reason} of {about.namespace}/{about.name}")
        # Where Events are not known at all, our own kind may be all the same.
        raise SinkRefused(str(error)) if isinstance(error, DefinitionAbsent) else error


def _body(manager: str, about: ObjectRef, event: Event) -> dict[str, object]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": about.namespace, "name": f"{about.name}.{about.uid[:8]}.{event.key}"},
        "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": f"{GROUP}/{manager}",
        "reportingInstance": socket.gethostname()[:_INSTANCE_MAX] or manager,
        "action": "Aggregate",
        "reason": event.reason,
        "type": event.kind,
        "note": event.note,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        },
    }
