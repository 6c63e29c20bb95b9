"""What is special about a directory: files that people read, disks that fill, processes that die."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, NewerFence, SinkError, SinkRefused, SinkUnavailable
from tasks.sinks.directory import DirectorySink
from tests.support.contents import STORM_NAME, storm
from tests.support.crd import violations
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sink(tmp_path: Path) -> DirectorySink:
    return DirectorySink(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop" / f"{STORM_NAME}.yaml"


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(30)


def test_a_file_reads_like_a_report(sink: DirectorySink, file: Path, deadline: Deadline) -> None:
    # Given a storm; When it is written
    ref = sink.put(storm_manifest(storm()), None, deadline)
    # Then the file says it from the general to the particular, in block style, texts of several lines as such
    assert (
        file.read_text().replace(ref.uid, "UID")
        == """\
apiVersion: remediation.stormfold.io/v1alpha1
kind: RemediationRequest
metadata:
  name: storm-kubepodcrashlooping-0123456789
  namespace: shop
  labels:
    app.kubernetes.io/managed-by: stormfold
    remediation.stormfold.io/storm-id: 3f0123456789abcd
    remediation.stormfold.io/type: Storm
    app.kubernetes.io/instance: stormfold
  annotations:
    remediation.stormfold.io/fence: '3'
    remediation.stormfold.io/file-generation: '1'
    remediation.stormfold.io/file-uid: UID
    remediation.stormfold.io/file-version: '1'
spec:
  type: Storm
  stormKey:
    alertname: KubePodCrashLooping
    cluster: ''
    namespace: shop
  signal:
    name: KubePodCrashLooping
    severity: critical
    labels:
      alertname: KubePodCrashLooping
      namespace: shop
    annotations:
      summary: |-
        A pod crashes again and again.
        See the runbook.
    source: http://prometheus:9090/graph?g0.expr=up
  stormAggregation:
    stormType: rate
    alertCount: 12
    totalAlerts: 12
    resourceCount: 2
    firstSeen: '2025-01-02T03:04:05.678Z'
    lastSeen: '2025-01-02T03:04:10.678Z'
    totals:
      byNamespace:
        '': 1
        shop: 1
      byKind:
        Node: 1
        Pod: 1
      byNode:
        worker-1: 1
    supersedes:
    - rr-aaaaaaaaaa
    - rr-bbbbbbbbbb
    omittedResources: 0
    affectedResources:
    - kind: Pod
      name: cart-0
      namespace: shop
      firstSeen: '2025-01-02T03:04:05.678Z'
      alertCount: 8
    - kind: Node
      name: worker-1
      namespace: ''
      firstSeen: '2025-01-02T03:04:06.678Z'
      alertCount: 4
status:
  phase: Active
  conditions:
  - type: Active
    status: 'True'
    reason: AlertsFiring
    message: 12 of 12 alerts are firing; 2 resources
    lastTransitionTime: '2025-01-02T03:04:11.678Z'
  - type: Resolved
    status: 'False'
    reason: AlertsFiring
    message: 12 of 12 alerts are firing; 2 resources
    lastTransitionTime: '2025-01-02T03:04:11.678Z'
  ledger:
    received: 15
    new: 12
    duplicate: 3
    reopened: 0
    resolved: 0
    outdated: 0
    ignored: 0
    pending: 0
    deadLettered: 0
  flaps: 0
  fence: 3
  observedAt: '2025-01-02T03:04:11.678Z'
