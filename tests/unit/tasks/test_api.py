"""Requests to an API server that behaves badly; a plain HTTP server plays it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, ObjectGone, ObjectRef, SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from tasks.sinks.errors import DefinitionAbsent, SinkInvalid
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.support.contents import STORM_NAME, storm
from tests.support.ports import free_port

REF = ObjectRef("shop", STORM_NAME, "uid-1", "1")


def sink_for(port: int, timeout_s: float = 5.0) -> KubernetesSink:
    configuration = client.Configuration(host=f"http://127.0.0.1:{port}")
    configuration.retries = False
    return KubernetesSink(client.ApiClient(configuration), "stormfold-system", timeout_s)


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """A server that answers everything alike, and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def said(**fields: object) -> bytes:
    return json.dumps({"kind": "Status", **fields}).encode()


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "retry_after_s"),
    [
        (500, said(message="etcdserver: request timed out"), {}, SinkUnavailable, None),
        (500, said(message='.spec.x: field not declared in schema'), {}, SinkRefused, None),
        (503, said(), {}, SinkUnavailable, None),
        (503, said(), {"Retry-After": "7"}, SinkThrottled, 7.0),
        (429, said(), {"Retry-After": "3"}, SinkThrottled, 3.0),
        (429, said(), {}, SinkThrottled, 1.0),
        (429, said(), {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, SinkThrottled, 1.0),
        (504, b"<html>upstream", {}, SinkUnavailable, None),
        (409, said(reason="Conflict", message="quota changed"), {}, SinkUnavailable, None),
        (400, said(), {}, SinkRefused, None),
        (401, said(), {}, SinkRefused, None),
        (403, said(message="exceeded quota"), {}, SinkRefused, None),
        (404, b"404 page not found", {}, DefinitionAbsent, None),
        (413, said(), {}, SinkInvalid, None),
        (422, said(reason="Invalid"), {}, SinkInvalid, None),
        (302, b"", {"Location": "http://127.0.0.1:1/"}, SinkUnavailable, None),
        (200, b"<html>login", {}, SinkUnavailable, None),
    ],
)  # fmt: skip
def test_an_answer_is_taken_for_what_it_is_and_asked_for_once(
    status: int, body: bytes, headers: dict[str, str], kind: type[SinkError], retry_after_s: float | None
) -> None:
    # Given a server that answers so; When a storm is created
    with answering(status, body, headers) as (port, asked):
        sink = sink_for(port)
        with pytest.raises(SinkError) as error:
            sink.put(storm_manifest(storm()), None, Deadline(30))
        sink.close()
    # Then the caller knows what to do, and nothing was sent twice behind its back
    assert type(error.value) is kind
    assert error.value.retry_after_s == retry_after_s
    assert [method for method, _ in asked] == ["POST"]


def test_another_uid_is_another_object() -> None:
    # Given the server's answer to an apply onto an object that was deleted and made again
    body = said(reason="Invalid", details={"causes": [{"field": "metadata.uid", "message": "field is immutable"}]})
    with answering(422, body, {}) as (port, asked):
        sink = sink_for(port)
        # When the old one is updated, Then it is gone
        with pytest.raises(ObjectGone):
            sink.put(storm_manifest(storm()), REF, Deadline(30))
        sink.close()
    assert len(asked) == 1


def test_the_server_is_told_when_to_give_up() -> None:
    # Given 2 s left of a lease; When a storm is created, Then the request carries no more than that
    with answering(503, said(), {}) as (port, asked):
        sink = sink_for(port)
        with pytest.raises(SinkUnavailable):
            sink.put(storm_manifest(storm()), None, Deadline(2))
        sink.close()
    [(_, path)] = asked
    query = parse_qs(urlsplit(path).query)
    assert query["fieldManager"] == ["stormfold"]
    assert 1000 < int(query["timeout"][0].removesuffix("ms")) <= 2000


@pytest.mark.parametrize(("timeout_s", "left_s"), [(0.3, 30.0), (30.0, 0.3)], ids=["its own timeout", "the lease"])
def test_a_server_that_hangs_is_left(timeout_s: float, left_s: float) -> None:
    # Given a server that accepts and never answers
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sink = sink_for(listener.getsockname()[1], timeout_s)
        # When a storm is created, Then it takes no longer than the shorter of both
        started = time.monotonic()
        with pytest.raises(SinkUnavailable):
            sink.put(storm_manifest(storm()), None, Deadline(left_s))
        sink.close()
    assert time.monotonic() - started < 5


def test_a_server_that_is_down_is_unavailable() -> None:
    # Given nobody listens; When a storm is created, Then trying again soon is right
    sink = sink_for(free_port())
    with pytest.raises(SinkUnavailable):
        sink.put(storm_manifest(storm()), None, Deadline(30))
    sink.close()


def test_without_a_way_to_a_server_the_operator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a KUBECONFIG that is not there; When a client is made, Then that is said
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/config")
    with pytest.raises(SinkRefused, match="no way to a Kubernetes API server"):
        connect()
