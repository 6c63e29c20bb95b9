"""Senders that behave like Alertmanagers: whole groups on every change, and again until somebody says 202."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final

from app.cli.payloads import HEADERS
from tests.soak.book import Book
from tests.soak.world import Delivery, Group, make_groups

PATH: Final = "/api/v1/signals/prometheus"
ANSWER_S: Final = 15.0
GIVE_UP_S: Final = 10.0
"""How long one flush is tried; the next one tells what is the case by then."""
LAST_WORD_S: Final = 120.0
LAST_CHANGES: Final = 2
CLAIMED_AFTER_S: Final = 0.7
"""By then what changed last is due, claimed and on its way to the sink."""
ROUND_S: Final = 2 * LAST_WORD_S
DEBT_S: Final = 5.0
"""How far a sender that was held up runs after its pace."""
WATCHDOG: Final = (
    b'{"version":"4","status":"firing","receiver":"stormfold","groupLabels":{},"commonLabels":{},'
    b'"commonAnnotations":{},"externalURL":"","groupKey":"{}:{}","truncatedAlerts":0,"alerts":[{"status":"firing",'
    b'"labels":{"alertname":"Watchdog"},"annotations":{},"startsAt":"2025-01-01T00:00:00Z",'
    b'"endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"0000000000000001"}]}'
)


class Sender:
    """A cluster with one Alertmanager or a pair of them that see the same alerts."""

    def __init__(self, number: int, peers: int, chance: random.Random) -> None:
        self.number = number
        self.peers = peers
        self.groups = make_groups(number, peers, chance)
        self._lock = threading.Lock()

    def flush(self, peer: int, chance: random.Random) -> Delivery | None:
        """Time passes for one group, and one Alertmanager looks at it."""
        weights = [4 if group.kind == "storm" else 1 for group in self.groups]
        with self._lock:
            [group] = chance.choices(self.groups, weights)
            group.change(time.time_ns() // 1_000_000)
            return group.deliver(peer)

    def last_word(self, group: Group, peer: int, *, change: bool) -> Delivery | None:
        with self._lock:
            if change:
                group.rests_until_ms = 0
                group.change(time.time_ns() // 1_000_000)
            return group.deliver(peer)

    def accepted(self, delivery: Delivery) -> None:
        with self._lock:
            delivery.group.accepted(delivery)


class Peer(threading.Thread):
    """One Alertmanager: a connection, a pace, and patience."""

    def __init__(self, sender: Sender, number: int, ports: Sequence[int], rate: float, book: Book, seed: float) -> None:
        super().__init__(name=f"sender-{sender.number}-{number}", daemon=True)
        self._sender = sender
        self._number = number
        self._ports = ports
        self._at = (sender.number + number) % len(ports)
        self._rate = rate
        self._book = book
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._rounds: threading.Barrier | None = None
        self._connection: http.client.HTTPConnection | None = None

    def finish(self, rounds: threading.Barrier) -> None:
        """Ends the load; what comes then begins and ends together with all others."""
        self._rounds = rounds
        self._over.set()

    def run(self) -> None:
        begun = time.monotonic()
        sent = 0.0
        while not self._over.is_set():
            if self._chance.random() < 0.02:
                self._watchdog()
            delivery = self._sender.flush(self._number, self._chance)
            if delivery is None:
                self._over.wait(0.01)
                continue
            if self._deliver(delivery, GIVE_UP_S) and self._chance.random() < 0.1:
                # The answer got lost on its way, says the sender, and posts it again.
                self._deliver(delivery, GIVE_UP_S, repeat=True)
            sent += len(delivery.said) / self._rate
            ahead = begun + sent - time.monotonic()
            begun = max(begun, begun - ahead - DEBT_S)
            self._over.wait(max(0.0, ahead))
        assert self._rounds is not None
        for _ in range(LAST_CHANGES):
            self._rounds.wait(ROUND_S)
            if self._number == 0:
                self._tell([group for group in self._sender.groups if group.kind == "storm"], change=True)
            self._rounds.wait(ROUND_S)
        self._tell(self._sender.groups, change=False)

    def _tell(self, groups: Sequence[Group], *, change: bool) -> None:
        """Delivers them, however long that takes."""
        for group in groups:
            delivery = self._sender.last_word(group, self._number, change=change)
            if delivery and not self._deliver(delivery, LAST_WORD_S, patient=True):
                self._book.wrong(f"{self.name}: the last word on {dict(group.key)} was refused for {LAST_WORD_S:g} s")

    def _watchdog(self) -> None:
        answer = self._post(WATCHDOG, 1)
        if answer is not None:
            self._book.ignored(answer["ignored"])

    def _deliver(self, delivery: Delivery, give_up_s: float, *, repeat: bool = False, patient: bool = False) -> bool:
        """Tries one body until it is accepted or given up."""
        end = time.monotonic() + give_up_s
        pause = 0.2
        while True:
            answer = self._post(delivery.body, len(delivery.said))
            if answer is not None:
                self._book.accepted(delivery, time.time(), repeat=repeat)
                self._sender.accepted(delivery)
                return True
            if time.monotonic() > end or (self._over.is_set() and not patient):
                return False
            time.sleep(pause * self._chance.uniform(0.5, 1.5))
            pause = min(2.0, pause * 1.5)

    def _post(self, body: bytes, alerts: int) -> dict[str, int] | None:
        """The answer's counts, None where there was no 202."""
        self._book.attempt(alerts)
        begun = time.monotonic()
        try:
            if self._connection is None:
                port = self._ports[self._at]
                self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
            self._connection.request("POST", PATH, body, HEADERS)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            # The load balancer in front of two web processes tries the other one next.
            self._close()
            self._at = (self._at + 1) % len(self._ports)
            self._book.unanswered()
            return None
        self._book.answered(time.monotonic() - begun)
        return self._judge(response, text, alerts)

    def _judge(self, response: http.client.HTTPResponse, text: bytes, alerts: int) -> dict[str, int] | None:
        content = json.loads(text)
        if response.status == 202:
            if content["accepted"] + content["ignored"] != alerts or content["deadLettered"]:
                self._book.wrong(f"{self.name}: {alerts} alerts posted, answered {content}")
            return dict(content)
        if response.status == 503 and response.getheader("Retry-After"):
            self._book.refused(str(content["type"]).rpartition(":")[2])
            self._at = (self._at + 1) % len(self._ports)
            self._close()
            return None
        self._book.wrong(f"{self.name}: answered {response.status} {dict(response.getheaders())}: {text[:500]!r}")
        return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Load:
    """All senders: two pairs and two alone, of one pace together."""

    def __init__(self, ports: Sequence[int], rate: float, seed: int, book: Book) -> None:
        chance = random.Random(f"load {seed}")
        senders = [Sender(number, 2 - number % 2, chance) for number in range(4)]
        book.groups = [group for sender in senders for group in sender.groups]
        peers = [(sender, number) for sender in senders for number in range(sender.peers)]
        self._peers = [
            Peer(sender, number, ports, rate / len(peers), book, chance.random()) for sender, number in peers
        ]

    def start(self) -> None:
        for peer in self._peers:
            peer.start()

    @property
    def running(self) -> bool:
        return all(peer.is_alive() for peer in self._peers)

    def finish(self, sink_held: AbstractContextManager[None]) -> None:
        """Returns when every sender has had its last word accepted.

        Before that large groups change twice more while the sink is held up. So storms are being written as they
        change, and no later change mends what is forgotten of this one.
        """
        rounds = threading.Barrier(len(self._peers) + 1)
        for peer in self._peers:
            peer.finish(rounds)
        with sink_held:
            for turn in range(LAST_CHANGES):
                if turn:
                    time.sleep(CLAIMED_AFTER_S)
                rounds.wait(ROUND_S)
                rounds.wait(ROUND_S)
        for peer in self._peers:
            peer.join(LAST_WORD_S * 2)
            assert not peer.is_alive(), f"{peer.name} does not end"
