"""RemediationRequests on an API server, request by request: create, read, apply onto the very object, delete, list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tasks.manifests import API_VERSION, GROUP, KIND, MANAGED_BY, MANAGED_BY_LABEL, Manifest
from tasks.sinks.api import Api, Reply, failure
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.errors import ObjectGone, SinkUnavailable
from tasks.sinks.objects import check_name

PLURAL: Final = "remediationrequests"
_APPLY: Final = "application/apply-patch+yaml"
_PAGE: Final = 250
_ATTEMPTS: Final = 4
"""A first try and three more: each conflict means that somebody else did get through."""


class Resource:
    """All of one field manager's requests. Every method raises the tree of ``tasks.sinks.errors``."""

    def __init__(self, api: Api, field_manager: str, only_namespace: str = "") -> None:
        self._api = api
        self._manager = field_manager
        # With one namespace for all, the rights may end there: it is not asked for more.
        self._scope = f"namespaces/{only_namespace}/" if only_namespace else ""

    def post(self, manifest: Manifest, deadline: Deadline) -> Reply:
        """The answer to a create, whatever it is."""
        path = path_of(manifest).rpartition("/")[0]
        return self._api.send("POST", path, deadline, manifest, query={"fieldManager": self._manager})

    def get(self, namespace: str, name: str, deadline: Deadline) -> Manifest | None:
        """The object of that name, None where there is none."""
        path = path_of({"metadata": {"namespace": namespace, "name": name}})
        reply = self._api.send("GET", path, deadline)
        if reply.status == 200 and "metadata" in reply.body:
            return reply.body
        if object_absent(reply):
            return None
        raise failure(reply, f"read {path}")

    def the_very(self, namespace: str, name: str, uid: str, deadline: Deadline) -> Manifest:
        """The object of that name and uid. Raises ``ObjectGone`` where it is absent or another one."""
        existing = self.get(namespace, name, deadline)
        if existing is None:
            raise ObjectGone(f"{namespace}/{name} is gone")
        if existing["metadata"]["uid"] != uid:
            raise ObjectGone(f"{namespace}/{name} is another object now")
        return existing

    def apply(
        self,
        body: Manifest,
        very: tuple[str, str],
        deadline: Deadline,
        meet: Callable[[Manifest], None],
        subresource: str = "",
    ) -> Manifest:
        """Server-side apply onto the object of that uid and resource version; the object as it is then.

        Where it was changed since, ``meet`` is shown what stands there, and raises where that must not be overwritten.
        ``force`` takes over fields of ours only, for we send no others.
        """
        path = path_of(body) + subresource
        uid, version = very
        for _ in range(_ATTEMPTS):
            metadata = body["metadata"] | {"uid": uid, "resourceVersion": version}
            query = {"fieldManager": self._manager, "force": "true"}
            reply = self._api.send("PATCH", path, deadline, body | {"metadata": metadata}, _APPLY, query)
            if reply.status == 200 and "metadata" in reply.body:
                return reply.body
            if reply.status == 422 and reply.has_cause(field="metadata.uid"):
                raise ObjectGone(f"{path} is another object now")
            if object_absent(reply):
                raise ObjectGone(f"{path} is gone")
            if reply.status != 409:
                raise failure(reply, f"apply {path}")
            existing = self.the_very(metadata["namespace"], metadata["name"], uid, deadline)
            meet(existing)
            version = existing["metadata"]["resourceVersion"]
        raise SinkUnavailable(f"{path}: {_ATTEMPTS} conflicts in a row")

    def delete(self, known: ObjectRef, deadline: Deadline) -> bool:
        """Deletes the very object in its very version; False where it is gone or changed."""
        path = path_of({"metadata": {"namespace": known.namespace, "name": known.name}})
        only = {"uid": known.uid, "resourceVersion": known.resource_version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": only}
        reply = self._api.send("DELETE", path, deadline, body)
        if reply.status in (200, 202) and "kind" in reply.body:
            return True
        if reply.status == 409 or object_absent(reply):
            return False
        raise failure(reply, f"delete {path}")

    def pages(self, deadline: Deadline) -> Iterator[list[Manifest]]:
        """All objects of every stormfold, page by page; some may come twice."""
        path = f"/apis/{GROUP}/v1alpha1/{self._scope}{PLURAL}"
        query = {"labelSelector": f"{MANAGED_BY_LABEL}={MANAGED_BY}", "limit": str(_PAGE)}
        token = ""
        while True:
            reply = self._api.send("GET", path, deadline, query=query | ({"continue": token} if token else {}))
            if reply.status == 410 and token:
                token = ""  # the page's snapshot is gone: what came before comes again, which does no harm
                continue
            # A login page, say, is not a cluster without objects.
            if reply.status != 200 or "items" not in reply.body:
                raise failure(reply, f"list {path}")
            # A list leaves these out of its items.
            yield [{"apiVersion": API_VERSION, "kind": KIND} | item for item in reply.body["items"] or []]
            token = str((reply.body.get("metadata") or {}).get("continue", ""))
            if not token:
                return


def ref_of(manifest: Manifest) -> ObjectRef:
    """Which object, in which version."""
    metadata = manifest["metadata"]
    return ObjectRef(metadata["namespace"], metadata["name"], metadata["uid"], metadata["resourceVersion"])


def path_of(manifest: Manifest) -> str:
    """Where the object is on the server. Raises ``SinkRefused`` for names that could lead elsewhere."""
    metadata = manifest["metadata"]
    check_name(metadata["namespace"], "namespace")
    check_name(metadata["name"], "name")
    return f"/apis/{GROUP}/v1alpha1/namespaces/{metadata['namespace']}/{PLURAL}/{metadata['name']}"


def object_absent(reply: Reply) -> bool:
    """A 404 about an object, not about a definition that is not installed."""
    return reply.status == 404 and reply.about == PLURAL


def namespace_absent(reply: Reply) -> bool:
    """Whether a create met no namespace, or one that is being deleted and takes nothing new either."""
    if reply.status == 404 and reply.about == "namespaces":
        return True
    return reply.status == 403 and reply.has_cause(reason="NamespaceTerminating")
