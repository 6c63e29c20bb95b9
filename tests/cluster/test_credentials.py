"""Credentials that are revoked and replaced under a running worker, as a cluster does it every hour."""

from __future__ import annotations

import datetime
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kubernetes.config import incluster_config

from tasks.manifests import API_VERSION, storm_manifest
from tasks.sinks import Deadline, SinkRefused
from tasks.sinks.access import Access
from tasks.sinks.gate import BudgetGate
from tasks.sinks.kubernetes import KubernetesSink, connect
from tests.cluster.bench import Bench, Known, ref_of
from tests.cluster.control_plane import WORKER
from tests.cluster.servers import token_of, write_kubeconfig
from tests.support.contents import STORM_NAME, storm
from tests.support.waiting import at_once, wait_until

SYSTEM = "--namespace=stormfold-system"


class Pod:
    """What a worker in a Pod finds: an address in its environment, a token and an authority in files."""

    def __init__(self, bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.token = folder / "token"
        self.token.write_text(token_of(WORKER))
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(urlsplit(bench.proxy.url).port))
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(self.token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(bench.plane.authority))
        self.sink = KubernetesSink(connect(), "stormfold-system", 5.0, gate=BudgetGate(bench.budget))


@pytest.fixture
def pod(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pod]:
    pod = Pod(bench, tmp_path, monkeypatch)
    yield pod
    pod.sink.close()


def sent(bench: Bench) -> list[tuple[str, str]]:
    """What was sent, and with which token."""
    return [(one.brief, one.credentials.partition(" ")[2]) for one in bench.proxy.seen()]


@pytest.mark.usefixtures("controllers")
def test_a_token_is_revoked_and_replaced(bench: Bench, tmp_path: Path) -> None:
    kubectl, token_file = bench.plane.kubectl, tmp_path / "token"

    def issue(secret: str) -> str:
        kubectl("create", "secret", "generic", secret, SYSTEM)
        bound = ("--bound-object-kind=Secret", f"--bound-object-name={secret}")
        # As kubectl prints it and a shell writes it, with a newline.
        token_file.write_text(kubectl("create", "token", "stormfold-worker", SYSTEM, *bound))
        return token_file.read_text().strip()

    def valid(token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{bench.plane.url}/apis/{API_VERSION}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5, context=bench.proxy.trust):
                return True
        except urllib.error.HTTPError as error:
            return error.code != 401

    # Given a worker that writes with a token from a file
    old = issue(f"{bench.namespace}-1")
    write_kubeconfig(bench.kubeconfig, bench.proxy.url, bench.plane.authority, {"tokenFile": str(token_file)})
    sink = bench.open()
    ref = sink.put(bench.first, None, Deadline(30))
    # When the token is revoked, and the file does not hold another one yet
    kubectl("delete", "secret", f"{bench.namespace}-1", SYSTEM)
    wait_until(lambda: not valid(old), "the server to notice (it remembers whom it knew for 10 s)", poll_s=0.5)
    bench.proxy.forget()
    with pytest.raises(SinkRefused, match=rf"401 Unauthorized .*put valid credentials into {bench.kubeconfig}"):
        sink.put(bench.grown, ref, Deadline(30))
    # Then it was tried twice, and that is no pause for anybody
    assert sent(bench) == [("PATCH", old)] * 2
    assert bench.health() == Known(refused=1)
    # And once another token is in the file, the next write goes on by itself
    new = issue(f"{bench.namespace}-2")
    bench.proxy.forget()
    now = sink.put(bench.grown, ref, Deadline(30))
    sink.close()
    assert sent(bench) == [("PATCH", old), ("PATCH", new), ("PATCH status", new)]
    assert [ref_of(one) for one in bench.objects()] == [now]
    assert now.uid == ref.uid


def test_a_pods_token_is_replaced_after_a_refusal(bench: Bench, pod: Pod) -> None:
    # Given a Pod whose token has just expired, and was replaced within the minute for which the client keeps it
    pod.token.write_text("expired")
    expired = KubernetesSink(connect(), "stormfold-system", 5.0, gate=BudgetGate(bench.budget))
    pod.token.write_text(token_of(WORKER))
    # When it creates, Then it does so with the new one, and nobody hears of a failure
    ref = expired.put(bench.first, None, Deadline(30))
    expired.close()
    new = token_of(WORKER)
    assert sent(bench) == [("POST", "expired"), ("POST", new), ("PATCH status", new)]
    assert bench.health() == Known()
    assert [ref_of(one) for one in bench.objects()] == [ref]


