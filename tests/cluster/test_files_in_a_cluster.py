"""The files of the directory sink, taken to a cluster with kubectl: GitOps, or the way out of a trial."""

from __future__ import annotations

import json
from pathlib import Path

from tasks.manifests import single_manifest, storm_manifest
from tasks.sinks import Deadline
from tasks.sinks.directory import DirectorySink
from tests.cluster.control_plane import ControlPlane
from tests.support.contents import SINGLE_NAME, STORM_NAME, single, storm


def test_kubectl_applies_the_files_as_they_are(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, deadline: Deadline
) -> None:
    # Given a folder of manifests that somebody applied once
    sink = DirectorySink(tmp_path)
    ref = sink.put(storm_manifest(storm(namespace=namespace)), None, deadline)
    sink.put(single_manifest(single(namespace=namespace)), None, deadline)
    control_plane.kubectl("apply", "-R", "-f", str(tmp_path))
    # When the storm grows and they apply it again
    grown = storm_manifest(storm(namespace=namespace, fence=4, total_alerts=20, alert_count=20))
    sink.put(grown, ref, deadline)
    control_plane.kubectl("apply", "-R", "-f", str(tmp_path))
    # Then the cluster has the same objects
    stored = json.loads(control_plane.kubectl("get", "rr", "-n", namespace, "-o", "json"))["items"]
    specs = {one["metadata"]["name"]: one["spec"] for one in stored}
    assert specs == {STORM_NAME: grown["spec"], SINGLE_NAME: single_manifest(single())["spec"]}
