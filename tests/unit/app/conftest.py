"""The web process with a store that a test can look into, and that fails when told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.alerts import Alert
from app.entries import make_entries, unpack
from app.metrics import Metrics
from app.notify import Notifier
from app.services import Services
from app.settings import load
from app.web import create_app
from lua_scripts.audit import Audited
from lua_scripts.budget import Health
from lua_scripts.due import DueCounts
from lua_scripts.errors import StoreError
from lua_scripts.inbox import Depth, LetterCounts
from lua_scripts.polls import PollReport
from lua_scripts.records import Accepted, DeadLetter, Ledger, MemberRecord, NewEntry, StormRecord


@dataclass
class FakeStore:
    """Keeps what it is given."""

    failure: StoreError | None = None
    fails_from_call: int = 0
    wake: bool = True
    calls: list[tuple[int, Sequence[NewEntry], Sequence[DeadLetter], int]] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    storms: list[StormRecord] = field(default_factory=list)
    following: str | None = None
    records: list[MemberRecord] = field(default_factory=list)
    asked: list[tuple[object, ...]] = field(default_factory=list)
    polls: PollReport | None = None
    unkept: int = 0
    growths: list[int] = field(default_factory=list)
    warnings: Sequence[str] = ()
    letters: LetterCounts = field(default_factory=LetterCounts)
    audit: Audited = field(default_factory=lambda: Audited(0, 0, 0))
    beats: Mapping[str, int] = field(default_factory=dict)
    kube: Health = field(default_factory=Health)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def accept(
        self, shard: int, entries: Sequence[NewEntry], dead: Sequence[DeadLetter], ignored: int, unkept: int
    ) -> Accepted:
        if len(self.calls) >= self.fails_from_call:
            self._fail()
        self.calls.append((shard, entries, dead, ignored))
        self.unkept += unkept
        return Accepted(received_ms=1, wake=self.wake)

    def check_admission(self) -> None:
        if not self.fails_from_call:
            self._fail()

    def admit(self, growth: int) -> None:
        self.growths.append(growth)

    def check_ready(self) -> Sequence[str]:
        self._fail()
        return self.warnings

    def ask_poll(self) -> None:
        self._fail()
        self.asked.append(("poll",))

    def poll_report(self) -> PollReport | None:
        self._fail()
        return self.polls

    def totals(self) -> Ledger:
        self._fail()
        return self.ledger

    def depth(self) -> Depth:
        self._fail()
        return Depth(2, 1)

    def letter_counts(self) -> LetterCounts:
        self._fail()
        return self.letters

    def audited(self) -> Audited:
        self._fail()
        return self.audit

    def last_beats(self) -> Mapping[str, int]:
        self._fail()
        return self.beats

    def rival_objects(self) -> int:
        return 2

    def kube_health(self) -> Health:
        self._fail()
        return self.kube

    def due_counts(self) -> DueCounts:
        self._fail()
        return DueCounts(open=3, due=1, overdue_ms=1500)

    def page(self, cursor: str | None, limit: int) -> tuple[list[StormRecord], str | None]:
        self._fail()
        self.asked.append(("page", cursor, limit))
        if cursor == "9.9":
            raise ValueError("not ours")
        return self.storms, self.following

    def find(self, name: str) -> StormRecord | None:
        self._fail()
        return next((storm for storm in self.storms if storm.name == name), None)

    def members(self, storm_id: str, cursor: str | None, limit: int) -> tuple[list[MemberRecord], str | None]:
        self._fail()
        self.asked.append(("members", storm_id, cursor, limit))
        return self.records, self.following

    @property
    def alerts(self) -> list[Alert]:
        """Every alert in the entries that were stored."""
        return [alert for _, entries, _, _ in self.calls for new in entries for alert in unpack(new.payload).alerts]

    @property
    def dead(self) -> list[DeadLetter]:
        return [letter for _, _, dead, _ in self.calls for letter in dead]

    @property
    def ignored(self) -> int:
        return sum(call[3] for call in self.calls)


@dataclass
class Web:
    """A client of the app, its store, and the shards that were woken."""

    client: FlaskClient
    store: FakeStore
    services: Services
    woken: list[int]

    def post(self, body: object, **headers: str) -> Any:
        """Post a webhook: bytes as they are, anything else as JSON."""
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        path = "/api/v1/signals/prometheus"
        if isinstance(body, bytes):
            return self.client.post(path, data=body, headers=sent)
        return self.client.post(path, json=body, headers=sent)


MakeWeb = Callable[..., Web]


@pytest.fixture
def make_web() -> Iterator[MakeWeb]:
    """Makes the web process with the settings given by their names without prefix."""
    notifiers: list[Notifier] = []

    def make(**settings: str) -> Web:
        store = FakeStore()
        woken: list[int] = []
        notifier = Notifier(woken.append)
        notifiers.append(notifier)
        loaded = load({f"STORMFOLD_{name}": text for name, text in settings.items()})
        services = Services(loaded, store, notifier, make_entries, Metrics(store, notifier))
        return Web(create_app(services=services).test_client(), store, services, woken)

    yield make
    for notifier in notifiers:
        notifier.close()


@pytest.fixture
def web(make_web: MakeWeb) -> Web:
    return make_web()


@pytest.fixture
def raw_alert() -> dict[str, Any]:
    """One good alert as Alertmanager sends it; a test spoils its own copy."""
    return {
        "status": "firing",
        "labels": {"alertname": "A", "namespace": "shop", "pod": "cart-1"},
        "annotations": {"summary": "it is bad"},
        "startsAt": "2026-11-21T19:56:09.858332194Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "d1c89d48d69aefe7",
    }
