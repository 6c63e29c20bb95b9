"""`stormfold simulate` against a small HTTP server that records what it gets."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from app.cli.processes import free_port


@dataclass
class Receiver:
    """What was posted, and what is answered."""

    url: str = ""
    status: int = 202
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def alerts(self) -> list[dict[str, Any]]:
        return [alert for body in self.bodies for alert in body["alerts"]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                received.paths.append(self.path)
                received.headers.append(dict(self.headers))
                received.bodies.append(body)
            count = len(body["alerts"])
            answer = json.dumps({"deliveryId": "x", "accepted": count, "ignored": 0, "deadLettered": 0}).encode()
            self.send_response(received.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def simulate(receiver: Receiver, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["simulate", "--url", receiver.url, "--seed", "1", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_storms_arrive_whole(receiver: Receiver) -> None:
    # When three storms of 25 are posted, ten alerts a request, everything twice, then resolved
    arguments = ["--alerts", "25", "--storms", "3", "--per-request", "10", "--duplicates", "1"]
    status, output = simulate(receiver, *arguments, "--resolve", "--token", "s3cret")

    # Then every alert came twice firing and once resolved, in requests of 10, 10 and 5
    assert status == 0, output
    seen = Counter((alert["fingerprint"], alert["status"]) for alert in receiver.alerts())
    assert Counter(seen.values()) == {2: 75, 1: 75}
    assert {state: sum(1 for _, s in seen if s == state) for state in ("firing", "resolved")} == {
        "firing": 75,
        "resolved": 75,
    }
    assert Counter(len(body["alerts"]) for body in receiver.bodies) == {10: 18, 5: 9}
    assert len({body["groupKey"] for body in receiver.bodies}) == 3
    # and it went where Alertmanager posts, as Alertmanager does
    assert set(receiver.paths) == {"/api/v1/signals/prometheus"}
    assert {(h["Authorization"], h["Content-Type"]) for h in receiver.headers} == {
        ("Bearer s3cret", "application/json")
    }
    # and the summary says so
    assert "225" in output
    assert "answers 202" in output


def test_refusals_are_counted_and_end_in_status_1(receiver: Receiver) -> None:
    # Given a receiver that is overloaded
    receiver.status = 503

    # When
    status, output = simulate(receiver, "--alerts", "20", "--per-request", "10")

    # Then
    assert status == 1
    assert "answers 503" in output
    assert len(receiver.bodies) == 2


def test_nobody_there_is_said_so() -> None:
    # Given a port where nobody listens
    nobody = Receiver(url=f"http://127.0.0.1:{free_port('127.0.0.1', 0)}")

    # When
    status, output = simulate(nobody, "--alerts", "5")

    # Then
    assert status == 1
    assert "no answer" in output


def test_a_rate_spreads_the_requests(receiver: Receiver) -> None:
    # When 30 alerts are posted one by one at 100 a second
    status, output = simulate(receiver, "--alerts", "30", "--per-request", "1", "--rate", "100")

    # Then it cannot have taken less than the last one's time
    took = float(next(line for line in output.splitlines() if "took" in line).split("│")[2].split()[0])
    assert status == 0
    assert took >= 0.29


@pytest.mark.parametrize("url", ["ftp://x", "http://"])
def test_a_url_that_is_none_is_a_usage_error(url: str) -> None:
    done = CliRunner().invoke(main, ["simulate", "--url", url])

    assert done.exit_code == 2
    assert "is no http URL" in done.output
