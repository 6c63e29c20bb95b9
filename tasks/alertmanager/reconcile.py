"""One poll of all Alertmanagers: feed what fires and no storm holds, presume resolved what nobody lists any more."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import structlog

from app.alerts import Alert
from app.entries import entries_of, make_entries
from app.settings import Settings
from lua_scripts.inbox import Inbox
from lua_scripts.keys import shard_of
from lua_scripts.memory import Memory
from lua_scripts.polls import Polls
from lua_scripts.presence import Absences, Presence
from lua_scripts.records import NewEntry, Rules, StormRecord
from lua_scripts.storms import Storms
from tasks.alertmanager.decide import absent, concern, presume, presumed_resolve, silenced_members, to_feed, to_refresh
from tasks.alertmanager.listing import Listing, overlay
from tasks.alertmanager.peers import peer_of, read_peers

READ_S: Final = 10.0
MAX_FED: Final = 20_000
"""Alerts fed by one poll; the next one feeds the rest."""
ENTRIES_A_CALL: Final = 16
BEHIND_MS: Final = 30_000
"""With an entry in the inbox that is this old the storms are not up to date: comparing waits."""
FULL: Final = 0.8
"""The share of Redis's memory beyond which nothing is fed: Alertmanager keeps it, and draining needs the room."""
PAGE: Final = 100

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Compared:
    """What one poll found and did."""

    peers: int = 0
    complete: bool = False
    listed: int = 0
    fed: int = 0
    presumed: int = 0
    silenced: int = 0
    refreshed: int = 0
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Doors:
    """What a poll works with in Redis, and how a shard's drain is asked for."""

    inbox: Inbox
    storms: Storms
    presence: Presence
    polls: Polls
    memory: Callable[[], Memory]
    wake: Callable[[int], None]


