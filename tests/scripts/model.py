"""The storm rules in plain Python, one storm key, from the design alone: what the scripts must agree with."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lua_scripts.records import Rules, StormAlert

CLASSES = ("new", "duplicate", "reopened", "resolved", "outdated")


@dataclass
class Member:
    """``turn``: when the alert that resolved or reopened it last was received. ``causes``: a value for each label."""

    starts: int
    resource: str
    firing: bool = True
    ends: int = 0
    turn: int = 0
    severity: int = 2
    causes: tuple[str, ...] = ()

    def fire(self, starts: int, received: int) -> str:
        if self.firing:
            self.starts = max(self.starts, starts)
            return "duplicate"
        if starts > self.ends or received > self.turn:
            self.firing, self.starts, self.turn = True, starts, max(self.turn, received)
            return "reopened"
        return "outdated"

    def resolve(self, ends: int, received: int) -> str:
        if ends == self.ends and not (self.firing and ends >= self.starts and received > self.turn):
            return "duplicate"
        if ends < self.ends or ends < self.starts:
            return "outdated"
        self.firing, self.ends, self.turn = False, ends, received
        return "resolved"


@dataclass
class Window:
    """The last receipt of each id, as long as the newest is within the window."""

    length: int
    seen: dict[str, int] = field(default_factory=dict)

    def met(self, ids: list[str], received: int, threshold: int) -> bool:
        for one in ids:
            self.seen[one] = max(received, self.seen.get(one, 0))
        newest = max(self.seen.values())
        self.seen = {one: at for one, at in self.seen.items() if at > newest - self.length}
        times = self.seen.values()
        found = any(sum(end - self.length < at <= end for at in times) >= threshold for end in times)
        if found:
            self.seen = {}
        return found


@dataclass
class Single:
    """``due`` is None once its storm is active: then the storm sees to it."""

    opened: int
    last: int
    due: int | None
    state: str = "P"
    wrote: str = ""
    flaps: int = 0
    since: int = 0


@dataclass
class Storm:
    epoch: int
    first_seen: int
    rate: Window
    pattern: Window
    last_seen: int = 0
    last_resolve: int = 0
    phase: str = "GATHERING"
    type: str = ""
    flaps: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    singles: dict[str, Single] = field(default_factory=dict)
    tombstones: list[tuple[int, str, int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    flush_due: int = 0
    unflushed_since: int = 0
    wrote: str = ""
    failures: int = 0
    holder: str = ""
    leased_until: int = 0
    dirty: bool = False
    listed: dict[str, int] | None = None
    worst: int = 0
    common: dict[str, str] = field(default_factory=dict)
    said: dict[int, tuple[str, int]] = field(default_factory=dict)
    stale_singles: int = 0
    receipts: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def firing(self) -> int:
        return sum(member.firing for member in self.members.values())

    def resources(self) -> dict[str, int]:
        return dict(Counter(member.resource for member in self.members.values() if member.firing))

    def shared(self) -> dict[int, tuple[str, int]]:
        """Of which cause label, by its place, nine tenths of the firing members share a value, and its percent."""
        found = {}
        for at, values in enumerate(zip(*(one.causes for one in self.members.values() if one.firing), strict=True)):
            [(value, count)] = Counter(values).most_common(1)
            if count * 10 >= self.firing * 9:
                found[at] = value, count * 100 // self.firing
        return found

    def covered(self) -> dict[str, Single]:
        """The Singles that the storm's RR supersedes: named, and not Resolved already."""
        return {name: one for name, one in self.singles.items() if one.state != "P" and one.wrote != "R"}


