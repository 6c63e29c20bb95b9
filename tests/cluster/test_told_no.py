"""A real server's own no, for what the object says or for who else is there, and how it goes on afterwards."""

from __future__ import annotations

import pytest

from lua_scripts.budget import FAILURES
from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, SinkRefused, SinkThrottled, SinkUnavailable
from tasks.sinks.errors import NotYet, SinkInvalid
from tests.cluster.bench import Bench, Known, ref_of
from tests.cluster.proxy import Proxy
from tests.cluster.script import Say
from tests.support.contents import STORM_NAME, storm
from tests.support.waiting import wait_until

COUNT = "count/remediationrequests.remediation.stormfold.io"
CONFLICT = Say(409, {"reason": "Conflict", "message": "the object has been modified", "details": {"name": STORM_NAME}})


@pytest.mark.usefixtures("controllers")
def test_a_quota_that_is_used_up(bench: Bench) -> None:
    kubectl = bench.plane.kubectl
    # Given a namespace in which one object is allowed, and is there
    kubectl("create", "quota", "few", "-n", bench.namespace, f"--hard={COUNT}=1")
    counted = ("get", "quota", "few", "-n", bench.namespace, "-o", r"jsonpath={.status.used}")
    wait_until(lambda: kubectl(*counted), "the quota to count", poll_s=0.2)
    first = bench.sink.put(bench.first, None, Deadline(30))
    wait_until(lambda: ':"1"' in kubectl(*counted), "the quota to be used up", describe=lambda: kubectl(*counted))
    # When it is updated and a second one is created
    updated = bench.sink.put(bench.grown, first, Deadline(30))
    second = storm_manifest(storm(namespace=bench.namespace, name=f"{STORM_NAME}-2"))
    with pytest.raises(SinkRefused, match=r"exceeded quota: few, requested: .*=1, used: .*=1, limited: .*=1"):
        bench.sink.put(second, None, Deadline(30))
    # Then the update is none of the quota's business, the refusal is known to all, and nothing half is there
    assert bench.health() == Known(refused=1)
    assert [ref_of(one) for one in bench.objects()] == [updated]
    # And once more are allowed, it goes on
    kubectl(
        "patch", "quota", "few", "-n", bench.namespace, "--type=merge", f'-p={{"spec": {{"hard": {{"{COUNT}": 2}}}}}}'
    )

    def goes_on() -> bool:
        try:
            bench.sink.put(second, None, Deadline(30))
        except SinkRefused:
            return False
        return True

    wait_until(goes_on, "the higher quota to be noticed", poll_s=0.2)
    said = {one["metadata"]["name"]: {"spec": one["spec"], "status": one["status"]} for one in bench.objects()}
    assert said == {
        one["metadata"]["name"]: {"spec": one["spec"], "status": one["status"]} for one in (bench.grown, second)
    }


def test_a_rule_of_the_definition_is_broken(bench: Bench) -> None:
    # Given a storm, and content that breaks a rule: a storm's object without its storm
    ref = bench.sink.put(bench.first, None, Deadline(30))
    broken = bench.grown | {
        "spec": {name: part for name, part in bench.grown["spec"].items() if name != "stormAggregation"}
    }
    # When it is updated and created so
    other = broken | {"metadata": broken["metadata"] | {"name": f"{STORM_NAME}-2"}}
    for manifest, known in ((broken, ref), (other, None)):
        with pytest.raises(SinkInvalid, match=r"422 Invalid .*stormAggregation"):
            bench.sink.put(manifest, known, Deadline(30))
    # Then that is no object that is gone, it is known to all, and the object is as it was
    assert bench.health() == Known(refused=2)
    assert [ref_of(one) for one in bench.objects()] == [ref]
    # And with whole content it goes on
    assert bench.sink.put(bench.grown, ref, Deadline(30)).uid == ref.uid
    assert bench.said() == [{"spec": bench.grown["spec"], "status": bench.grown["status"]}]


