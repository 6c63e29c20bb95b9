"""An object that the cluster refuses for what is in it: a dead letter, no endless tries, written once it is mended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.control_plane import WORKER, ControlPlane
from tests.support.scene import Scene
from tests.support.stack import STORMFOLD, Stack
from tests.support.waiting import wait_until
from tests.support.webhook import at


@pytest.fixture
def policy(control_plane: ControlPlane, scene: Scene) -> Iterator[str]:
    """Somebody's rule that no storm of this namespace may have more than 12 alerts; how to lift it."""
    name = f"small-storms-{scene.tag}"
    group = "admissionregistration.k8s.io/v1"
    rule = {
        "apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
                "resourceRules": [{
                    "apiGroups": ["remediation.stormfold.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["remediationrequests"],
                }],
            },
            "validations": [{
                "expression": "object.spec.type != 'Storm' || object.spec.stormAggregation.alertCount <= 12",
                "message": "no storm is that big",
            }],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }  # fmt: skip
    control_plane.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [rule, binding]})
    )
    _wait_enforced(control_plane, scene)
    yield name
    control_plane.kubectl("delete", "validatingadmissionpolicybinding", name, "--ignore-not-found")
    control_plane.kubectl("delete", "validatingadmissionpolicy", name)


def _wait_enforced(plane: ControlPlane, scene: Scene) -> None:
    """The server takes some moments to heed a rule."""
    trial = {
        "apiVersion": "remediation.stormfold.io/v1alpha1", "kind": "RemediationRequest",
        "metadata": {"name": "trial", "namespace": scene.namespace},
        "spec": {
            "type": "Storm", "stormKey": {},
            "signal": {"name": "", "severity": "", "labels": {}, "annotations": {}, "source": ""},
            "stormAggregation": {
                "stormType": "rate", "alertCount": 13, "totalAlerts": 13, "resourceCount": 0, "omittedResources": 0,
                "firstSeen": "2025-01-02T03:04:05Z", "lastSeen": "2025-01-02T03:04:05Z", "affectedResources": [],
                "totals": {"byNamespace": {}, "byKind": {}, "byNode": {}}, "supersedes": [],
            },
        },
    }  # fmt: skip

    def enforced() -> bool:
        try:
            plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(trial))
        except AssertionError as error:
            return "no storm is that big" in str(error)
        return False

    wait_until(enforced, "the rule to be heeded", deadline_s=60)


@pytest.fixture
def stack(control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig(WORKER)))
    with Stack(tmp_path, {"SINK": "kubernetes", "LEASE": "10s"}, workers=1) as stack:
        yield stack


def cli(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [STORMFOLD, "deadletters", *arguments], env=stack.environ, cwd=stack.folder, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def test_it_is_a_letter_until_it_is_mended(
    stack: Stack, control_plane: ControlPlane, scene: Scene, policy: str
) -> None:
    def storms() -> list[tuple[str, int]]:
        found = [one for one in control_plane.items("rr", scene.namespace) if one["spec"]["type"] == "Storm"]
        return [(one["status"]["phase"], one["spec"]["stormAggregation"]["alertCount"]) for one in found]

    def tries() -> int:
        audit: list[dict[str, Any]] = control_plane.audit(scene.namespace)
        return len([one for one in audit if one["responseStatus"]["code"] == 422 and one["user"]["username"] == WORKER])

    # Given a storm that its cluster takes
    stack.post(scene.pods(12))
    stack.wait_settled()
    assert storms() == [("Active", 12)]
    # When it grows beyond what somebody's rule lets pass
    stack.post(scene.pods(15))
    stack.wait_settled()
    # Then it was tried once, the object stands as it was, and a letter tells why
    name = stack.storm(scene.key())["id"]  # type: ignore[index]
    assert (storms(), tries()) == ([("Active", 12)], 1)
    letter = json.loads(cli(stack, "show", name))
    assert "no storm is that big" in letter["reason"]
    assert letter["path"] == f"{scene.namespace}/{name}"
    assert json.loads(letter["object"])["spec"]["stormAggregation"]["alertCount"] == 15
    assert cli(stack, "list").splitlines()[-1] == "1 dead letter. 0 shed for number, size or age; 0 replayed."
    # And no alert is a dead letter: all are members, and the ledger balances
    ledger = stack.api("storms")["ledger"]
    assert (ledger["deadLettered"], ledger["new"]) == (0, 15)
    # When it shrinks to what is allowed, Then that is written, and the letter is gone by itself; not so when it grows
    stack.post([alert.resolved(at(30)) for alert in scene.pods(15)[:5]])
    stack.wait_settled()
    assert (storms(), cli(stack, "list").splitlines()[-1][:15]) == ([("Active", 10)], "0 dead letters.")
    stack.post(scene.pods(5, starts=45))
    stack.wait_settled()
    assert (storms(), tries()) == ([("Active", 10)], 2)
    # When it is replayed too early, Then it is refused once more, and a letter again
    assert cli(stack, "replay", name) == "1 replayed.\n"
    wait_until(lambda: tries() == 3 and "1 dead letter." in cli(stack, "list"), "the letter again", deadline_s=30)
    # When the rule is lifted, and the letter replayed
    control_plane.kubectl("delete", "validatingadmissionpolicybinding", policy)
    wait_until(lambda: cli(stack, "replay", "--all") and storms() == [("Active", 15)], "15 alerts", deadline_s=60)
    # Then the object shows all of them, no letter is left, and the storm ends as any other
    wait_until(lambda: cli(stack, "list").startswith("0 dead letters."), "no letter", deadline_s=30)
    stack.post([alert.resolved(at(60)) for alert in scene.pods(15)])
    stack.wait_settled()
    assert storms() == [("Resolved", 0)]
