"""Reading peers over HTTP: one that answers well, and the ways in which one does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tasks.alertmanager import peers
from tasks.alertmanager.peers import peer_of, read_peers

STARTED = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
ALERT = {
    "fingerprint": "d1c89d48d69aefe7",
    "labels": {"alertname": "Down"},
    "startsAt": STARTED,
    "status": {"state": "active", "silencedBy": [], "inhibitedBy": []},
    "receivers": [{"name": "only"}],
}
GOOD = {
    "status": {"uptime": STARTED, "cluster": {"status": "ready"}},
    "receivers": [{"name": "only"}],
    "alerts": [ALERT],
}


class Server(ThreadingHTTPServer):
    """Answers with what a test gives it: an object as JSON, bytes as they are, a number as a status, or never."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = dict(GOOD)
        self.seen: list[tuple[str, str | None]] = []
        self.ended = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen.append((path, self.headers.get("Authorization")))
        answer = self.server.answers[path.rpartition("/")[2]]
        if answer == "never":
            self.server.ended.wait(20)
            return
        if isinstance(answer, int):
            self.send_response(answer)
            self.end_headers()
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that http.server gives it)
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.ended.set()
        made.shutdown()
        thread.join()


def test_a_peer_behind_a_prefix_and_a_password(server: Server) -> None:
    # Given a peer below a path, with user and password in its URL
    peer = peer_of(f"http://user:p%40ss@{server.address}/am")
    # When it is read without a receiver's name
    [found], failures = read_peers([peer], "", 5)
    # Then the only receiver is ours, and neither its name nor what it is called shows the password
    assert failures == {}
    assert found.peer == f"http://{server.address}/am"
    assert "p@ss" not in repr(found.peer)
    assert [(one.alert.fingerprint, one.named, one.active) for one in found.alerts] == [
        ("d1c89d48d69aefe7", True, True)
    ]
    # What it answers was written when this module was read, which may be the whole run ago
    assert 3_590_000 < found.status.uptime_ms < 3_590_000 + 2 * 3_600_000
    assert server.seen == [
        (f"/am/api/v2/{name}", "Basic dXNlcjpwQHNz") for name in ("status", "receivers", "alerts")
    ]  # fmt: skip


def test_a_receiver_that_is_named_is_not_asked_for(server: Server) -> None:
    [found], _ = read_peers([peer_of(f"http://{server.address}")], "another", 5)
    assert [one.named for one in found.alerts] == [False]
    assert [path for path, _ in server.seen] == ["/api/v2/status", "/api/v2/alerts"]


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("alerts", 500, "it answered 500 to /api/v2/alerts"),
        ("status", 401, "it answered 401 to /api/v2/status"),
        ("alerts", 302, "it answered 302 to /api/v2/alerts"),
        ("alerts", {"status": "success"}, "its alerts are no list"),
        ("alerts", b"[{", "JSONDecodeError"),
        ("alerts", b"[" * 100_000, "RecursionError"),
        ("alerts", b"\xff", "UnicodeDecodeError"),
        ("status", {}, "its status says no uptime"),
    ],
)
def test_a_peer_that_answers_wrongly_costs_no_other(server: Server, name: str, answer: Any, reason: str) -> None:
    # Given a peer that answers wrongly beside one that is well
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.answers[name] = answer
        # When both are read
        lists, failures = read_peers([peer_of(f"http://{one.address}") for one in (server, other)], "only", 5)
        other.shutdown()
        thread.join()
    # Then one is read and the other one's reason told
    assert [one.peer for one in lists] == [f"http://{other.address}"]
    assert list(failures) == [f"http://{server.address}"]
    assert failures[f"http://{server.address}"].startswith(reason)


def test_a_peer_that_never_answers_costs_the_deadline_and_no_more(server: Server) -> None:
    server.answers["alerts"] = "never"
    assert read_peers([peer_of(f"http://{server.address}")], "only", 0.3) == (
        [], {f"http://{server.address}": "TimeoutError: timed out"},
    )  # fmt: skip


def test_a_peer_that_is_away_or_says_too_much(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_BODY", 100)
    lists, failures = read_peers([peer_of(f"http://{server.address}"), peer_of("http://127.0.0.1:1")], "only", 5)
    assert lists == []
    assert failures[f"http://{server.address}"] == "its list is longer than 100 bytes"
    assert "refused" in failures["http://127.0.0.1:1"]
