"""A sink that writes RemediationRequests to a Kubernetes API server: POST creates, server-side apply updates."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client

from tasks.events import Event
from tasks.manifests import ORIGIN_NAMESPACE_LABEL, STORM_ID_LABEL, TYPE_LABEL, Manifest
from tasks.sinks.api import Api, connect, failure
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.edits import Edit, edits, with_edits
from tasks.sinks.errors import SinkError, SinkUnavailable
from tasks.sinks.gate import Gate, OpenGate
from tasks.sinks.notices import post_event
from tasks.sinks.objects import (
    FIELD_MANAGER,
    check_name,
    keep_transition_times,
    needs_update,
    refuse_if_newer,
    signed,
)
from tasks.sinks.resource import Resource, namespace_absent, path_of, ref_of

__all__ = ["KubernetesSink", "connect"]


class KubernetesSink:
    """Writes with uid **and** resourceVersion: the latter alone would create an object that is gone."""

    def __init__(
        self,
        api_client: client.ApiClient,
        fallback_namespace: str,
        timeout_s: float,
        only_namespace: str = "",
        gate: Gate | None = None,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        check_name(fallback_namespace, "fallback namespace")
        self._gate = gate or OpenGate()
        self._manager = field_manager
        self._api = Api(api_client, timeout_s)
        self._resource = Resource(self._api, field_manager, only_namespace)
        self._fallback = fallback_namespace

    @property
    def installation(self) -> str:
        return self._manager

    def put(self, manifest: Manifest, known: ObjectRef | None, deadline: Deadline) -> ObjectRef:
        manifest = signed(manifest, self._manager)
        with self._through_gate(2, deadline, urgent=_is_storm(manifest), storm_id=_storm_id(manifest)):
            write = _Write(self._resource, self._manager, self._fallback, manifest, deadline)
            # A POST drops the status, and an apply leaves it alone: it always takes a second request.
            return write.status(write.create() if known is None else write.update(known))

    def put_status(self, manifest: Manifest, known: ObjectRef, deadline: Deadline, *, queue: bool = True) -> ObjectRef:
        # Read first: the conditions that stand there tell since when, and consumers may have moved the version.
        storm_id = _storm_id(manifest) if queue else ""
        with self._through_gate(1, deadline, urgent=_is_storm(manifest), storm_id=storm_id):
            write = _Write(self._resource, self._manager, self._fallback, manifest, deadline, status_only=True)
            return write.status(write.meet_the_very(known))

    def announce(self, about: ObjectRef, event: Event, deadline: Deadline, storm_id: str = "") -> None:
        self._gate.enter(1, urgent=False, deadline=deadline, storm_id=storm_id)
        with self._told_to_gate(1, minor=True):
            post_event(self._api, self._manager, about, event, deadline)

    def delete(self, known: ObjectRef, deadline: Deadline) -> bool:
        with self._through_gate(1, deadline):
            return self._resource.delete(known, deadline)

    def owned(self, deadline: Deadline) -> Iterator[tuple[ObjectRef, Manifest]]:
        pages = self._resource.pages(deadline)
        while True:
            with self._told_to_gate(0):
                page = next(pages, None)
            if page is None:
                return
            for manifest in page:
                yield ref_of(manifest), manifest

    def close(self) -> None:
        self._api.close()

    @contextmanager
    def _through_gate(
        self, writes: int, deadline: Deadline, *, urgent: bool = False, storm_id: str = ""
    ) -> Iterator[None]:
        self._gate.enter(writes, urgent=urgent, deadline=deadline, storm_id=storm_id)
        with self._told_to_gate(writes):
            yield

    @contextmanager
    def _told_to_gate(self, writes: int, *, minor: bool = False) -> Iterator[None]:
        before = self._api.writes
        try:
            yield
        except SinkError as error:
            self._gate.leave(error, self._api.writes - before - writes, minor=minor)
            raise
        self._gate.leave(None, self._api.writes - before - writes)


class _Write:
    """One object being written: what was met on the way decides what its status says of it."""

    def __init__(
        self,
        resource: Resource,
        manager: str,
        fallback: str,
        manifest: Manifest,
        deadline: Deadline,
        *,
        status_only: bool = False,
    ) -> None:
        self._resource = resource
        self._manager = manager
        self._fallback = fallback
        self._manifest = manifest
        self._deadline = deadline
        self._status_only = status_only
        self._edits: list[Edit] = []

    def create(self) -> Manifest:
        """Creates it, in the fallback where its namespace is none; or takes over what stands under its name."""
        manifest = self._manifest
        reply = self._resource.post(manifest, self._deadline)
        if namespace_absent(reply) and manifest["metadata"]["namespace"] != self._fallback:
            manifest = _moved(manifest, self._fallback)
            reply = self._resource.post(manifest, self._deadline)
        if reply.status == 201 and "metadata" in reply.body:
            return reply.body
        if reply.status == 409 and reply.reason == "AlreadyExists":
            return self._take_over(manifest)
        raise failure(reply, f"create {path_of(manifest)}")

    def update(self, known: ObjectRef) -> Manifest:
        """Writes metadata and spec onto the very object."""
        return self._apply(_moved(self._manifest, known.namespace), known.uid, known.resource_version)

    def meet_the_very(self, known: ObjectRef) -> Manifest:
        """The object as it stands, where our status may be written onto it."""
        existing = self._resource.the_very(known.namespace, known.name, known.uid, self._deadline)
        self._meet(existing)
        if self._manifest["spec"].get("type") == "Single" and any(edit.of_metadata for edit in self._edits):
            return self._take_back_metadata(existing)
        return existing

    def _take_back_metadata(self, existing: Manifest) -> Manifest:
        """Labels and annotations of ours alone: what a Single is about nobody can have edited."""
        found, ours = existing["metadata"], signed(self._manifest, self._manager)["metadata"]
        body = {
            "apiVersion": self._manifest["apiVersion"],
            "kind": self._manifest["kind"],
            "metadata": {
                "name": found["name"],
                "namespace": found["namespace"],
                "labels": ours["labels"],
                "annotations": ours["annotations"],
            },
        }
        self._status_only = False
        return self._resource.apply(body, (found["uid"], found["resourceVersion"]), self._deadline, self._meet)

    def status(self, written: Manifest) -> ObjectRef:
        """Writes the status onto the object as it was just written or read."""
        metadata, previous = written["metadata"], written.get("status") or {}
        status = with_edits(self._manifest["status"], self._edits, previous, status_only=self._status_only)
        body = {
            "apiVersion": self._manifest["apiVersion"],
            "kind": self._manifest["kind"],
            "metadata": {key: metadata[key] for key in ("name", "namespace")},
            "status": keep_transition_times(status, previous),
        }
        very = (metadata["uid"], metadata["resourceVersion"])
        return ref_of(self._resource.apply(body, very, self._deadline, self._meet, "/status"))

    def _take_over(self, manifest: Manifest) -> Manifest:
        """The name is taken: by us, when the answer to the create was lost, or by an earlier holder of the lease."""
        metadata = manifest["metadata"]
        existing = self._resource.get(metadata["namespace"], metadata["name"], self._deadline)
        if existing is None:
            raise SinkUnavailable(f"{path_of(manifest)} was there and is gone again")
        update = needs_update(existing, manifest)
        self._edits += edits(existing, self._manager)
        if not update:
            return existing
        found = existing["metadata"]
        return self._apply(manifest, found["uid"], found["resourceVersion"])

    def _apply(self, manifest: Manifest, uid: str, version: str) -> Manifest:
        body = {key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        return self._resource.apply(body, (uid, version), self._deadline, self._meet)

    def _meet(self, existing: Manifest) -> None:
        refuse_if_newer(existing, self._manifest)
        known = {edit.manager for edit in self._edits}
        self._edits += [edit for edit in edits(existing, self._manager) if edit.manager not in known]


def _is_storm(manifest: Manifest) -> bool:
    return str(manifest["metadata"]["labels"].get(TYPE_LABEL)) == "Storm"


def _storm_id(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"].get(STORM_ID_LABEL, ""))


def _moved(manifest: Manifest, namespace: str) -> Manifest:
    """The same object in another namespace, labelled with where it belongs."""
    origin = manifest["metadata"]["namespace"]
    if origin == namespace:
        return manifest
    moved = copy.copy(manifest)
    labels = manifest["metadata"]["labels"] | {ORIGIN_NAMESPACE_LABEL: origin}
    moved["metadata"] = manifest["metadata"] | {"namespace": namespace, "labels": labels}
    return moved
