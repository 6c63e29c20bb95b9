"""Free TCP ports on the loopback interface, chosen at run time."""

from __future__ import annotations

import os
import random
import socket

LOWEST, HIGHEST = 12_000, 32_000
"""Below Linux's ephemeral range: a client that retries a dead port inside that range can connect to itself."""

_chooser = random.Random(f"{os.getpid()} {os.environ.get('PYTEST_XDIST_WORKER', '')}")
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on and that this process has not given out before."""
    for _ in range(1000):
        port = _chooser.randint(LOWEST, HIGHEST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port found")
