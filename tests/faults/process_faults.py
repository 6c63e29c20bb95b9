"""Faults of processes: killed, frozen past a lease, or overtaken by another that does the same work."""

from __future__ import annotations

import os
import signal
import time

from app.broker import make_celery, publish_aggregate
from app.settings import load
from tests.faults.struck import LEASE_S, RECOVERY_S, Struck


def kill_web(at: Struck) -> None:
    """SIGKILL, all of it; a supervisor starts it again."""
    stack = at.situation.stack
    assert at.process is stack.web
    stack.web.kill()
    stack.start_web()


def kill_web_after_its_answer(at: Struck) -> None:
    """SIGKILL the instant after the 202, before anybody was woken; all of it is in its RR 15 s later."""
    situation = at.situation
    situation.sent(at.sender)
    assert at.sender.statuses == [202]
    situation.stack.web.kill()
    killed = time.monotonic()
    situation.stack.start_web()
    situation.wait_settled(killed + RECOVERY_S - time.monotonic())


def kill_worker(at: Struck) -> None:
    """SIGKILL of the worker with its pool; a supervisor starts it again."""
    worker = at.process
    worker.kill()
    worker.start()


def kill_worker_for_good(at: Struck) -> None:
    """SIGKILL; the other worker has to do with what it left."""
    worker = at.process
    worker.kill()
    at.situation.sent(at.sender)
    at.situation.wait_settled(RECOVERY_S)
    worker.start()


def kill_child(at: Struck) -> None:
    """SIGKILL of the pool child alone: its worker lives, and starts another."""
    assert at.stop.pid != at.process.pid, "it is no pool child that stands there"
    os.kill(at.stop.pid, signal.SIGKILL)


def kill_worker_as_it_becomes_a_storm(at: Struck) -> None:
    """SIGKILL; before anybody takes over the Singles that it wrote, they are part of a storm."""
    worker = at.process
    worker.kill()
    at.situation.sent(at.sender)
    at.situation.become_a_storm()
    at.situation.wait_settled(RECOVERY_S)
    worker.start()


def freeze_worker(at: Struck) -> None:
    """SIGSTOP past its lease; others do its work, and newer work; then it goes on where it was."""
    worker = at.process
    worker.freeze()
    at.stop.release()
    at.situation.sent(at.sender)
    if not at.situation.groups[-1].resolved and at.situation.groups[-1].storm:
        at.situation.more()
    at.situation.wait_settled()
    worker.thaw()
    at.stop.wait_over()


def pass_the_lease(at: Struck) -> None:
    """The process stands still past its lease while nothing else happens to it, and then goes on at once."""
    at.situation.sent(at.sender)
    at.situation.wait_settled()
    at.stop.release()
    at.stop.wait_over()


def settle_over_a_change(at: Struck) -> None:
    """Past its lease others do the work; it settles late, when a newer change waits to be written."""
    at.situation.sent(at.sender)
    at.situation.wait_settled()
    other = at.steps.arm("before-claim", at.situation.storm_id)
    at.situation.more()
    other.wait_reached()
    at.stop.release()
    at.stop.wait_over()
    other.release()


def another_claims(at: Struck) -> None:
    """The storm's task is published once more while its holder is at work: another worker finds it busy."""
    stack, storm_id = at.situation.stack, at.situation.storm_id
    at.situation.sent(at.sender)
    at.situation.more()
    at.situation.wait_taken_in()
    other = at.steps.arm("after-claim", storm_id, "busy")
    publish_aggregate(make_celery(load(stack.environ), publisher=True), storm_id, "")
    other.wait_reached(LEASE_S)
    other.release()
    at.stop.release()
    at.stop.wait_over()


def another_drains(at: Struck) -> None:
    """Another worker takes the same entries from the inbox meanwhile; the first then comes with them once more."""
    at.situation.sent(at.sender)
    at.situation.wait_settled()
    at.stop.release()
    at.stop.wait_over()


def sent_twice_more(at: Struck) -> None:
    """The same delivery comes again before anybody has taken in the first: twice, from two Alertmanagers at once."""
    at.situation.sent(at.sender)
    twins = [at.situation.send(), at.situation.send()]
    for twin in twins:
        at.situation.sent(twin)
    at.stop.release()
    at.stop.wait_over()


def go_on(at: Struck) -> None:
    """The system is unsound from the start: nothing more is done to it."""
    at.stop.release()


def nothing(at: Struck) -> None:
    """What was ordered at the step is the fault."""
    at.stop.wait_over()
