"""The scripts and the model of the storm rules, driven with the same random deliveries, claims and settles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.settings import load
from lua_scripts.keys import shard_of
from lua_scripts.leases import Claim, NotClaimed, SingleOutcome
from lua_scripts.packing import Detail
from lua_scripts.records import Ledger, NewEntry, Rules, StormAlert, Taken
from lua_scripts.storms import EntryToTake
from tasks.content import single_name
from tests.scripts.lab import STORM, Clock, Lab, firing, resolved
from tests.scripts.model import CLASSES, Model, Storm
from tests.scripts.shelf import CAUSE_LABELS, Expected, Rendered, Shelf, Words, render, single_words, storm_words
from tests.scripts.state import State, read_unknown

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "60"))
"""As many histories are tried, always the same ones; with another number other ones each time."""
LEASE_MS = 10_000
RETRY_MS = 700
RULES = Rules(
    rate_threshold=6, rate_window=60_000, pattern_threshold=4, pattern_window=120_000, debounce=5_000, max_wait=12_000,
    single_hold=5_000, reopen_window=60_000, stale_after=600_000, max_members=50_000, tombstone=150_000,
)  # fmt: skip
PHASES = {"GATHERING": "G", "ACTIVE": "A", "RESOLVED": "R"}
TYPES = {"": "", "pattern": "p", "rate": "r"}
CODES = {"Active": "A", "Resolved": "R", "Stale": "T"}

SEVERITIES = ("info", "warning", "critical")
RANKS = {"info": 1, "warning": 2, "critical": 4}
IGNORE = load({}).ignore
NOISE = [{"alertname": name, "namespace": "shop"} for name in ("Watchdog", "InfoInhibitor")]

NAMES = st.integers(0, 11).map(lambda at: f"a{at}")


def labels_of(name: str) -> dict[str, str]:
    """The labels of one of a dozen alerts on one of six pods; the two of a pod are not equally severe."""
    at = int(name[1:])
    return {
        "alertname": "Down", "namespace": "shop", "pod": f"pod-{at % 6}", "severity": SEVERITIES[at // 4],
    }  # fmt: skip


def fires(name: str, starts: int) -> StormAlert:
    labels = labels_of(name)
    alert = firing(name, starts, pod=labels["pod"], severity=RANKS[labels["severity"]])
    return replace(alert, causes=tuple(labels[label] for label in CAUSE_LABELS))


def resolves(name: str, ends: int) -> StormAlert:
    labels = labels_of(name)
    alert = resolved(name, ends, pod=labels["pod"], severity=RANKS[labels["severity"]])
    return replace(alert, causes=tuple(labels[label] for label in CAUSE_LABELS))


def common_of(alerts: Sequence[StormAlert]) -> dict[str, str]:
    """The labels that all of these share."""
    first, *others = (labels_of(alert.fingerprint).items() for alert in alerts)
    return dict(set(first).intersection(*others))


@st.composite
def alerts(draw: Callable[..., object]) -> StormAlert:
    """An alert with times that often collide."""
    name = str(draw(NAMES))
    at = int(str(draw(st.integers(0, 6)))) * 20_000
    return fires(name, at) if draw(st.booleans()) else resolves(name, at)


@dataclass(frozen=True)
class Job:
    """What a worker holds after a claim, and what the model says that it must write: fingerprint -> words."""

    rendered: Rendered
    turn: int
    words: dict[str, tuple[str, Words, bool]]


class Histories(RuleBasedStateMachine):
    """One storm key under any history. ``lab`` and ``clock`` are set by the test."""

    lab: Lab
    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        self.lab.client.flushall()
        self.clock.at(0)
        self.model = Model(RULES, self.clock.now)
        self.waiting: list[tuple[EntryToTake, int]] = []
        self.done: list[EntryToTake] = []
        self.jobs: list[Job] = []
        self.shelf = Shelf()
        self.expected = Expected()
        self.tokens = 0

    # -- deliveries

    def _accept(self, entry: list[StormAlert], noise: Sequence[dict[str, str]] = ()) -> tuple[EntryToTake, int]:
        """Stores a delivery, less what the default matchers ignore."""
        delivered = [*noise, *(labels_of(alert.fingerprint) for alert in entry)]
        ignored = sum(any(matcher.matches(labels) for matcher in IGNORE) for labels in delivered)
        self.model.accept(len(delivered) - len(noise), len(noise))
        details = [Detail(labels_of(alert.fingerprint), {}, "") for alert in entry]
        common = common_of(entry) if entry else {}
        taken = replace(self.lab.entry(*entry), common=common, details=details, cause_labels=CAUSE_LABELS)
        stored = [NewEntry(taken.entry_id, STORM, len(entry), b"payload")] if entry else []
        self.lab.inbox.accept(shard_of(STORM), stored, ignored=ignored)
        return taken, self.model.now

    def _ingest(self, entry: EntryToTake, received: int) -> None:
        taken = self.lab.ingest(entry)
        counts = self.model.take(list(entry.alerts), received, common_of(entry.alerts))
        phase = self.model.storm.phase if self.model.storm else None
        assert taken == Taken("ok", *(counts[name] for name in CLASSES), phase)  # type: ignore[arg-type]
        self.done.append(entry)
        self.compare()

    @rule(entry=st.lists(alerts(), min_size=1, max_size=5), noise=st.lists(st.sampled_from(NOISE), max_size=2))
    def deliver(self, entry: list[StormAlert], noise: list[dict[str, str]]) -> None:
        self._ingest(*self._accept(entry, noise))

    @rule(noise=st.lists(st.sampled_from(NOISE), min_size=1, max_size=3))
    def deliver_noise(self, noise: list[dict[str, str]]) -> None:
        """Nothing but what is ignored."""
        self._accept([], noise)
        self.compare()

    @rule(first=st.integers(0, 11), count=st.integers(2, 8), at=st.integers(0, 6))
    def burst(self, first: int, count: int, at: int) -> None:
        names = [(first + step) % 12 for step in range(count)]
        self._ingest(*self._accept([fires(f"a{one}", at * 20_000) for one in names]))

    @rule(at=st.integers(3, 8))
    def all_resolve(self, at: int) -> None:
        if self.model.storm and self.model.storm.firing:
            ends = [(name, max(at * 20_000, member.starts - self.lab_start)) for name, member in self._firing()]
            self._ingest(*self._accept([resolves(name, end) for name, end in ends]))

    @property
    def lab_start(self) -> int:
        return firing("x").starts_at_ms

    def _firing(self) -> list[tuple[str, object]]:
        assert self.model.storm is not None
        return [(name, member) for name, member in self.model.storm.members.items() if member.firing]

    @rule()
    def repeat(self) -> None:
        """What Alertmanager does at every change of the group."""
        if self.model.storm and self.model.storm.firing:
            entry = [
                fires(name, member.starts - self.lab_start)  # type: ignore[attr-defined]
                for name, member in self._firing()
            ]  # fmt: skip
            self._ingest(*self._accept(entry))

    @rule(name=NAMES, times=st.integers(2, 9), ms=st.sampled_from([500, 2_000, 4_000]))
    def flap(self, name: str, times: int, ms: int) -> None:
        """Resolves and fires by turns, every so often."""
        for _ in range(times):
            at = self.model.now - self.lab_start
            member = self.model.storm.members.get(name) if self.model.storm else None
            one = resolves if member and member.firing else fires
            self._ingest(*self._accept([one(name, at)]))
            self.pass_time(ms)

    @rule(entry=st.lists(alerts(), min_size=1, max_size=3), ms=st.sampled_from([0, 1_000, 30_000]))
    def delay(self, entry: list[StormAlert], ms: int) -> None:
        """Received now, taken in later, perhaps after what was received after it."""
        if len(self.waiting) < 4:
            self.waiting.append(self._accept(entry))
            self.compare()
            self.pass_time(ms)

    @precondition(lambda self: not self.waiting)
    @rule(count=st.integers(4, 9), ms=st.sampled_from([1_000, 9_000, 25_000]), step=st.sampled_from([1, 3]))
    def outage(self, count: int, ms: int, step: int) -> None:
        """Workers are away while alerts come one by one, and then take in all of them."""
        entries = []
        for at in range(count):
            name = at * step % 12
            entries.append(self._accept([fires(f"a{name}", at)]))
            self.pass_time(ms)
        self.waiting = entries
        while self.waiting:
            self._ingest(*self.waiting.pop(0))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def take_delayed(self, data: st.DataObject) -> None:
        self._ingest(*self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        entry = self.done[data.draw(st.integers(0, len(self.done) - 1))]
        before = self.lab.dump()
        assert self.lab.ingest(entry) == Taken("gone")
        assert self.lab.dump() == before

    # -- time

    @rule(ms=st.sampled_from([1, 100, 1_000, 2_500, 5_000, 7_000, 10_000, 20_000, 60_000, 120_000, 150_000, 600_000]))
    def pass_time(self, ms: int) -> None:
        self.model.now += ms
        self.clock.set(self.model.now)

    @rule()
    def pass_time_until_due(self) -> None:
        due = self.model.due()
        if due is not None and due > self.model.now:
            self.model.now = due
            self.clock.set(due)

    # -- workers

    def _claim(self) -> Job | None:
        self.tokens += 1
        token = f"token-{self.tokens}"
        claim = self.lab.claim(token, lease_ms=LEASE_MS)
        kind, content = self.model.claim(token, LEASE_MS)
        if isinstance(claim, NotClaimed):
            assert claim.reason == kind
            self.compare()
            return None
        if claim.singles is None:
            said = (
                claim.storm.phase, claim.storm.storm_type, claim.storm.alert_count, claim.storm.total_alerts,
                claim.storm.flaps, claim.stale,
            )  # fmt: skip
            assert kind == "storm"
            assert isinstance(content, tuple)
            assert said == content[:-1]
            # A storm that was over before it was ever written lists what it was; the tests of its life look at that.
            if content[-1] is not None:
                assert self.lab.listed(claim) == content[-1]
                self._compare_causes(claim)
        else:
            assert kind == "singles"
            assert {s.fingerprint: (s.want, _code(s.wrote), s.flaps, s.opened_ms) for s in claim.singles} == content
            assert all(task.resource is not None for task in claim.singles)
            assert all((task.detail is None) == (task.wrote != "") for task in claim.singles)
        job = self._job(render(self.lab.leases, claim))
        self.compare()
        return job

    def _job(self, rendered: Rendered) -> Job:
        storm, claim, words = self.model.storm, rendered.claim, {}
        assert storm is not None
        if claim.singles is None:
            words[""] = claim.storm.name, storm_words(storm, claim, rendered.resources), False
            for name, one in storm.covered().items():
                if one.state != "S":
                    superseded = single_words("Superseded", 0, storm.common)
                    words[name] = single_name(name, one.opened), superseded, one.state == "W"
        else:
            for task in claim.singles:
                one = storm.singles[task.fingerprint]
                said = single_words(task.want, one.flaps, labels_of(task.fingerprint))
                words[task.fingerprint] = single_name(task.fingerprint, one.opened), said, one.state == "W"
        return Job(rendered, self.expected.turn(), words)

    @rule()
    def claim(self) -> None:
        """By a worker that takes its time, or dies."""
        job = self._claim()
        if job is not None:
            self.jobs.append(job)

    @rule()
    def write(self) -> None:
        """By a worker that does all of it at once."""
        job = self._claim()
        if job is not None:
            self._settle(job, "well")

    @rule(changes=st.booleans())
    def write_when_due(self, changes: bool) -> None:
        """Waits until something is due, and writes it while the alerts repeat."""
        self.pass_time_until_due()
        job = self._claim()
        if job is not None:
            if changes:
                self.repeat()
            self._settle(job, "well")

    @rule(name=NAMES, ends=st.sampled_from(["well", "dies"]))
    def overtaken(self, name: str, ends: str) -> None:
        """A worker that hangs past its lease, and writes what it holds after another has written something newer."""
        self.burst(int(name[1:]), 8, 6)
        self.pass_time_until_due()
        late = self._claim()
        if late is not None:
            self.flap(name, 1, LEASE_MS)
            self.write()
            self._settle(late, ends)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), ends=st.sampled_from(["well", "fails", "dies"]))
    def settle(self, data: st.DataObject, ends: str) -> None:
        self._settle(self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1))), ends)

    def _settle(self, job: Job, ends: str) -> None:
        """Writes and settles. ``fails``: the sink refuses the first RR; ``dies``: between writes and settle."""
        claim, token = job.rendered.claim, job.rendered.claim.token
        # A storm's own RR comes first: without it none of the others is written. Singles stand for themselves.
        failed = set(job.words) if claim.singles is None else {claim.singles[0].fingerprint}
        failed = failed if ends == "fails" else set()
        self._put(job, failed)
        if ends == "dies":
            pass
        elif claim.singles is None:
            phase = "Stale" if claim.stale else "Active" if claim.storm.alert_count else "Resolved"
            nothing = {"phase": "", "uid": "", "superseded": (), "dropped": (), "obsolete": ()}
            ended = self.lab.settle(claim, retry_ms=RETRY_MS, **(nothing if failed else job.rendered.outcome))
            assert ended == self.model.settle_storm(token, "" if failed else CODES[phase], RETRY_MS)
        else:
            outcomes = [
                SingleOutcome(s.fingerprint, "" if s.fingerprint in failed else s.want, "uid", "1", "shop")
                for s in claim.singles
            ]
            ended = self.lab.leases.settle_singles(STORM, token, RULES, outcomes, RETRY_MS)
            wrote = {s.fingerprint: "" if s.fingerprint in failed else CODES[s.want] for s in claim.singles}
            assert ended == self.model.settle_singles(token, wrote, RETRY_MS)
        self.compare()

    def _put(self, job: Job, failed: set[str]) -> None:
        """Each RR under its fence: a worker that comes late may find that a later one was there."""
        state = self.lab.state()
        holder = state is not None and state["lk"] == job.rendered.claim.token
        for fingerprint, write in job.rendered.writes.items():
            if fingerprint not in failed:
                self.shelf.write(write, holder=holder)
        for fingerprint, (name, words, status_only) in job.words.items():
            if fingerprint not in failed:
                self.expected.write(name, job.turn, words, status_only=status_only)

    # -- whole states

    def compare(self) -> None:
        model, state = self.model, self.lab.state()
        if model.storm is None:
            assert state is None
        else:
            assert state is not None
            self._compare_storm(model.storm, state)
        live = {name: stone for name, stone in model.stones.items() if stone[1] > model.now}
        stones = read_unknown(self.lab.client, STORM)
        assert {name: stone for name, stone in stones.items() if stone[1] > model.now} == live
        self._compare_totals()
        assert self.shelf.words() == self.expected.words()

    def _compare_causes(self, claim: Claim) -> None:
        """What is told is so, or was at the last flush; all of it is told, unless a Single went stale unseen."""
        assert self.model.storm is not None
        said = {CAUSE_LABELS[at]: one for at, one in self.model.storm.said.items()}
        told = {cause.label: (cause.value, cause.percent) for cause in claim.causes}
        if self.model.storm.stale_singles:
            assert all(label in said and said[label][0] == told[label][0] for label in told)
            assert all(told[label][1] <= said[label][1] for label in told)
        else:
            assert told == said

    def _compare_totals(self) -> None:
        model, totals = self.model, self.lab.inbox.totals()
        assert model.totals["pending"] == sum(len(entry.alerts) for entry, _ in self.waiting)
        counts = {name: model.totals[name] for name in ("received", "pending", "ignored", *CLASSES, "unmatched")}
        assert totals == Ledger(**counts)
        assert totals.balanced

    def _compare_storm(self, storm: Storm, state: State) -> None:
        ranks = Counter(member.severity for member in storm.members.values() if member.firing)
        expected = {
            "ph": PHASES[storm.phase], "ty": TYPES[storm.type], "e": storm.epoch, "f": storm.firing, "of": 0,
            "rc": sum(storm.counts.values()), "nw": storm.counts["new"], "du": storm.counts["duplicate"],
            "ro": storm.counts["reopened"], "rs": storm.counts["resolved"], "od": storm.counts["outdated"],
            **{f"s{rank}": ranks[rank] for rank in range(5)},
            "fs": storm.first_seen, "ls": storm.last_seen, "lr": storm.last_resolve,
            "fl": storm.flaps, "fd": storm.flush_due, "fu": storm.unflushed_since, "wp": storm.wrote,
            "fa": storm.failures, "lk": storm.holder, "lu": storm.leased_until, "dy": int(storm.dirty),
        }  # fmt: skip
        assert {name: state[name] for name in expected} == expected
        assert {
            name: (member.state == "F", member.starts, member.ends, member.turn)
            for name, member in state.members.items()
        } == {name: (member.firing, member.starts, member.ends, member.turn) for name, member in storm.members.items()}
        assert {name: count for name, count in state.resources.items() if count} == storm.resources()
        assert {
            name: (one.state, one.opened, one.last, one.flaps, one.wrote, one.first_unwritten)
            for name, one in state.singles.items()
        } == {
            name: (one.state, one.opened, one.last, one.flaps, one.wrote, one.since)
            for name, one in storm.singles.items()
        }
        assert state.singles_due == {name: one.due for name, one in storm.singles.items() if one.due is not None}
        # Somebody may look too early, which does nothing, but never too late.
        due = self.model.due()
        assert state.due is not None
        assert due is not None
        assert state.due <= max(due, self.model.now)
        assert Counter(member.firing for member in storm.members.values())[True] == state["f"]


def _code(phase: str) -> str:
    return CODES.get(phase, phase)


@pytest.mark.parametrize("client", ["server"], indirect=True)
def test_scripts_agree_with_the_model(lab: Lab, clock: Clock) -> None:
    lab.change_rules(**{name: getattr(RULES, name) for name in RULES.__slots__})
    machine = type("Machine", (Histories,), {"lab": lab, "clock": clock})
    fixed = "MODEL_EXAMPLES" not in os.environ
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=40, deadline=None, derandomize=fixed, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        ),
    )  # fmt: skip