class Model:
    """What a storm key's history is after the same deliveries, claims and settles."""

    def __init__(self, rules: Rules, now: int) -> None:
        self.rules = rules
        self.now = now
        self.storm: Storm | None = None
        self.last_epoch = 0
        self.stones: dict[str, tuple[int, int]] = {}
        self.totals: Counter[str] = Counter()

    # -- the way in

    def _class(self, storm: Storm, alert: StormAlert, received: int) -> str:
        name, member = alert.fingerprint, storm.members.get(alert.fingerprint)
        if member is not None:
            if alert.firing:
                return member.fire(alert.starts_at_ms, received)
            found = member.resolve(alert.ends_at_ms, received)
            if found == "resolved":
                storm.last_resolve = max(storm.last_resolve, received)
                storm.tombstones.append((self.now + self.rules.tombstone, name, received))
            return found
        ends, expires = self.stones.get(name, (0, 0))
        known = expires > self.now
        if alert.firing:
            if known and alert.starts_at_ms < ends:
                return "outdated"
            self.stones.pop(name, None)
            causes = alert.causes or ()
            storm.members[name] = Member(alert.starts_at_ms, alert.name, severity=alert.severity, causes=causes)
            return "new"
        if known and alert.ends_at_ms == ends:
            return "duplicate"
        if not known or alert.ends_at_ms > ends:
            self.stones[name] = (alert.ends_at_ms, self.now + self.rules.tombstone)
        return "outdated"

    def accept(self, alerts: int, ignored: int) -> None:
        """A delivery; what is ignored is counted and does nothing else."""
        self.totals.update(received=alerts + ignored, pending=alerts, ignored=ignored)

    def take(self, alerts: list[StormAlert], received: int, common: dict[str, str]) -> Counter[str]:
        """Takes one entry in, whose alerts share the labels ``common``; how many alerts of each class."""
        windows = Window(self.rules.rate_window), Window(self.rules.pattern_window)
        storm = self.storm or Storm(max(self.now, self.last_epoch + 1), received, *windows)
        classes = [self._class(storm, alert, received) for alert in alerts]
        counts = Counter(classes)
        self.totals.update(counts)
        self.totals["pending"] -= len(alerts)
        news = [alert for alert, one in zip(alerts, classes, strict=True) if one in ("new", "reopened")]
        if self.storm is None and not news:
            self.totals["unmatched"] += len(alerts)
            return counts
        if news:
            kept = common.items() if self.storm is None else common.items() & storm.common.items()
            storm.common = dict(kept)
        for alert in alerts:
            storm.receipts[alert.name].add(received)
        self.storm, self.last_epoch = storm, max(self.last_epoch, storm.epoch)
        storm.counts.update(counts)
        if set(counts) - {"outdated"}:
            storm.last_seen = max(storm.last_seen, received)
        before = storm.phase, storm.type
        if news:
            self._slide(storm, news, received)
            if storm.phase == "RESOLVED":
                storm.phase, storm.flaps = "ACTIVE", storm.flaps + 1
        changed = bool(news) or counts["resolved"] > 0
        if storm.phase == "GATHERING":
            self._singles(storm, alerts, classes, received)
            storm.dirty |= changed and self._leased(storm)
        elif changed or before != (storm.phase, storm.type):
            self._change(storm)
        return counts

    def _leased(self, storm: Storm) -> bool:
        return storm.holder != "" and storm.leased_until > self.now

    def _slide(self, storm: Storm, news: list[StormAlert], received: int) -> None:
        rules = self.rules
        if storm.type != "rate":
            if storm.rate.met([alert.fingerprint for alert in news], received, rules.rate_threshold):
                storm.type = "rate"
            elif storm.phase == "GATHERING" and rules.pattern_threshold:
                ids = [storm.members[alert.fingerprint].resource for alert in news]
                if storm.pattern.met(ids, received, rules.pattern_threshold):
                    storm.type = "pattern"
        if storm.phase == "GATHERING" and storm.type:
            storm.phase = "ACTIVE"
            for single in storm.singles.values():
                single.due = None

    def _singles(self, storm: Storm, alerts: list[StormAlert], classes: list[str], received: int) -> None:
        told: dict[str, str] = {}
        for alert, one in zip(alerts, classes, strict=True):
            if one != "outdated" and (one != "duplicate" or alert.fingerprint not in told):
                told[alert.fingerprint] = one
        for name, one in told.items():
            single = storm.singles.get(name)
            if single is None:
                if name in storm.members:
                    storm.singles[name] = Single(received, received, self.now + self.rules.single_hold)
                continue
            single.last = max(single.last, received)
            if one != "duplicate" and single.state != "P":
                single.since = single.since or self.now
                single.due = min(self.now + self.rules.debounce, single.since + self.rules.max_wait)
                single.flaps += one == "reopened" and single.wrote == "R"

    def _change(self, storm: Storm) -> None:
        storm.unflushed_since = storm.unflushed_since or self.now
        if storm.holder:
            storm.dirty = True
        if not self._leased(storm) and (storm.wrote or not storm.flush_due):
            storm.flush_due = min(self.now + self.rules.debounce, storm.unflushed_since + self.rules.max_wait)

    # -- the way out

    def claim(self, token: str, lease_ms: int) -> tuple[str, object]:
        """('storm', what its RR says), ('singles', what theirs say), or why nothing was leased."""
        storm, now = self.storm, self.now
        if storm is None:
            return "gone", None
        if self._leased(storm):
            return "busy", None
        self._expire(storm)
        result = self._storm_due(storm) if storm.phase != "GATHERING" else self._singles_due(storm)
        if result[0] in ("storm", "singles"):
            storm.holder, storm.leased_until = token, now + lease_ms
            storm.unflushed_since, storm.dirty = 0, False
        elif result[0] == "closed":
            self.storm = None
        else:
            storm.holder, storm.leased_until = "", 0
        return result

    def _expire(self, storm: Storm) -> None:
        while storm.tombstones and storm.tombstones[0][0] <= self.now:
            _, name, turn = storm.tombstones.pop(0)
            member = storm.members.get(name)
            if member and not member.firing and member.turn == turn:
                if storm.phase == "GATHERING" and name in storm.singles:
                    storm.tombstones.append((self.now + self.rules.tombstone, name, turn))
                else:
                    del storm.members[name]

    def _storm_due(self, storm: Storm) -> tuple[str, object]:
        flush = storm.dirty or 0 < storm.flush_due <= self.now
        stale = storm.firing > 0 and self.now >= storm.last_seen + self.rules.stale_after
        over = self.now >= storm.last_resolve + self.rules.reopen_window
        if storm.phase == "RESOLVED" and storm.wrote == "R" and not flush and not storm.flush_due and over:
            return "closed", None
        if not flush and not stale:
            return "idle", None
        if storm.firing == 0:
            storm.phase = "RESOLVED"
        else:
            storm.listed, storm.said = storm.resources(), storm.shared()
            storm.worst = max(member.severity for member in storm.members.values() if member.firing)
        storm.flush_due = storm.flush_due or self.now
        total = storm.counts["new"] + storm.counts["reopened"]
        return "storm", (storm.phase, storm.type, storm.firing, total, storm.flaps, stale, storm.listed)

    def _singles_due(self, storm: Storm) -> tuple[str, object]:
        rules, wanted = self.rules, {}
        for name, single in list(storm.singles.items()):
            if single.due is None or single.due > self.now:
                continue
            member, single.since, want = storm.members[name], 0, ""
            if member.firing:
                stale = self.now >= single.last + rules.stale_after
                want = "Active" if single.wrote != "A" else "Stale" if stale else ""
                if not want:
                    single.due = single.last + rules.stale_after
            elif single.wrote != "R":
                want = "Resolved"
            elif self.now >= member.turn + rules.reopen_window:
                del storm.singles[name], storm.members[name]
            else:
                single.due = member.turn + rules.reopen_window
            if want:
                single.state = "N" if single.state == "P" else single.state
                wanted[name] = (want, single.wrote, single.flaps, single.opened)
        if wanted:
            return "singles", wanted
        return ("closed" if not storm.singles and not storm.firing else "idle"), None

    def settle_storm(self, token: str, wrote: str, retry_ms: int) -> str:
        """``wrote`` is A, R or T as the claim said, '' when the write failed."""
        storm = self.storm
        if storm is None or storm.holder != token:
            return "lost"
        dirty, storm.dirty, storm.holder, storm.leased_until = storm.dirty, False, "", 0
        since = storm.unflushed_since or self.now
        if not wrote:
            storm.failures += 1
            storm.flush_due, storm.unflushed_since = self.now + retry_ms, since
            return "dirty"
        storm.singles = storm.covered()
        for single in storm.singles.values():
            single.state, single.wrote = "S", ""
        if wrote == "T":
            if not dirty and self.now >= storm.last_seen + self.rules.stale_after:
                self.storm = None
                return "closed"
            dirty, storm.unflushed_since = True, since
        storm.wrote, storm.failures = wrote, 0
        if dirty:
            storm.flush_due = min(self.now + self.rules.debounce, since + self.rules.max_wait)
            return "dirty"
        storm.flush_due = storm.unflushed_since = 0
        return "settled"

    def settle_singles(self, token: str, wrote: dict[str, str], retry_ms: int) -> str:
        """``wrote``: fingerprint -> A, R or T, '' when that write failed."""
        storm = self.storm
        if storm is None or storm.holder != token:
            return "lost"
        dirty, storm.dirty, storm.holder, storm.leased_until = storm.dirty, False, "", 0
        for name, phase in wrote.items():
            self._settle_single(storm, name, phase, retry_ms)
        storm.failures = storm.failures + 1 if "" in wrote.values() else 0
        storm.unflushed_since = 0
        if storm.phase != "GATHERING" and not storm.flush_due:
            storm.flush_due = self.now + self.rules.debounce
        return "dirty" if dirty else "settled"

    def _settle_single(self, storm: Storm, name: str, phase: str, retry_ms: int) -> None:
        rules, single, member = self.rules, storm.singles[name], storm.members[name]
        gathers = storm.phase == "GATHERING"
        if not phase:
            single.since, due = single.since or self.now, self.now + retry_ms
        elif phase == "T" and member.firing and gathers and self.now >= single.last + rules.stale_after:
            del storm.singles[name], storm.members[name]
            storm.stale_singles += 1
            return
        else:
            single.state, single.wrote = "W", phase
            if (phase, member.firing) == ("A", True):
                single.since, due = 0, single.last + rules.stale_after
            elif (phase, member.firing) == ("R", False):
                single.since, due = 0, member.turn + rules.reopen_window
            else:
                single.since = single.since or self.now
                due = min(self.now + rules.debounce, single.since + rules.max_wait)
        single.due = due if gathers else None

    def due(self) -> int | None:
        """When somebody must look at the storm at the latest."""
        storm = self.storm
        if storm is None:
            return None
        if self._leased(storm):
            return storm.leased_until
        times = [single.due for single in storm.singles.values() if single.due is not None]
        times += [expires for expires, _, _ in storm.tombstones]
        if storm.phase != "GATHERING":
            times += [storm.flush_due] if storm.flush_due else []
            if storm.firing:
                times.append(storm.last_seen + self.rules.stale_after)
            elif storm.phase == "RESOLVED" and not storm.flush_due:
                times.append(storm.last_resolve + self.rules.reopen_window)
        return min(times) if times else self.now
