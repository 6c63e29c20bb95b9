"""A sink that writes RemediationRequests to a Kubernetes API server: POST creates, server-side apply updates."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kubernetes import client

from tasks.manifests import (
    API_VERSION,
    GROUP,
    KIND,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    ORIGIN_NAMESPACE_LABEL,
    TYPE_LABEL,
    Manifest,
)
from tasks.sinks.api import Api, Reply, connect, failure
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.errors import ObjectGone, SinkError, SinkUnavailable
from tasks.sinks.gate import Gate, OpenGate
from tasks.sinks.objects import (
    FIELD_MANAGER,
    check_name,
    keep_transition_times,
    needs_update,
    refuse_if_newer,
    signed,
)

__all__ = ["KubernetesSink", "connect"]

PLURAL: Final = "remediationrequests"
_APPLY: Final = "application/apply-patch+yaml"
_PAGE: Final = 250
_ATTEMPTS: Final = 4
"""A first try and three more: each conflict means that somebody else did get through."""


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
        self._manager = field_manager
        self._gate = gate or OpenGate()
        check_name(fallback_namespace, "fallback namespace")
        # With one namespace for all, the rights may end there: it is not asked for more.
        self._scope = f"namespaces/{only_namespace}/" if only_namespace else ""
        self._api = Api(api_client, timeout_s)
        self._fallback = fallback_namespace

    @property
    def installation(self) -> str:
        return self._manager

    def put(self, manifest: Manifest, known: ObjectRef | None, deadline: Deadline) -> ObjectRef:
        manifest = signed(manifest, self._manager)
        with self._through_gate(2, _is_storm(manifest), deadline):
            if known is None:
                written = self._create(manifest, deadline)
            else:
                moved = _moved(manifest, known.namespace)
                written = self._update(moved, known.uid, known.resource_version, deadline)
            # A POST drops the status, and an apply leaves it alone: it always takes a second request.
            return self._apply_status(manifest, written, deadline)

    def put_status(self, manifest: Manifest, known: ObjectRef, deadline: Deadline) -> ObjectRef:
        # Read first: the conditions that stand there tell since when, and consumers may have moved the version.
        with self._through_gate(1, _is_storm(manifest), deadline):
            existing = self._the_very(known.namespace, known.name, known.uid, deadline)
            refuse_if_newer(existing, manifest)
            return self._apply_status(manifest, existing, deadline)

    def delete(self, known: ObjectRef, deadline: Deadline) -> bool:
        path = _path({"metadata": {"namespace": known.namespace, "name": known.name}})
        only = {"uid": known.uid, "resourceVersion": known.resource_version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": only}
        with self._through_gate(1, False, deadline):
            reply = self._api.send("DELETE", path, deadline, body)
            if reply.status in (200, 202):
                return True
            if reply.status == 409 or _object_absent(reply):
                return False
            raise failure(reply, f"delete {path}")

    @contextmanager
    def _through_gate(self, writes: int, urgent: bool, deadline: Deadline) -> Iterator[None]:
        self._gate.enter(writes, urgent=urgent, deadline=deadline)
        try:
            yield
        except SinkError as error:
            self._gate.leave(error)
            raise
        self._gate.leave(None)

    def owned(self, deadline: Deadline) -> Iterator[tuple[ObjectRef, Manifest]]:
        path = f"/apis/{GROUP}/v1alpha1/{self._scope}{PLURAL}"
        query = {"labelSelector": f"{MANAGED_BY_LABEL}={MANAGED_BY}", "limit": str(_PAGE)}
        token = ""
        while True:
            reply = self._api.send("GET", path, deadline, query=query | ({"continue": token} if token else {}))
            if reply.status == 410 and token:
                token = ""  # the page's snapshot is gone: what came before comes again, which does no harm
                continue
            if reply.status != 200:
                error = failure(reply, f"list {path}")
                self._gate.leave(error)
                raise error
            self._gate.leave(None)
            for item in reply.body.get("items") or []:
                # A list leaves these out of its items.
                manifest = {"apiVersion": API_VERSION, "kind": KIND} | item
                yield _ref(manifest), manifest
            token = str((reply.body.get("metadata") or {}).get("continue", ""))
            if not token:
                return

    def close(self) -> None:
        self._api.close()

    def _create(self, manifest: Manifest, deadline: Deadline) -> Manifest:
        namespace = manifest["metadata"]["namespace"]
        reply = self._post(manifest, deadline)
        if _namespace_absent(reply) and namespace != self._fallback:
            manifest = _moved(manifest, self._fallback)
            reply = self._post(manifest, deadline)
        if reply.status == 201:
            return reply.body
        if reply.status == 409 and reply.reason == "AlreadyExists":
            return self._take_over(manifest, deadline)
        raise failure(reply, f"create {_path(manifest)}")

    def _post(self, manifest: Manifest, deadline: Deadline) -> Reply:
        path = _path(manifest).rpartition("/")[0]
        return self._api.send("POST", path, deadline, manifest, query={"fieldManager": self._manager})

    def _take_over(self, manifest: Manifest, deadline: Deadline) -> Manifest:
        """The name is taken: by us, when the answer to the create was lost, or by an earlier holder of the lease."""
        metadata = manifest["metadata"]
        existing = self._get(metadata["namespace"], metadata["name"], deadline)
        if existing is None:
            raise SinkUnavailable(f"{_path(manifest)} was there and is gone again")
        if not needs_update(existing, manifest):
            return existing
        found = existing["metadata"]
        return self._update(manifest, found["uid"], found["resourceVersion"], deadline)

    def _update(self, manifest: Manifest, uid: str, version: str, deadline: Deadline) -> Manifest:
        body = {key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        return self._apply(body, manifest, uid, version, "", deadline)

    def _apply_status(self, manifest: Manifest, written: Manifest, deadline: Deadline) -> ObjectRef:
        metadata = written["metadata"]
        name = {key: metadata[key] for key in ("name", "namespace")}
        status = keep_transition_times(manifest["status"], written.get("status") or {})
        body = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": name, "status": status}
        answer = self._apply(body, manifest, metadata["uid"], metadata["resourceVersion"], "/status", deadline)
        return _ref(answer)

    def _apply(
        self, body: Manifest, manifest: Manifest, uid: str, version: str, subresource: str, deadline: Deadline
    ) -> Manifest:
        """Server-side apply onto the very object. ``force`` takes over fields of ours only, for we send no others."""
        path = _path(body) + subresource
        for _ in range(_ATTEMPTS):
            metadata = body["metadata"] | {"uid": uid, "resourceVersion": version}
            query = {"fieldManager": self._manager, "force": "true"}
            reply = self._api.send("PATCH", path, deadline, body | {"metadata": metadata}, _APPLY, query)
            if reply.status == 200 and "metadata" in reply.body:
                return reply.body
            if reply.status == 422 and reply.has_cause(field="metadata.uid"):
                raise ObjectGone(f"{path} is another object now")
            if _object_absent(reply):
                raise ObjectGone(f"{path} is gone")
            if reply.status != 409:
                raise failure(reply, f"apply {path}")
            existing = self._the_very(metadata["namespace"], metadata["name"], uid, deadline)
            refuse_if_newer(existing, manifest)
            version = existing["metadata"]["resourceVersion"]
        raise SinkUnavailable(f"{path}: {_ATTEMPTS} conflicts in a row")

    def _the_very(self, namespace: str, name: str, uid: str, deadline: Deadline) -> Manifest:
        existing = self._get(namespace, name, deadline)
        if existing is None:
            raise ObjectGone(f"{namespace}/{name} is gone")
        if existing["metadata"]["uid"] != uid:
            raise ObjectGone(f"{namespace}/{name} is another object now")
        return existing

    def _get(self, namespace: str, name: str, deadline: Deadline) -> Manifest | None:
        path = _path({"metadata": {"namespace": namespace, "name": name}})
        reply = self._api.send("GET", path, deadline)
        if reply.status == 200 and "metadata" in reply.body:
            return reply.body
        if _object_absent(reply):
            return None
        raise failure(reply, f"read {path}")


def _ref(manifest: Manifest) -> ObjectRef:
    metadata = manifest["metadata"]
    return ObjectRef(metadata["namespace"], metadata["name"], metadata["uid"], metadata["resourceVersion"])


def _path(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    check_name(metadata["namespace"], "namespace")
    check_name(metadata["name"], "name")
    return f"/apis/{GROUP}/v1alpha1/namespaces/{metadata['namespace']}/{PLURAL}/{metadata['name']}"


def _is_storm(manifest: Manifest) -> bool:
    return str(manifest["metadata"]["labels"].get(TYPE_LABEL)) == "Storm"


def _moved(manifest: Manifest, namespace: str) -> Manifest:
    """The same object in another namespace, labelled with where it belongs."""
    origin = manifest["metadata"]["namespace"]
    if origin == namespace:
        return manifest
    moved = copy.copy(manifest)
    labels = manifest["metadata"]["labels"] | {ORIGIN_NAMESPACE_LABEL: origin}
    moved["metadata"] = manifest["metadata"] | {"namespace": namespace, "labels": labels}
    return moved


def _namespace_absent(reply: Reply) -> bool:
    """A namespace that is being deleted takes nothing new either."""
    if reply.status == 404 and reply.about == "namespaces":
        return True
    return reply.status == 403 and reply.has_cause(reason="NamespaceTerminating")


def _object_absent(reply: Reply) -> bool:
    """A 404 about an object, not about a definition that is not installed."""
    return reply.status == 404 and reply.about == PLURAL