def test_a_pods_token_is_read_again_in_time(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a Pod in which the minute is over after which the client looks into the file again
    read = incluster_config.InClusterConfigLoader._read_token_file

    def read_once_more_soon(loader: incluster_config.InClusterConfigLoader) -> None:
        read(loader)
        loader.token_expires_at = datetime.datetime.min

    monkeypatch.setattr(incluster_config.InClusterConfigLoader, "_read_token_file", read_once_more_soon)
    pod = Pod(bench, tmp_path, monkeypatch)
    ref = pod.sink.put(bench.first, None, Deadline(30))
    # When another token is in it (a user's without rights, whom the server knows by name)
    pod.token.write_text("nobody\n")
    bench.proxy.forget()
    with pytest.raises(SinkRefused, match='User "nobody" cannot patch'):
        pod.sink.put(bench.grown, ref, Deadline(30))
    pod.sink.close()
    # Then it is used without having been refused first
    assert sent(bench) == [("PATCH", "nobody")]


def test_a_token_file_that_is_away_for_a_moment(bench: Bench, pod: Pod) -> None:
    # Given a Pod with a token that is not valid (any more), and whose files are being replaced
    pod.token.write_text("expired")
    sink = KubernetesSink(connect(), "stormfold-system", 5.0, gate=BudgetGate(bench.budget))
    for broken in (pod.token.unlink, lambda: pod.token.write_text("")):
        broken()
        # When it creates, Then the operator is told both
        with pytest.raises(SinkRefused, match=r"401 Unauthorized .*reading the service account again: .*(exist|empty)"):
            sink.put(bench.first, None, Deadline(30))
    # And once the file is there, it goes on
    pod.token.write_text(token_of(WORKER))
    ref = sink.put(bench.first, None, Deadline(30))
    sink.close()
    assert [ref_of(one) for one in bench.objects()] == [ref]


@pytest.mark.parametrize("text", ["", "clusters: [", "[]", "just words", "clusters: 7\n"])
def test_a_kubeconfig_that_is_being_written(bench: Bench, text: str) -> None:
    # Given a worker whose token is not valid, and whose kubeconfig is half written
    good = bench.kubeconfig.read_text()
    write_kubeconfig(bench.kubeconfig, bench.proxy.url, bench.plane.authority, {"token": "expired"})
    sink = bench.open()
    bench.kubeconfig.write_text(text)
    # When it creates, Then the operator is told both
    with pytest.raises(SinkRefused, match=r"401 Unauthorized .*reading .*kubeconfig-test-.* again: no way to"):
        sink.put(bench.first, None, Deadline(30))
    # And once it is whole, it goes on with what is in it
    bench.kubeconfig.write_text(good)
    ref = sink.put(bench.first, None, Deadline(30))
    sink.close()
    assert [one for _, one in sent(bench)] == ["expired"] * 2 + [token_of(WORKER)] * 2
    assert [ref_of(one) for one in bench.objects()] == [ref]


def test_many_at_once_read_it_once(bench: Bench, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given eight threads with one expired token, which was replaced
    pod.token.write_text("expired")
    sink = KubernetesSink(connect(), "stormfold-system", 5.0, gate=BudgetGate(bench.budget))
    pod.token.write_text(token_of(WORKER))
    renewed: list[Access] = []
    renew = Access.renewed
    monkeypatch.setattr(Access, "renewed", lambda access: renewed.append(access) or renew(access))
    storms = [storm_manifest(storm(namespace=bench.namespace, name=f"{STORM_NAME}-{number}")) for number in range(8)]
    # When all create at once
    refs = at_once(*[lambda one=one: sink.put(one, None, Deadline(30)) for one in storms])
    sink.close()
    # Then all have, and the file was read once
    assert {ref_of(one) for one in bench.objects()} == set(refs)
    assert len(renewed) == 1
