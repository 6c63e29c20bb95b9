"""A TLS proxy before a real API server, which answers, fails, resets or stays silent as it is told, and remembers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.script import PATIENCE_S, Hush, Line, Pass, Reset, Say, Seen
from tests.cluster.servers import ControlPlane

RETURNED = ("Content-Type", "Retry-After", "Date")
"""The server's headers that a caller may care for."""
WHOLE = Say(200)
"""How everything is answered that is not to be cut or to drip."""


class Proxy(ThreadingHTTPServer):
    """Used as a context manager; ``certificate`` is what it shows, the server's own by default."""

    def __init__(
        self, plane: ControlPlane, certificate: tuple[Path, Path] | None = None, *, plain: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        own = plane.authority
        self.upstream = urlsplit(plane.url).netloc
        self.trust = ssl.create_default_context(cafile=str(own))
        self.certificate, key = certificate or (own, own.with_suffix(".key"))
        self._plain = plain
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, key)
        self._script: list[tuple[str, str, list[Line]]] = []
        self._seen: list[Seen] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"

    def on(self, method: str, piece: str, *lines: Line) -> None:
        """The next requests of this method whose path has the piece get these lines, one each; later ones pass."""
        with self._lock:
            self._script.append((method, piece, list(lines)))

    def forget(self) -> None:
        """Neither a script nor a memory."""
        with self._lock:
            self._script.clear()
            self._seen.clear()

    def seen(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    def briefs(self) -> list[str]:
        return [one.brief for one in self.seen()]

    def left(self) -> int:
        """How many lines of the script nobody has met yet."""
        with self._lock:
            return sum(len(lines) for _, _, lines in self._script)

    def meet(self, request: Seen) -> Line:
        """Notes the request; the line that is for it."""
        with self._lock:
            self._seen.append(request)
            for method, piece, lines in self._script:
                if lines and method == request.method and piece in request.path:
                    return lines.pop(0)
        return Pass()

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # Shaking hands is for the connection's own thread: a caller that breaks it off must not stop the others.
        wrapped = (
            plain if self._plain else self._tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        )
        with self._lock:
            self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        """Closes without a farewell, for a reset is to look like one."""
        with self._lock:
            self._open.discard(request)
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are what this is for."""

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        with self._lock:
            waiting = list(self._open)
        for one in waiting:
            # Its thread waits for a next request.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self._onward = http.client.HTTPSConnection(self.server.upstream, context=self.server.trust, timeout=PATIENCE_S)

    def finish(self) -> None:
        self._onward.close()
        super().finish()

    def handle_one(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else {}
        path = urlsplit(self.path).path
        line = self.server.meet(Seen(self.command, path, body, self.headers.get("Authorization", ""), time.monotonic()))
        match line:
            case Pass():
                self._answer(*self._forward(data))
            case Say():
                if line.forward:
                    self._forward(data)
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": line.status}
                told = json.dumps(status | line.fields).encode() if line.raw is None else line.raw
                self._answer(line.status, line.headers, told, line)
            case Reset():
                if line.forward:
                    self._forward(data)
                self._cut(reset=True)
            case Hush():
                answer = self._forward(data) if line.forward else None
                self.server.closing.wait(line.seconds)
                if answer is None:
                    self._cut(reset=False)
                else:
                    self._answer(*answer)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_one  # noqa: N815

    def log_message(self, *_: object) -> None:
        """What it has seen is asked of it."""

    def _forward(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        kept = {name: self.headers[name] for name in self.headers if name.lower() not in ("host", "connection")}
        self._onward.request(self.command, self.path, data or None, kept)
        answer = self._onward.getresponse()
        headers = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
        return answer.status, headers, answer.read()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, how: Say = WHOLE) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        whole = body[: len(body) - how.cut]
        for piece in [whole] if how.drip_s == 0 else [whole[n : n + 1] for n in range(len(whole))]:
            self.wfile.write(piece)
            self.server.closing.wait(how.drip_s)
        if how.cut:
            self._cut(reset=False)

    def _cut(self, *, reset: bool) -> None:
        if reset:
            # Linger for 0 s: the kernel sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    certificate, key = folder / "stranger.crt", folder / "stranger.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key