def test_a_consumer_was_faster(bench: Bench) -> None:
    # Given an object that a consumer changed after we last wrote it
    ref = bench.sink.put(bench.first, None, Deadline(30))
    bench.plane.kubectl("label", "rr", STORM_NAME, "-n", bench.namespace, "team=shop")
    bench.proxy.forget()
    # When it is updated
    new = bench.sink.put(bench.grown, ref, Deadline(30))
    # Then it is read and written again, without a failure
    assert bench.proxy.briefs() == ["PATCH", "GET", "PATCH", "PATCH status"]
    assert bench.health() == Known()
    [stored] = bench.objects()
    assert (ref_of(stored), stored["metadata"]["labels"]["team"]) == (new, "shop")


def test_a_conflict_that_does_not_settle(bench: Bench) -> None:
    # Given an object that somebody changes again and again
    ref = bench.sink.put(bench.first, None, Deadline(30))
    bench.proxy.forget()
    bench.proxy.on("PATCH", STORM_NAME, *[CONFLICT] * 4)
    # When it is updated, Then it is left for later, after as many tries
    with pytest.raises(SinkUnavailable, match="4 conflicts in a row"):
        bench.sink.put(bench.grown, ref, Deadline(30))
    assert bench.proxy.briefs() == ["PATCH", "GET"] * 4
    # And then it goes through
    assert bench.sink.put(bench.grown, ref, Deadline(30)).uid == ref.uid


def test_a_name_that_is_taken_and_gone_again(bench: Bench) -> None:
    # Given a server that says that the name is taken, and a moment later nothing is there
    bench.proxy.on("POST", "remediationrequests", Say(409, {"reason": "AlreadyExists"}))
    # When a storm is created, Then it is left for later, and then it goes through
    with pytest.raises(SinkUnavailable, match="gone again"):
        bench.sink.put(bench.first, None, Deadline(30))
    ref = bench.sink.put(bench.first, None, Deadline(30))
    assert bench.proxy.briefs() == ["POST", "GET", "POST", "PATCH status"]
    assert [ref_of(one) for one in bench.objects()] == [ref]


def test_the_quota_itself_is_contended(bench: Bench) -> None:
    # Given many writers under one quota: its conflict is a 409 that is about no object of ours
    busy = {"reason": "Conflict", "message": 'Operation cannot be fulfilled on resourcequotas "few"'}
    bench.proxy.on("POST", "remediationrequests", Say(409, busy))
    # When a storm is created, Then nobody takes the name for taken
    with pytest.raises(SinkUnavailable, match="resourcequotas"):
        bench.sink.put(bench.first, None, Deadline(30))
    assert bench.proxy.briefs() == ["POST"]
    assert bench.objects() == []


@pytest.mark.parametrize(
    "answers",
    [[Say(429, {}, {"Retry-After": "20"})], [Say(503)] * FAILURES],
    ids=["throttled", "failed time and again"],
)
def test_one_workers_pause_is_everybodys(bench: Bench, proxy: Proxy, answers: list[Say]) -> None:
    # Given two workers, and a server that has had enough of the first
    other = bench.open()
    proxy.on("POST", "remediationrequests", *answers)
    for _ in answers:
        with pytest.raises((SinkThrottled, SinkUnavailable)):
            bench.sink.put(bench.first, None, Deadline(30))
    proxy.forget()
    # When either writes meanwhile
    for sink in (bench.sink, other):
        with pytest.raises(NotYet) as raised:
            sink.put(bench.first, None, Deadline(30))
        assert raised.value.retry_after_s is not None
        assert 1 < raised.value.retry_after_s <= 20
    # Then nothing is sent, until the pause is over
    assert proxy.briefs() == []
    bench.forgive()
    ref = other.put(bench.first, None, Deadline(30))
    other.close()
    assert [ref_of(one) for one in bench.objects()] == [ref]