class AlertReconciler:
    """All state is in Redis; a poll that is done twice feeds nothing twice that ingest would not tell to be known."""

    def __init__(self, settings: Settings, rules: Rules, doors: Doors) -> None:
        self._settings = settings
        self._rules = rules
        self._doors = doors
        self._peers = [peer_of(url) for url in settings.alertmanager_url]

    def poll(self, *, counting: bool, asked: int, refresh: bool) -> Compared:
        """Reads and compares. Only a ``counting`` poll presumes; an ``asked`` one feeds what has only just begun too.

        ``refresh``: what is listed and held is told once more. Raises ``StoreError``.
        """
        compared = Compared()
        oldest = self._doors.inbox.depth().oldest_ms
        if oldest and self._doors.presence.now_ms() - oldest > BEHIND_MS:
            compared.skipped = "the inbox is behind"
            return compared
        listing = self._read(compared)
        held_up = self._compare(listing, compared, counting=counting, asked=asked, refresh=refresh)
        if asked and compared.peers == len(self._peers) and not held_up:
            self._doors.polls.answer(asked)
        return compared

    def _read(self, compared: Compared) -> Listing:
        lists, failures = read_peers(self._peers, self._settings.alertmanager_receiver, READ_S)
        polls = self._doors.polls
        polls.keep_only(peer.name for peer in self._peers)
        for one in lists:
            if polls.answered_by(one.peer, self._doors.presence.now_ms()):
                log.info("Alertmanager answers again", peer=one.peer)
        for name, reason in sorted(failures.items()):
            if polls.failed_by(name):
                log.warning("Alertmanager cannot be read; nothing is presumed until it can", peer=name, reason=reason)
        listing = overlay(lists, len(self._peers), self._settings.reconcile_peer_uptime)
        compared.peers, compared.complete, compared.listed = len(lists), listing.complete, len(listing.present)
        return listing

    def _compare(self, listing: Listing, compared: Compared, *, counting: bool, asked: int, refresh: bool) -> bool:
        """Whether something that is to be fed has to wait for another poll."""
        settings, doors = self._settings, self._doors
        wanted = concern(listing, settings.group_by, settings.ignore, settings.alertmanager_receiver)
        held = doors.presence.held(wanted.fingerprints())
        feed = to_feed(
            wanted, held, doors.presence.now_ms(), start_grace_ms=0 if asked else settings.reconcile_grace,
            resolve_grace_ms=settings.reconcile_grace,
        )  # fmt: skip
        held_up = self._feed(feed, compared)
        room = MAX_FED if refresh and not held_up else 0
        number = doors.polls.begin(complete=listing.complete) if counting else 0
        silenced = silenced_members(wanted, held)
        compared.silenced = sum(len(names) for names in silenced.values())
        cursor: str | None = None
        while True:
            page, cursor = doors.storms.page(cursor, PAGE)
            for storm in page:
                self._note_silenced(storm, silenced.get(storm.storm_id, frozenset()), listing.complete)
            if counting and listing.complete:
                self._presume(page, listing, number, compared)
            if room > 0 and (repeated := to_refresh(wanted, held, page)[:room]):
                room -= len(repeated)
                self._accept(chain.from_iterable(make_entries(uuid.uuid4().hex, repeated, settings).values()))
                compared.refreshed += len(repeated)
            if cursor is None:
                return held_up

    def _note_silenced(self, storm: StormRecord, names: frozenset[str], complete: bool) -> None:
        presence = self._doors.presence
        count, before = len(names), storm.silenced or 0
        began = ended = frozenset[str]()
        if storm.phase == "GATHERING" and (count or before):
            marked = presence.silenced_singles(storm.storm_id)
            began, ended = names - marked, marked - names
        # A peer that is away or has forgotten its alerts is no reason to say that fewer are silenced.
        if not complete:
            ended = frozenset()
        news = count != before and (complete or count > before)
        if news or began or ended:
            presence.note_silenced(storm.storm_id, count if news else None, self._rules, began, ended)

    def _feed(self, alerts: Sequence[Alert], compared: Compared) -> bool:
        if not alerts:
            return False
        memory = self._doors.memory()
        if memory.limit and memory.used > memory.limit * FULL:
            compared.skipped = "Redis is nearly full"
            return True
        entries = make_entries(uuid.uuid4().hex, alerts[:MAX_FED], self._settings)
        self._accept(chain.from_iterable(entries.values()))
        compared.fed = len(alerts[:MAX_FED])
        self._doors.polls.count(fed=compared.fed)
        log.info("fed alerts that Alertmanager lists and no storm held", alerts=compared.fed)
        return len(alerts) > MAX_FED

    def _presume(self, storms: Sequence[StormRecord], listing: Listing, number: int, compared: Compared) -> None:
        presence = self._doors.presence
        firing = [storm for storm in storms if storm.alert_count > 0]
        for storm, before in zip(firing, presence.absences([one.storm_id for one in firing]), strict=True):
            members = chain.from_iterable(presence.firing(storm.storm_id))
            presumed, noted = presume(absent(members, listing.present), before, number)
            if presumed:
                key = tuple(storm.key.items())
                alerts = [presumed_resolve(member) for member in presumed]
                # What is not noted after this is counted anew, and the same resolve told again: a duplicate.
                self._accept(entries_of(uuid.uuid4().hex, key, storm.namespace, alerts))
                compared.presumed += len(presumed)
                self._doors.polls.count(presumed=len(presumed))
                log.info("presumed resolved what no Alertmanager lists", storm=storm.name, alerts=len(presumed))
            if noted.counts or before != Absences():
                presence.note_absences(storm.storm_id, noted, self._settings.reconcile_every * 3 + 60_000)

    def _accept(self, entries: Iterable[NewEntry]) -> None:
        by_shard: dict[int, list[NewEntry]] = {}
        for entry in entries:
            by_shard.setdefault(shard_of(entry.storm_id), []).append(entry)
        for shard, of_shard in by_shard.items():
            for at in range(0, len(of_shard), ENTRIES_A_CALL):
                if self._doors.inbox.accept(shard, of_shard[at : at + ENTRIES_A_CALL]).wake:
                    self._doors.wake(shard)
