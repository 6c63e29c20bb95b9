"""Questions to a Kubernetes API server that change nothing: reachable, definition, rights, a create that is tried."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import yaml
from kubernetes import client

from tasks.manifests import API_VERSION, GROUP, INSTALLATION_LABEL, KIND, MANAGED_BY, MANAGED_BY_LABEL, Manifest
from tasks.sinks.api import Api, failure
from tasks.sinks.base import Deadline
from tasks.sinks.errors import SinkError
from tasks.sinks.objects import FIELD_MANAGER, installation_of

PLURAL: Final = "remediationrequests"
RIGHTS: Final = (
    ("list", ""), ("get", ""), ("create", ""), ("patch", ""), ("patch", "status"), ("delete", ""),
)  # fmt: skip
"""Verb and subresource of every request that the sink makes for our kind."""


@dataclass(frozen=True, slots=True)
class Version:
    """The server's version, and by how many ms its clock is ahead of ours."""

    text: str
    ahead_ms: int | None


def packaged_schema() -> Manifest:
    """The schema of the definition that belongs to this version of stormfold."""
    text = (files("tasks") / "crd.yaml").read_text(encoding="utf-8")
    versions: list[Manifest] = yaml.safe_load(text)["spec"]["versions"]
    schema: Manifest = versions[0]["schema"]["openAPIV3Schema"]
    return schema


def lacking(wanted: Any, served: Any, path: str = "") -> Iterator[str]:
    """The fields that one schema declares and the other does not; a server refuses every update that has one."""
    wanted_fields, served_fields = _fields(wanted), _fields(served)
    for name, schema in wanted_fields.items():
        here = f"{path}.{name}" if path else name
        if name not in served_fields:
            yield here
        else:
            yield from lacking(schema, served_fields[name], here)
    if "items" in wanted and "items" in served:
        yield from lacking(wanted["items"], served["items"], f"{path}[]")


def _fields(schema: Manifest) -> Manifest:
    found: Manifest = schema.get("properties") or {}
    return found


class Probe:
    """One server, asked with the rights of whoever runs this. Every method raises the ``SinkError`` tree."""

    def __init__(self, api_client: client.ApiClient, timeout_s: float) -> None:
        self._api = Api(api_client, timeout_s)
        self._deadline = Deadline(10 * timeout_s)

    def close(self) -> None:
        self._api.close()

    def version(self) -> Version:
        began = time.time()
        reply = self._api.send("GET", "/version", self._deadline)
        if reply.status != 200:
            raise failure(reply, "GET /version")
        # The server's clock is read somewhere within the request, and told in whole seconds.
        middle_ms = int((began + time.time()) * 500)
        ahead = None if reply.date_ms is None else reply.date_ms + 500 - middle_ms
        return Version(str(reply.body.get("gitVersion", "")), ahead)

    def served(self) -> bool:
        """Whether the server knows our kind."""
        path = f"/apis/{API_VERSION}"
        reply = self._api.send("GET", path, self._deadline)
        if reply.status not in (200, 404):
            raise failure(reply, f"GET {path}")
        names = {str(one.get("name")) for one in reply.body.get("resources") or []}
        return reply.status == 200 and {PLURAL, f"{PLURAL}/status"} <= names

    def served_schema(self) -> Manifest | None:
        """The schema of our kind as the server publishes it, None where it publishes none (before Kubernetes 1.27)."""
        path = f"/openapi/v3/apis/{API_VERSION}"
        reply = self._api.send("GET", path, self._deadline)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise failure(reply, f"GET {path}")
        schemas = (reply.body.get("components") or {}).get("schemas") or {}
        for schema in schemas.values():
            of = schema.get("x-kubernetes-group-version-kind") or [{}]
            if (of[0].get("group"), of[0].get("kind")) == (GROUP, KIND):
                found: Manifest = schema
                return found
        return None

    def allowed(self, verb: str, subresource: str, namespace: str) -> bool:
        """Whether we may, in one namespace or ('') in all."""
        attributes = {"group": GROUP, "resource": PLURAL, "verb": verb} | (
            {"subresource": subresource} if subresource else {}
        )
        return self._may(attributes, namespace)

    def may_tell(self, namespace: str) -> bool:
        """Whether we may create Events, in one namespace or ('') in all."""
        return self._may({"group": "events.k8s.io", "resource": "events", "verb": "create"}, namespace)

    def _may(self, attributes: dict[str, str], namespace: str) -> bool:
        spec = {"resourceAttributes": attributes | ({"namespace": namespace} if namespace else {})}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        reply = self._api.send("POST", path, self._deadline, body)
        if reply.status != 201:
            raise failure(reply, "ask for our rights")
        return bool((reply.body.get("status") or {}).get("allowed"))

    def others(self, installation: str, namespace: str) -> dict[str, int]:
        """Other installations with open objects, and how many of the first 500, in one namespace or ('') in all."""
        where = f"namespaces/{namespace}/" if namespace else ""
        path = f"/apis/{API_VERSION}/{where}{PLURAL}"
        selector = f"{MANAGED_BY_LABEL}={MANAGED_BY},{INSTALLATION_LABEL}!={installation}"
        reply = self._api.send("GET", path, self._deadline, query={"labelSelector": selector, "limit": "500"})
        if reply.status != 200:
            raise failure(reply, f"list {path}")
        found: Counter[str] = Counter()
        for item in reply.body.get("items") or []:
            name = installation_of(item)
            if name != installation and (item.get("status") or {}).get("phase", "Active") == "Active":
                found[name] += 1
        return dict(found)

    def try_create(self, manifest: Manifest) -> SinkError | None:
        """What a create would meet: an absent namespace, a quota, somebody's admission webhook. Nothing is kept."""
        path = f"/apis/{API_VERSION}/namespaces/{manifest['metadata']['namespace']}/{PLURAL}"
        query = {"dryRun": "All", "fieldManager": FIELD_MANAGER}
        reply = self._api.send("POST", path, self._deadline, manifest, query=query)
        return None if reply.status == 201 else failure(reply, "try to create")
