"""The fault matrix as a table: at which step, what happens to whom, in which situation, and what must hold then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.faults import process_faults as process
from tests.faults import redis_faults as store
from tests.faults import sink_faults as sink
from tests.faults.struck import Fault

State = Literal["whole", "one open RR each"]
Bench = Literal["plain", "patient", "emptied", "clocks"]
"""The stack that a cell shares with others; ``patient`` has no waits shortened, ``clocks`` workers an hour apart."""


@dataclass(frozen=True, slots=True)
class Cell:
    """``about``: what the call at the step must be about, for the fault to strike there."""

    step: str
    fault: Fault
    situation: str
    must_hold: str
    about: tuple[str, ...] = ()
    skip: int = 0
    action: str = "stop"
    quick: bool = False
    bench: Bench = "plain"
    state: State = "whole"
    repaired: bool = False
    """Whether the reconciler, which looks every five minutes, has to mend it."""

    @property
    def name(self) -> str:
        words = " ".join(word.rpartition(".")[2] for word in (*self.about, self.action) if word != "stop")
        fault = self.fault.__name__.replace("_", " ")
        where = "" if self.bench in ("plain", "emptied") else self.bench
        return ", ".join(part for part in (self.step, words, fault, self.situation, where) if part)


def _emptied(step: str, situation: str, must_hold: str, *about: str, fault: Fault = store.emptied,
             repaired: bool = False) -> Cell:  # fmt: skip
    return Cell(step, fault, situation, must_hold, about, bench="emptied", state="one open RR each", repaired=repaired)


LOST = "raise tasks.sinks.errors.SinkUnavailable"
"""The write is made, its answer is not: to the caller the sink was away."""

BETWEEN_ACCEPTS = [
    # Skipping one call stops it between the two accepts of a delivery for two shards.
    Cell("before-accept", process.kill_web, "two keys", "said again, nothing twice", skip=1, quick=True),
    Cell("before-accept", store.restart_redis, "two keys", "503, said again, nothing twice", skip=1),
    Cell("before-accept", store.freeze_redis, "two keys", "503 in time, said again, nothing twice", skip=1),
    Cell("before-accept", store.no_connections, "two keys", "503, said again, nothing twice", skip=1),
    Cell("before-accept", store.exhausted_pool, "two keys", "503, said again, nothing twice", skip=1, action="exhaust"),
    Cell("before-accept", store.full, "two keys", "503 without a trace of the second half, said again", skip=1),
    Cell("before-accept", store.forget_scripts, "two keys", "202 all the same", skip=1),
    Cell(
        "before-accept",
        store.emptied,
        "two keys",
        "all in one open RR each",
        skip=1,
        bench="emptied",
        state="one open RR each",
    ),
]

BEFORE_PUBLISH = [
    Cell("after-accept", process.kill_web, "new storm", "no answer: said again, nothing twice"),
    Cell("after-accept", store.restart_redis, "growing storm", "what was confirmed is there"),
    Cell("after-accept", store.no_connections, "new storm", "202: the alerts are safe, the wake-up is not needed"),
    Cell("before-publish", process.kill_web_after_its_answer, "new storm", "in its RR within 15 s", quick=True),
    Cell("before-publish", store.delete_queues, "growing storm", "the sweep wakes somebody"),
    Cell("before-publish", store.restart_redis, "superseding storm", "the sweep wakes somebody"),
    Cell("before-publish", store.broker_full, "new storm", "drained without the broker, in a full Redis"),
    Cell("after-publish", store.delete_queues, "new storm", "a wake-up that got lost is given up and made up for"),
    _emptied("before-publish", "growing storm", "all in one open RR"),
]

INGEST = [
    Cell("before-ingest", process.kill_worker, "new storm", "taken in by others", quick=True),
    Cell("before-ingest", process.kill_child, "growing storm", "taken in by others"),
    Cell("before-ingest", process.freeze_worker, "growing storm", "taken in once, by whoever comes first"),
    Cell("before-ingest", process.another_drains, "superseding storm", "the late call finds its entries gone"),
    Cell("before-ingest", process.sent_twice_more, "new storm", "repeats are counted and change nothing"),
    Cell("before-ingest", store.restart_redis, "lone alerts", "taken in after all"),
    Cell("before-ingest", store.freeze_redis, "resolving storm", "taken in after all"),
    Cell("before-ingest", store.freeze_redis_long, "growing storm", "taken in after all", bench="patient"),
    Cell("before-ingest", store.no_connections, "new storm", "taken in after all"),
    Cell("before-ingest", store.exhausted_pool, "new storm", "taken in after all", action="exhaust"),
    Cell("before-ingest", store.full, "growing storm", "taken in and written while Redis is full"),
    Cell("before-ingest", store.forget_scripts, "lone alerts", "loaded again by whoever misses them"),
    Cell("before-ingest", store.delete_queues, "superseding storm", "the sweep publishes again"),
    _emptied("before-ingest", "growing storm", "all in one open RR"),
    Cell("after-ingest", process.kill_worker, "new storm", "taken in once", quick=True),
    Cell("after-ingest", process.kill_child, "resolving storm", "taken in once"),
    Cell("after-ingest", process.freeze_worker, "new storm", "taken in once"),
    Cell("after-ingest", store.restart_redis, "growing storm", "what ingest did is on disk"),
    _emptied("after-ingest", "superseding storm", "all in one open RR"),
]

CLAIM = [
    Cell("before-claim", process.kill_worker, "new storm", "claimed by others", quick=True),
    Cell("before-claim", process.freeze_worker, "growing storm", "claimed by others"),
    Cell("before-claim", store.restart_redis, "lone alerts", "claimed after all"),
    Cell("before-claim", store.forget_scripts, "superseding storm", "claimed all the same"),
    Cell("before-claim", store.full, "growing storm", "claimed, written and settled while Redis is full"),
    Cell("before-claim", store.exhausted_pool, "resolving storm", "claimed after all", action="exhaust"),
    Cell("after-claim", process.kill_worker_for_good, "new storm", "written after the lease", ("Claim",), quick=True),
    Cell("after-claim", process.kill_child, "growing storm", "written after the lease", ("Claim",)),
    Cell("after-claim", process.freeze_worker, "superseding storm", "written by others, not again", ("Claim",)),
    Cell("after-claim", process.pass_the_lease, "growing storm", "written by others, not again", ("Claim",)),
    Cell("after-claim", store.restart_redis, "resolving storm", "the lease is on disk", ("Claim",)),
    Cell("after-claim", store.delete_queues, "lone alerts", "written all the same", ("Claim",)),
    Cell("after-claim", store.forget_scripts, "growing storm", "settled all the same", ("Claim",)),
    _emptied("after-claim", "growing storm", "all in one open RR", "Claim"),
    _emptied("after-claim", "growing storm", "not below what others wrote", "Claim", fault=store.emptied_under_it),
]

WRITE = [
    Cell("before-write", process.kill_worker_for_good, "new storm", "written by others, once", ("Storm",), quick=True),
    Cell("before-write", process.kill_child, "superseding storm", "superseded after all", ("Superseded",), skip=1),
    Cell("before-write", process.freeze_worker, "new storm", "not created twice", ("Storm",)),
    Cell("before-write", process.freeze_worker, "growing storm", "not back to older content", ("Storm",)),
    Cell("before-write", process.freeze_worker, "superseding storm", "superseded once", ("Superseded",)),
    Cell("before-write", process.freeze_worker, "lone alerts", "each created once", ("Single",), skip=1),
    Cell("before-write", store.restart_redis, "growing storm", "settled after all", ("Storm",)),
    Cell("before-write", sink.sink_refuses, "new storm", "written when it is mended", ("Storm",)),
    Cell("before-write", sink.sink_refuses, "growing storm", "written when it is mended", ("Storm",)),
    Cell("before-write", sink.sink_refuses, "lone alerts", "written when it is mended", ("Single",)),
    Cell("before-write", sink.sink_hangs, "growing storm", "given up before the lease ends", ("Storm",)),
    Cell("before-write", sink.sink_hangs, "lone alerts", "given up before the lease ends", ("Single",)),
    _emptied("before-write", "new storm", "one open RR", "Storm"),
    _emptied("before-write", "growing storm", "not back to older content", "Storm", fault=store.emptied_under_it),
    _emptied("before-write", "growing storm", "what is due is not lost", "Storm", fault=store.emptied_under_a_change),
    _emptied("before-write", "new storm", "doubles are repaired", "Storm", fault=store.emptied_under_it, repaired=True),
    Cell("after-write", process.kill_worker_for_good, "new storm", "met again, not doubled", ("Storm",), quick=True),
    Cell("after-write", process.kill_child, "lone alerts", "met again, not doubled", ("Single",), skip=1),
    # Killed after the last of three Singles: all are written, and none is known to be.
    Cell("after-write", process.kill_worker_as_it_becomes_a_storm, "lone alerts", "none is left beside the storm",
         ("Single",), skip=2),
    Cell("after-write", process.kill_worker, "superseding storm", "the rest is superseded", ("Superseded",)),
    Cell("after-write", process.freeze_worker, "growing storm", "settled late without harm", ("Storm",)),
    Cell("after-write", store.restart_redis, "new storm", "met again, not doubled", ("Storm",)),
    Cell("after-write", process.nothing, "new storm", "answer lost: met again", ("Storm",), action=LOST),
    Cell("after-write", process.nothing, "growing storm", "answer lost: met again", ("Storm",), action=LOST),
    Cell("after-write", process.nothing, "lone alerts", "answer lost: met again", ("Single",), action=LOST),
    Cell("after-write", process.nothing, "superseding storm", "answer lost: met again", ("Superseded",),
         action=LOST),
    Cell("after-write", process.nothing, "resolving storm", "answer lost: met again", ("Storm",), action=LOST),
    _emptied("after-write", "superseding storm", "one open RR", "Storm"),
]  # fmt: skip

SETTLE = [
    Cell("before-settle", process.kill_worker_for_good, "new storm", "settled after the lease", quick=True),
    Cell("before-settle", process.kill_child, "superseding storm", "settled after the lease"),
    Cell("before-settle", process.freeze_worker, "growing storm", "the late settle is lost, newer content stands"),
    Cell("before-settle", process.settle_over_a_change, "growing storm", "the late settle is lost, the change is not"),
    Cell("before-settle", process.another_claims, "growing storm", "one holder at a time, and the news is written"),
    Cell("before-settle", process.pass_the_lease, "lone alerts", "the late settle is lost"),
    Cell("before-settle", store.restart_redis, "resolving storm", "settled after all"),
    Cell("before-settle", store.freeze_redis, "growing storm", "settled after all"),
    Cell("before-settle", store.no_connections, "new storm", "settled after all"),
    Cell("before-settle", store.full, "growing storm", "settled while Redis is full"),
    _emptied("before-settle", "lone alerts", "each in one open RR"),
    _emptied("before-settle", "growing storm", "not settled what is not its own", fault=store.emptied_under_it),
    Cell("after-settle", process.kill_worker, "growing storm", "nothing is done again", quick=True),
    Cell("after-settle", process.freeze_worker, "new storm", "nothing is done again"),
    Cell("after-settle", store.restart_redis, "superseding storm", "what was settled is on disk"),
]

SWEEP = [
    Cell("after-sweep", process.kill_worker_for_good, "new storm", "the marks lapse with the lease", quick=True),
    Cell("after-sweep", process.freeze_worker, "growing storm", "others sweep"),
    Cell("after-sweep", store.restart_redis, "resolving storm", "the marks lapse with the lease"),
    Cell("after-sweep", store.delete_queues, "lone alerts", "published again"),
    Cell("after-sweep", store.full, "growing storm", "the worker does it itself"),
    Cell("before-sweep", store.no_connections, "new storm", "the sweep outlives it"),
    Cell("before-sweep", store.forget_scripts, "superseding storm", "swept all the same"),
    _emptied("after-sweep", "growing storm", "all in one open RR"),
]

CLOCKS = [
    Cell("before-ingest", process.go_on, "superseding storm", "Redis's clock decides", bench="clocks", quick=True),
    Cell("before-ingest", process.go_on, "resolving storm", "Redis's clock decides", bench="clocks"),
    Cell(
        "after-claim",
        process.kill_worker_for_good,
        "growing storm",
        "the lease ends on time",
        ("Claim",),
        bench="clocks",
    ),
    Cell(
        "before-write", process.freeze_worker, "growing storm", "not back to older content", ("Storm",), bench="clocks"
    ),
    Cell("before-settle", process.freeze_worker, "superseding storm", "the late settle is lost", bench="clocks"),
]

CELLS = [*BETWEEN_ACCEPTS, *BEFORE_PUBLISH, *INGEST, *CLAIM, *WRITE, *SETTLE, *SWEEP, *CLOCKS]
