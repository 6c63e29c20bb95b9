"""No answer, or half of one, to every request that the sink makes: the server may have done it, or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tasks.sinks import Deadline, SinkError, SinkRefused, SinkUnavailable
from tests.cluster.bench import STEPS, Bench, Known, Step, begin, ref_of, tried_again
from tests.cluster.control_plane import WORKER, ControlPlane
from tests.cluster.proxy import Proxy, certify
from tests.cluster.script import Hush, Line, Reset, Say
from tests.cluster.servers import token_of, write_kubeconfig
from tests.support.ports import free_port

TIMEOUT_S = 0.7
"""KUBE_TIMEOUT, where it is waited for."""
CUT = Say(201, raw=b'{"kind": "RemediationRequest", "metadata": {"name": "x"}}', forward=True, cut=20)
LOST = {
    "reset before": (Reset(), False),
    "reset after": (Reset(forward=True), True),
    "silence": (Hush(), False),
    "too late": (Hush(forward=True, seconds=2 * TIMEOUT_S), True),
    "cut short": (CUT, True),
}


def combinations() -> Iterator[ParameterSet]:
    for name, step in STEPS.items():
        for what, (line, landed) in LOST.items():
            marks = (pytest.mark.slow,) if what == "silence" and name not in ("create", "list") else ()
            yield pytest.param(step, line, landed, id=f"{name}-{what}", marks=marks)


@pytest.mark.parametrize(("step", "line", "landed"), list(combinations()))
def test_a_lost_answer_is_asked_for_again(bench: Bench, step: Step, line: Line, landed: bool) -> None:
    # Given a request whose answer never comes, whether or not the server has done what it asks for
    known = begin(bench, step)
    before = bench.objects()
    bench.proxy.on(*step.on, line)
    patient = bench.sink
    if isinstance(line, Hush):
        bench.sink = bench.open(TIMEOUT_S)
    # When it is made
    started = time.monotonic()
    with pytest.raises(SinkError) as raised:
        step.act(bench, known)
    # Then it was sent once, is given up in time, and counts as a failure (of an Event, it says nothing of the server)
    assert time.monotonic() - started < 4
    if bench.sink is not patient:
        bench.sink.close()
        bench.sink = patient
    assert type(raised.value) is SinkUnavailable
    assert bench.proxy.briefs() == list(step.sent)
    assert bench.health() == Known(failures=int(step is not STEPS["event"]))
    if landed and step.writes:
        assert bench.objects() != before
    elif len(step.sent) == 1:
        assert bench.objects() == before
    # And a second try finds what the first did: one object, the very one
    tried_again(bench, step, known, landed=landed)
    assert bench.health() == Known()


def test_silence_ends_with_the_lease(bench: Bench) -> None:
    # Given a timeout far beyond what is left of a lease, and a server that says nothing
    sink = bench.open(30.0)
    bench.proxy.on("POST", "remediationrequests", Hush(forward=True))
    # When a storm is created, Then it is given up with the lease
    started = time.monotonic()
    with pytest.raises(SinkUnavailable, match=r"timed out|Timeout"):
        sink.put(bench.first, None, Deadline(0.4))
    assert 0.3 < time.monotonic() - started < 2
    # And without any of it, nothing is sent
    with pytest.raises(SinkUnavailable, match="no time is left"):
        sink.put(bench.first, None, Deadline(0.01))
    sink.close()
    assert bench.proxy.briefs() == ["POST"]


def test_a_drip_is_given_up_too(bench: Bench) -> None:
    # Given an answer that comes byte by byte, each within the timeout
    bench.proxy.on("POST", "remediationrequests", Say(201, raw=b" " * 40, drip_s=TIMEOUT_S / 3))
    sink = bench.open(TIMEOUT_S)
    # When a storm is created, Then the whole has no more time than one silence would
    started = time.monotonic()
    with pytest.raises(SinkUnavailable, match="too slow"):
        sink.put(bench.first, None, Deadline(30))
    sink.close()
    assert time.monotonic() - started < 4


def test_nobody_listens(bench: Bench, control_plane: ControlPlane) -> None:
    # Given a port that nobody has
    url = f"https://127.0.0.1:{free_port()}"
    write_kubeconfig(bench.kubeconfig, url, control_plane.authority, {"token": token_of(WORKER)})
    sink = bench.open()
    # When somebody writes and somebody looks, Then both are told at once to come again soon, and it counts twice
    with pytest.raises(SinkUnavailable, match="refused"):
        sink.put(bench.first, None, Deadline(30))
    with pytest.raises(SinkUnavailable, match="refused"):
        list(sink.owned(Deadline(30)))
    sink.close()
    assert bench.health() == Known(failures=2)


@pytest.fixture
def stranger(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy whose certificate nobody vouches for."""
    with Proxy(control_plane, certify(tmp_path)) as proxy:
        yield proxy


def test_a_certificate_that_is_not_trusted(bench: Bench, stranger: Proxy, control_plane: ControlPlane) -> None:
    # Given a server that shows another certificate than the kubeconfig trusts
    write_kubeconfig(bench.kubeconfig, stranger.url, control_plane.authority, {"token": token_of(WORKER)})
    sink = bench.open()
    # When a storm is created, Then the operator is told why, and no token was shown to whoever that is
    with pytest.raises(SinkRefused, match="CERTIFICATE_VERIFY_FAILED"):
        sink.put(bench.first, None, Deadline(30))
    assert bench.health() == Known(refused=1)
    assert stranger.seen() == []
    # And once the kubeconfig trusts it, no restart is needed
    write_kubeconfig(bench.kubeconfig, stranger.url, stranger.certificate, {"token": token_of(WORKER)})
    ref = sink.put(bench.first, None, Deadline(30))
    sink.close()
    assert [ref_of(one) for one in bench.objects()] == [ref]


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_tls_on_one_side_alone(bench: Bench, control_plane: ControlPlane, scheme: str) -> None:
    # Given a port without TLS that is asked with it, and the server's own that is asked without
    with Proxy(control_plane, plain=True) as plain:
        url = plain.url if scheme == "https" else control_plane.url.replace("https", "http")
        write_kubeconfig(bench.kubeconfig, url, control_plane.authority, {"token": token_of(WORKER)})
        sink = bench.open()
        # When a storm is created, Then the caller is told, by our side or the server's 400 if that outruns its reset
        with pytest.raises((SinkUnavailable, SinkRefused), match=r"SSL|reset by peer|HTTP request to an HTTPS server"):
            sink.put(bench.first, None, Deadline(30))
        sink.close()
        assert plain.seen() == []
