"""Reading what Alertmanagers list, all at once and within one deadline."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tasks.alertmanager.listing import BadAnswer, PeerList, read_list, read_status, sole_receiver

MAX_BODY: Final = 128 * 1024 * 1024
_CHUNK: Final = 256 * 1024
_ALERTS: Final = "/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true"


class PeerError(Exception):
    """A peer could not be read, for this reason."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an Alertmanager is. ``name`` is its URL without user and password: fit for logs and metrics."""

    name: str
    secure: bool
    host: str
    port: int | None
    path: str
    authorization: str


def peer_of(url: str) -> Peer:
    """The peer of a URL with http or https."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    name = f"{parts.scheme}://{netloc}{parts.path}"
    return Peer(name, parts.scheme == "https", parts.hostname or "", parts.port, parts.path, authorization)


def read_peers(peers: Sequence[Peer], receiver: str, timeout_s: float) -> tuple[list[PeerList], dict[str, str]]:
    """(the lists of the peers that answered in time, why each of the others did not)."""
    pool = ThreadPoolExecutor(max(1, min(16, len(peers))), thread_name_prefix="alertmanager")
    end = time.monotonic() + timeout_s
    try:
        reads = {pool.submit(_read, peer, receiver, end): peer for peer in peers}
        # A little more than the deadline of the sockets: a name that does not resolve knows none.
        done, late = wait(reads, timeout_s + 0.5)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    lists: list[PeerList] = []
    failures = {reads[future].name: "it did not answer in time" for future in late}
    for future in done:
        error = future.exception()
        if error is None:
            lists.append(future.result())
        elif isinstance(error, PeerError | BadAnswer):
            failures[reads[future].name] = str(error)
        else:
            raise error
    return sorted(lists, key=lambda one: one.peer), failures


def _read(peer: Peer, receiver: str, end: float) -> PeerList:
    """One peer's list. The status comes first: a restart between the two shows at the next poll."""
    try:
        raw, now_ms = get_json(peer, "/api/v2/status", end)
        status = read_status(raw, now_ms)
        if not receiver:
            receiver = sole_receiver(get_json(peer, "/api/v2/receivers", end)[0])
        raw, now_ms = get_json(peer, _ALERTS, end)
        return read_list(peer.name, status, raw, now_ms, receiver)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise PeerError(f"{type(error).__name__}: {error}") from error


def get_json(peer: Peer, path: str, end: float) -> tuple[Any, int]:
    """(the JSON of an answer, the time of the answer by the peer's own clock). ``end`` is in monotonic time.

    Raises ``PeerError``, and OSError, HTTPException or ValueError of what lies below.
    """
    make = HTTPSConnection if peer.secure else HTTPConnection
    connection = make(peer.host, peer.port, timeout=_remaining(end))
    try:
        headers = {"Accept": "application/json"} | ({"Authorization": peer.authorization} if peer.authorization else {})
        connection.request("GET", peer.path + path, headers=headers)
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise PeerError(f"it answered {answer.status} to {path.partition('?')[0]}")
        return json.loads(_body(connection, answer, end)), _clock(answer)
    finally:
        connection.close()


def _body(connection: HTTPConnection, answer: HTTPResponse, end: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if connection.sock is not None:
            connection.sock.settimeout(_remaining(end))
        part = answer.read1(_CHUNK)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > MAX_BODY:
            raise PeerError(f"its list is longer than {MAX_BODY} bytes")
        parts.append(part)


def _clock(answer: HTTPResponse) -> int:
    moment = parsedate_to_datetime(answer.headers.get("Date", ""))
    return int(moment.timestamp() * 1000)


def _remaining(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("out of time")
    return left
