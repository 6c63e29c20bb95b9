"""One request to a Kubernetes API server: bounded in time, never repeated, its answer as plain values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import urllib3.exceptions
from kubernetes import client, config

from tasks.sinks.base import Deadline
from tasks.sinks.errors import DefinitionAbsent, SinkError, SinkInvalid, SinkRefused, SinkThrottled, SinkUnavailable

_SHORTEST_S: Final = 0.05
_DEFAULT_PATIENCE_S: Final = 1.0
_OLDER_SCHEMA: Final = "field not declared in schema"
_TOO_LARGE: Final = ("request is too large", "message larger than max")
"""What a 500 says although sending it again will not help: the definition is older than we are, or etcd's limit."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said; ``body`` is the object, or the Status that tells why not."""

    status: int
    body: dict[str, Any]
    retry_after_s: float | None
    date_ms: int | None = None
    """The server's clock, where it tells; in whole seconds."""

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))[:500]

    @property
    def about(self) -> str:
        """The resource that the Status is about, e.g. ``namespaces``."""
        return str((self.body.get("details") or {}).get("kind", ""))

    def has_cause(self, *, field: str = "", reason: str = "") -> bool:
        """Whether one of the causes is about the field, or has the reason."""
        causes = (self.body.get("details") or {}).get("causes") or []
        return any(
            (not field or cause.get("field") == field) and (not reason or cause.get("reason") == reason)
            for cause in causes
        )


def connect() -> client.ApiClient:
    """A client for where KUBECONFIG points, else for the cluster that this process runs in, else the usual file."""
    configuration = client.Configuration()
    loaders: Any = config  # the client's own annotations are partial
    in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")
    try:
        if in_cluster:
            loaders.load_incluster_config(client_configuration=configuration)
        else:
            # Given by hand: the client looks at KUBECONFIG when it is imported, and never again.
            loaders.load_kube_config(os.environ.get("KUBECONFIG") or None, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        raise SinkRefused(f"no way to a Kubernetes API server: {error}") from error
    # A repeated request could land after the lease: only the caller knows whether there is time for another.
    configuration.retries = False
    return client.ApiClient(configuration)


class Api:
    """Requests with the credentials of one client."""

    def __init__(self, api_client: client.ApiClient, timeout_s: float) -> None:
        self._client: Any = api_client
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send once and read the whole answer; raises only where there is none."""
        seconds = min(self._timeout_s, deadline.remaining())
        if seconds < _SHORTEST_S:
            raise SinkUnavailable(f"{method} {path}: no time is left of the lease")
        # The server is to give up as well: a request that waits in its queue must not land after the lease.
        query = {**(query or {}), "timeout": f"{int(seconds * 1000)}ms"}
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = self._client.param_serialize(
                method, path, query_params=list(query.items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = self._client.call_api(*request, _request_timeout=seconds)
            data = response.read()
        except client.ApiException as error:
            # The client's own wrapper of TLS errors. A certificate that is not trusted will not be so a second later.
            kind = SinkRefused if "CERTIFICATE_VERIFY_FAILED" in str(error) else SinkUnavailable
            raise kind(f"{method} {path}: {error.reason}") from error
        except (urllib3.exceptions.HTTPError, config.ConfigException, OSError) as error:
            raise SinkUnavailable(f"{method} {path}: {error}") from error
        headers = response.headers
        return Reply(response.status, _json(data), _seconds(headers.get("Retry-After")), _date_ms(headers.get("Date")))


def failure(reply: Reply, what: str) -> SinkError:
    """The error that an answer stands for, where the caller has no better use for it."""
    text = f"{what}: {reply.status} {reply.reason} {reply.message}".rstrip()
    if reply.status == 429 or (reply.status == 503 and reply.retry_after_s is not None):
        return SinkThrottled(text, _DEFAULT_PATIENCE_S if reply.retry_after_s is None else reply.retry_after_s)
    if reply.status >= 500:
        if any(words in reply.message for words in _TOO_LARGE):
            return SinkInvalid(text)
        return SinkRefused(text) if _OLDER_SCHEMA in reply.message else SinkUnavailable(text, reply.retry_after_s)
    if reply.status in (413, 422):
        return SinkInvalid(text)
    if reply.status in (408, 409) or reply.status < 400:
        return SinkUnavailable(text, reply.retry_after_s)
    if reply.status == 404 and not reply.about:
        return DefinitionAbsent(f"{text} (is the definition in docker/kubernetes/crd.yaml installed?)")
    return SinkRefused(text, reply.retry_after_s)


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(data or b"")
    except ValueError:
        # A proxy's page, say, or a path that the server does not have: the status code still tells what to do.
        return {"message": (data or b"")[:200].decode(errors="replace").strip()}
    return body if isinstance(body, dict) else {}


def _date_ms(header: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(header or "").timestamp() * 1000)
    except ValueError:
        return None


def _seconds(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        return _DEFAULT_PATIENCE_S