"""
    )


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SinkUnavailable),
        (errno.EDQUOT, SinkUnavailable),
        (errno.EIO, SinkUnavailable),
        (errno.EACCES, SinkRefused),
        (errno.EROFS, SinkRefused),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(
    sink: DirectorySink, file: Path, deadline: Deadline, monkeypatch: pytest.MonkeyPatch,
    call: str, number: int, kind: type[SinkError],
) -> None:  # fmt: skip
    # Given a storm on a disk that begins to fail
    ref = sink.put(storm_manifest(storm()), None, deadline)
    before = file.read_text()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    # When it is updated
    with pytest.raises(kind, match=os.strerror(number)):
        sink.put(storm_manifest(storm(fence=4)), ref, deadline)
    # Then the old file stands and nothing lies beside it
    monkeypatch.undo()
    assert file.read_text() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path, deadline: Deadline) -> None:
    # Given a file where the directory should be; When a storm is put, Then that is said
    (tmp_path / "manifests").write_text("")
    with pytest.raises(SinkRefused, match="manifests"):
        DirectorySink(tmp_path / "manifests").put(storm_manifest(storm()), None, deadline)


@pytest.mark.parametrize(
    "text",
    [
        "a: [", "\xff", "", "[]", "metadata: 1", "metadata: {labels: 1}", "metadata: {}\nstatus: 1",
        "metadata: {}\nstatus: {conditions: [1]}",
    ],
)  # fmt: skip
def test_a_damaged_file_is_left_to_a_person(sink: DirectorySink, file: Path, deadline: Deadline, text: str) -> None:
    # Given a file that an editor spoilt
    ref = sink.put(storm_manifest(storm()), None, deadline)
    file.write_text(text, encoding="latin-1")
    # When the storm is written, Then it is refused with the path, and the file is not lost
    for known in (ref, None):
        with pytest.raises(SinkRefused, match=f"{STORM_NAME}.yaml"):
            sink.put(storm_manifest(storm(fence=4)), known, deadline)
    assert file.read_text(encoding="latin-1") == text


def test_numbers_that_an_editor_spoilt_do_not_stop_the_worker(
    sink: DirectorySink, file: Path, deadline: Deadline
) -> None:
    # Given somebody wrote words in place of numbers
    ref = sink.put(storm_manifest(storm()), None, deadline)
    manifest = yaml.safe_load(file.read_text())
    manifest["status"]["fence"] = "many"
    for name in ("fence", "file-version", "file-generation"):
        manifest["metadata"]["annotations"][f"remediation.stormfold.io/{name}"] = "x"
    file.write_text(yaml.safe_dump(manifest))
    # When the storm is written, Then it is, and counts from 1 again
    second = sink.put(storm_manifest(storm(fence=4)), ref, deadline)
    assert second.resource_version == "1"
    assert yaml.safe_load(file.read_text())["status"]["fence"] == 4


def test_what_a_killed_writer_left_does_no_harm(sink: DirectorySink, file: Path, deadline: Deadline) -> None:
    # Given half a file that a killed process left, and a link somebody put there for it to follow
    file.parent.mkdir()
    left = file.with_name(f".{file.name}.tmp")
    left.write_text("apiVersion: remed")
    # When the storm is written, Then the half is gone
    ref = sink.put(storm_manifest(storm()), None, deadline)
    assert os.listdir(file.parent) == [file.name]
    # And a link is not followed
    victim = file.parent.parent / "victim"
    left.symlink_to(victim)
    with pytest.raises(SinkRefused):
        sink.put(storm_manifest(storm(fence=4)), ref, deadline)
    assert not victim.exists()


def test_a_frozen_holder_of_a_lock_delays_only_until_the_deadline(
    sink: DirectorySink, tmp_path: Path, deadline: Deadline
) -> None:
    # Given another process that holds the lock of this object and does not move
    ref = sink.put(storm_manifest(storm()), None, deadline)
    [lock] = (tmp_path / ".locks").iterdir()
    with open(lock, "ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        # When the storm is written, Then it gives up when its lease is over, not later
        started = time.monotonic()
        with pytest.raises(SinkUnavailable, match="lock"):
            sink.put(storm_manifest(storm(fence=4)), ref, Deadline(0.3))
        assert time.monotonic() - started < 5


def test_locks_do_not_pile_up(sink: DirectorySink, tmp_path: Path, deadline: Deadline) -> None:
    # Given many storms; When they are written, Then there are no more locks than stripes
    for number in range(400):
        sink.put(storm_manifest(storm(name=f"storm-{number}")), None, deadline)
    assert len(list((tmp_path / ".locks").iterdir())) <= 256
    assert len(list((tmp_path / "shop").iterdir())) == 400


WRITER = """
import sys
from pathlib import Path
from tasks.manifests import storm_manifest
from tasks.sinks import Deadline, NewerFence
from tasks.sinks.directory import DirectorySink
from tests.support.contents import storm
sink = DirectorySink(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for fence in range(int(sys.argv[2]), 10**9, 2):
    try:
        sink.put(storm_manifest(storm(fence=fence, alert_count=fence, total_alerts=fence)), None, Deadline(30))
    except NewerFence:
        pass
"""


def test_killed_writers_never_show_half_a_file_nor_an_older_one(
    sink: DirectorySink, tmp_path: Path, file: Path, deadline: Deadline
) -> None:
    # Given two processes that race for one object with ever higher fences, and a reader
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(first)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for first in (1, 2)
    ]  # fmt: skip
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            if file.exists():
                manifest = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
                assert violations(manifest) == []
                assert manifest["spec"]["stormAggregation"]["alertCount"] == manifest["status"]["fence"]
                seen.append(manifest["status"]["fence"])

    reader = threading.Thread(target=read)
    reader.start()
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdin is not None
        writer.stdout.readline()
        writer.stdin.write("\n")
        writer.stdin.flush()
    # When they are killed in the midst of it
    wait_until(lambda: len(set(seen)) > 20, "20 versions seen")
    for writer in writers:
        writer.kill()
        writer.communicate()
    stop.set()
    reader.join()
    # Then every version read was whole, none was older than the one before, and the next writer goes on
    assert seen == sorted(seen)
    last = yaml.safe_load(file.read_text())["status"]["fence"]
    with pytest.raises(NewerFence):
        sink.put(storm_manifest(storm(fence=last - 1)), None, deadline)
    sink.put(storm_manifest(storm(fence=last + 1)), None, deadline)
    assert yaml.safe_load(file.read_text())["status"]["fence"] == last + 1
