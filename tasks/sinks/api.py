"""One request to a Kubernetes API server: bounded in time, not repeated but for a 401, its answer as plain values."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import urllib3
import urllib3.exceptions
from kubernetes import client, config

from tasks.sinks.access import Access, connect
from tasks.sinks.base import Deadline
from tasks.sinks.errors import DefinitionAbsent, SinkError, SinkInvalid, SinkRefused, SinkThrottled, SinkUnavailable

__all__ = ["Api", "Reply", "connect", "failure"]

_SHORTEST_S: Final = 0.05
_PIECE_BYTES: Final = 1 << 18
_DEFAULT_PATIENCE_S: Final = 1.0
_LONGEST_PATIENCE_S: Final = 60.0
"""All workers rest for what is asked for: whoever asks for a day (or for ever) is asked again after a minute."""
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
        return str(self._details.get("kind", ""))

    def has_cause(self, *, field: str = "", reason: str = "") -> bool:
        """Whether one of the causes is about the field, or has the reason."""
        causes = self._details.get("causes")
        return any(
            (not field or cause.get("field") == field) and (not reason or cause.get("reason") == reason)
            for cause in (causes if isinstance(causes, list) else [])
            if isinstance(cause, dict)
        )

    @property
    def _details(self) -> dict[str, Any]:
        # Whatever stands before the server may answer in JSON of its own.
        details = self.body.get("details")
        return details if isinstance(details, dict) else {}


class _Untrusted(SinkRefused):
    """The certificate of whoever answers is not trusted, so nothing was sent."""


class Api:
    """Requests with the credentials of one client, which are read again where the server does not know them."""

    def __init__(self, api_client: client.ApiClient, timeout_s: float) -> None:
        self._client: Any = api_client
        self._timeout_s = timeout_s
        self._renewal = threading.Lock()
        self.writes = 0
        """Requests sent that were to change something."""

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
        """Send and read the whole answer; raises only where there is none.

        It is sent once; but for what fresh credentials may mend and what was surely not done.
        """
        used = self._client
        try:
            reply = self._send(used, method, path, deadline, body, content_type, query)
            if reply.status != 401 or not isinstance(used, Access):
                return reply
            refusal: SinkError = failure(reply, f"{method} {path}")
        except _Untrusted as error:
            if not isinstance(used, Access):
                raise
            refusal = error
        self._renew(used, refusal)
        reply = self._send(self._client, method, path, deadline, body, content_type, query)
        if reply.status == 401:
            raise SinkRefused(f"{failure(reply, f'{method} {path}')} (put valid credentials into {used.source})")
        return reply

    def _renew(self, used: Access, refusal: SinkError) -> None:
        """Tokens are rotated in their files, and kubeconfigs are written anew: both are read again."""
        with self._renewal:
            if self._client is not used:
                return  # another thread met the same
            try:
                self._client = used.renewed()
            except SinkRefused as error:
                raise SinkRefused(f"{refusal}, and reading {used.source} again: {error}") from error
            used.close()

    def _send(
        self,
        api_client: Any,
        method: str,
        path: str,
        deadline: Deadline,
        body: Mapping[str, Any] | None,
        content_type: str,
        query: Mapping[str, str] | None,
    ) -> Reply:
        seconds = min(self._timeout_s, deadline.remaining())
        if seconds < _SHORTEST_S:
            raise SinkUnavailable(f"{method} {path}: no time is left of the lease")
        until = time.monotonic() + seconds
        # The server is to give up as well: a request that waits in its queue must not land after the lease.
        query = {**(query or {}), "timeout": f"{int(seconds * 1000)}ms"}
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = api_client.param_serialize(
                method, path, query_params=list(query.items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            self.writes += method != "GET"
            response = api_client.call_api(*request, _request_timeout=seconds)
            data = _read(response.response, until)
        except client.ApiException as error:
            # The client's own wrapper of TLS errors. A certificate that is not trusted will not be so a second later.
            kind = _Untrusted if "CERTIFICATE_VERIFY_FAILED" in str(error) else SinkUnavailable
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


def _read(response: urllib3.HTTPResponse, until: float) -> bytes:
    """The whole body. The client's timeout is for each silence: one that drips would take any number of them."""
    pieces = []
    while piece := response.read1(_PIECE_BYTES):
        if time.monotonic() > until:
            response.close()
            raise TimeoutError("the answer is too slow in coming")
        pieces.append(piece)
    return b"".join(pieces)


def _json(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        # A proxy's page, say, or a path that the server does not have: the status code still tells what to do.
        return {"message": data[:200].decode(errors="replace").strip()}
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
        seconds = float(header)
    except ValueError:
        return _DEFAULT_PATIENCE_S
    return min(max(0.0, seconds), _LONGEST_PATIENCE_S)
