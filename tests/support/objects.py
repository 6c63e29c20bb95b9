"""Reads the RemediationRequests that the directory sink wrote, and reduces those of any sink to what a test states."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CRD = Path(__file__).resolve().parents[2] / "docker" / "kubernetes" / "crd.yaml"
FENCE = "remediation.stormfold.io/fence"
UID = "remediation.stormfold.io/file-uid"
VERSION = "remediation.stormfold.io/file-version"

RR = dict[str, Any]


@cache
def _validator() -> jsonschema.Draft202012Validator:
    crd = yaml.safe_load(CRD.read_text())
    return jsonschema.Draft202012Validator(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


_parsed: dict[Path, tuple[tuple[int, int, int], RR]] = {}


def read_folder(folder: Path) -> list[RR]:
    """All objects below a folder, by namespace and name, each one checked against the schema of the CRD."""
    if not folder.exists():
        return []
    found = [_read(path) for path in sorted(folder.rglob("*.yaml"))]
    found.sort(key=lambda rr: (rr["metadata"]["namespace"], rr["metadata"]["name"]))
    return found


def _read(path: Path) -> RR:
    # The sink replaces files whole, by rename, so that what is read is never half of one.
    stat = path.stat()
    state = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
    known = _parsed.get(path)
    if known is None or known[0] != state:
        rr = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        known = _parsed[path] = (state, checked(rr))
    return known[1]


def checked(rr: RR) -> RR:
    """The object, which is what the CRD says."""
    assert (rr["apiVersion"], rr["kind"]) == ("remediation.stormfold.io/v1alpha1", "RemediationRequest"), rr
    _validator().validate(rr)
    return rr


def fence(rr: RR) -> int:
    """The fencing number; it must be the same in the annotation and in the status."""
    number, observed = int(rr["metadata"]["annotations"][FENCE]), int(rr["status"]["fence"])
    if "uid" in rr["metadata"] and (rr["spec"]["type"] == "Single" or rr["status"]["phase"] == "Superseded"):
        # A cluster is told of these in the status alone; the annotation then is that of an earlier write.
        assert observed >= number, rr
    else:
        assert observed == number, rr
    return observed


def identity(metadata: Mapping[str, Any]) -> tuple[str, int]:
    """The uid, and a number that grows with every write: a cluster's own, or what the directory sink keeps of both."""
    if "uid" in metadata:
        return metadata["uid"], int(metadata["resourceVersion"])
    notes = metadata["annotations"]
    return notes[UID], int(notes[VERSION])


def storms(found: list[RR]) -> list[RR]:
    return [rr for rr in found if rr["spec"]["type"] == "Storm"]


def singles(found: list[RR]) -> list[RR]:
    return [rr for rr in found if rr["spec"]["type"] == "Single"]


def resource(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return line["kind"], line.get("namespace", ""), line["name"]


def storm_view(rr: RR) -> dict[str, Any]:
    """What a storm RR says, times, names and fence apart; the order of the resources is checked on the way."""
    spec, status, aggregation = rr["spec"], rr["status"], rr["spec"]["stormAggregation"]
    listed = aggregation["affectedResources"]
    assert listed == sorted(listed, key=lambda one: (-one["alertCount"], one["firstSeen"], one["name"])), listed
    assert fence(rr) > 0
    return {
        "namespace": rr["metadata"]["namespace"],
        "phase": status["phase"],
        "conditions": _conditions(rr),
        "signal": {"name": spec["signal"]["name"], "severity": spec["signal"]["severity"]},
        "commonLabels": spec["signal"].get("labels", {}),
        "stormType": aggregation["stormType"],
        "alertCount": aggregation["alertCount"],
        "totalAlerts": aggregation["totalAlerts"],
        "resources": {resource(one): one["alertCount"] for one in listed},
        "listed": len(listed),
        "omitted": aggregation["omittedResources"],
        "byNamespace": aggregation["totals"]["byNamespace"],
        "byKind": aggregation["totals"]["byKind"],
        "supersedes": sorted(aggregation.get("supersedes", [])),
        "flaps": status["flaps"],
    }


def single_view(rr: RR) -> dict[str, Any]:
    """What a Single says, times, names and fence apart."""
    spec, status = rr["spec"], rr["status"]
    assert fence(rr) > 0
    assert "stormAggregation" not in spec
    return {
        "namespace": rr["metadata"]["namespace"],
        "phase": status["phase"],
        "conditions": _conditions(rr),
        "signal": {"name": spec["signal"]["name"], "severity": spec["signal"]["severity"]},
        "labels": spec["signal"]["labels"],
        "target": resource(spec["targetResource"]),
        "flaps": status["flaps"],
    }


def _conditions(rr: RR) -> dict[str, str]:
    return {one["type"]: one["status"] for one in rr["status"]["conditions"]}
