"""An HTTP client that is not the bottleneck: requests made beforehand, connections that stay open, one thread."""

from __future__ import annotations

import gc
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

TIMEOUT_S = 60.0


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    begun: float = 0.0
    received: bytes = b""


@dataclass(frozen=True, slots=True)
class Sent:
    """When the first request went out and the last answer came in (perf_counter), and how long each answer took."""

    begun: float
    ended: float
    latencies_s: Sequence[float]


def post_all(port: int, path: str, bodies: Sequence[bytes], *, connections: int, expected: int) -> Sent:
    """Posts the bodies, each connection one after the other. ``RuntimeError`` for any answer but ``expected``."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        pool = []
        for _ in range(min(connections, len(requests))):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pool.append(_Connection(sock))
            selector.register(sock, selectors.EVENT_READ, pool[-1])
        gc.collect()
        gc.disable()
        try:
            return _run(selector, pool, requests, expected)
        finally:
            gc.enable()


def _run(
    selector: selectors.BaseSelector, pool: Sequence[_Connection], requests: Sequence[bytes], expected: int
) -> Sent:
    latencies: list[float] = []
    waiting = iter(requests)
    begun = time.perf_counter()
    for connection, request in zip(pool, waiting, strict=False):
        _send(connection, request)
    while len(latencies) < len(requests):
        ready = selector.select(TIMEOUT_S)
        if not ready:
            raise RuntimeError(f"no answer within {TIMEOUT_S:g} s")
        for key, _ in ready:
            connection = key.data
            if not _answered(connection, expected):
                continue
            latencies.append(time.perf_counter() - connection.begun)
            if (following := next(waiting, None)) is not None:
                _send(connection, following)
    return Sent(begun, time.perf_counter(), latencies)


def _send(connection: _Connection, request: bytes) -> None:
    connection.begun = time.perf_counter()
    connection.sock.sendall(request)


def _answered(connection: _Connection, expected: int) -> bool:
    """Whether the whole answer is in."""
    chunk = connection.sock.recv(65536)
    if not chunk:
        raise RuntimeError("the server closed a connection that was to stay open")
    connection.received += chunk
    head, separator, body = connection.received.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if len(body) < length:
        return False
    status = int(head.split(b" ", 2)[1])
    if status != expected:
        raise RuntimeError(f"answered {status} instead of {expected}: {body[:300]!r}")
    connection.received = b""
    return True
