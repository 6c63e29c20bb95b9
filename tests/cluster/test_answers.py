"""What a server, or what stands before it, answers instead of doing it: to every request that the sink makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from _pytest.mark import ParameterSet

from tasks.sinks import SinkError, SinkRefused, SinkThrottled, SinkUnavailable
from tasks.sinks.errors import DefinitionAbsent, SinkInvalid
from tests.cluster.bench import STEPS, Bench, Known, Step, begin, tried_again
from tests.cluster.script import Say

FAILED = Known(failures=1)
REFUSED = Known(refused=1)
THROTTLED = Known(throttled=1, paused=True)


@dataclass(frozen=True)
class Answer:
    """What is said, and what is to come of it."""

    says: Say
    kind: type[SinkError]
    health: Known
    retry_after_s: float | None = None


def after(seconds: str) -> dict[str, str]:
    return {"Retry-After": seconds}


TOO_MANY = {"reason": "TooManyRequests", "message": "please try again later"}
UNDECLARED = {"message": "failed to create typed patch object: .spec.x: field not declared in schema"}
ANSWERS = {
    "400": Answer(Say(400, {"reason": "BadRequest"}), SinkRefused, REFUSED),
    "401": Answer(Say(401, {"reason": "Unauthorized"}), SinkRefused, REFUSED),
    "403": Answer(Say(403, {"reason": "Forbidden"}), SinkRefused, REFUSED),
    "404 of no resource": Answer(
        Say(404, raw=b"404 page not found"), DefinitionAbsent, Known(refused=1, paused=True, undefined=True), 2.0
    ),
    "408": Answer(Say(408), SinkUnavailable, FAILED),
    "413": Answer(Say(413, raw=b"<html>too large"), SinkInvalid, REFUSED),
    "422": Answer(Say(422, {"reason": "Invalid"}), SinkInvalid, REFUSED),
    "429": Answer(Say(429, TOO_MANY), SinkThrottled, THROTTLED, 1.0),
    "429 with Retry-After": Answer(Say(429, TOO_MANY, after("3")), SinkThrottled, THROTTLED, 3.0),
    "429 with a moment": Answer(
        Say(429, TOO_MANY, after("Fri, 31 Dec 1999 23:59:59 GMT")), SinkThrottled, THROTTLED, 1.0
    ),
    "429 for ever": Answer(Say(429, TOO_MANY, after("inf")), SinkThrottled, THROTTLED, 60.0),
    "429 for a day": Answer(Say(429, TOO_MANY, after("86400")), SinkThrottled, THROTTLED, 60.0),
    "503 for no time": Answer(Say(503, {}, after("0")), SinkThrottled, THROTTLED, 0.0),
    "500": Answer(Say(500, {"message": "etcdserver: leader changed"}), SinkUnavailable, FAILED),
    "500 undeclared": Answer(Say(500, UNDECLARED), SinkRefused, REFUSED),
    "500 in a gateway's JSON": Answer(Say(500, raw=b'{"details": "x", "message": 7}'), SinkUnavailable, FAILED),
    "502": Answer(Say(502, raw=b"<html>bad gateway"), SinkUnavailable, FAILED),
    "503": Answer(Say(503, {"reason": "ServiceUnavailable"}), SinkUnavailable, FAILED),
    "503 with Retry-After": Answer(Say(503, {}, after("2")), SinkThrottled, THROTTLED, 2.0),
    "504": Answer(Say(504, {"reason": "Timeout"}, after("2")), SinkUnavailable, FAILED, 2.0),
    "302": Answer(Say(302, raw=b"", headers={"Location": "https://127.0.0.1:1/"}), SinkUnavailable, FAILED),
    "200 no JSON": Answer(Say(200, raw=b"<html>log in"), SinkUnavailable, FAILED),
    "200 no object": Answer(Say(200, raw=b"[]"), SinkUnavailable, FAILED),
    "201 no JSON": Answer(Say(201, raw=b"<html>log in"), SinkUnavailable, FAILED),
}

TELLING = ("401", "404 of no resource", "429 with Retry-After", "500", "500 undeclared", "503", "504", "200 no JSON")
"""These differ in what comes of them. The first request meets all answers, the others these; in long runs, the rest."""


def about_an_event(answer: Answer) -> Answer:
    """What is said of Events says nothing of the server's health, nor of our kind; but for a wish for patience."""
    if answer.kind is DefinitionAbsent:
        return replace(answer, kind=SinkRefused, health=REFUSED, retry_after_s=None)
    return replace(answer, health=Known()) if answer.kind is SinkUnavailable else answer


def combinations() -> Iterator[ParameterSet]:
    for name, step in STEPS.items():
        for said, each in ANSWERS.items():
            marks = () if name == "create" or said in TELLING else (pytest.mark.slow,)
            answer = about_an_event(each) if name == "event" else each
            yield pytest.param(step, answer, id=f"{name}-{said}", marks=marks)


@pytest.mark.parametrize(("step", "answer"), list(combinations()))
def test_an_answer_tells_what_to_do_and_does_no_harm(bench: Bench, step: Step, answer: Answer) -> None:
    # Given a server that answers so to one request, twice where it is asked again
    known = begin(bench, step)
    before = bench.said()
    bench.proxy.on(*step.on, answer.says, *([answer.says] if answer.says.status == 401 else []))
    # When that request is made
    with pytest.raises(SinkError) as raised:
        step.act(bench, known)
    # Then the caller knows what to do, nothing was sent again behind its back (but after a 401), and others know too
    assert (type(raised.value), raised.value.retry_after_s) == (answer.kind, answer.retry_after_s)
    assert bench.proxy.briefs() == [*step.sent, *(step.sent[-1:] if answer.says.status == 401 else ())]
    assert bench.health() == answer.health
    assert bench.proxy.left() == 0
    if len(step.sent) == 1:
        assert bench.said() == before
    # And once that is over, the same again does it
    if answer.health.paused:
        bench.forgive()
    tried_again(bench, step, known, landed=False)
    assert bench.health() == (Known() if answer.health.paused else Known(refused=answer.health.refused))
