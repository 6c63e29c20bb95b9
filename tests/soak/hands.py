"""Somebody with all rights deletes and edits objects of open storms: they must come back, and say what they said."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Final

from kombu.exceptions import OperationalError

from app.broker import make_celery, publish_reconcile
from app.settings import load
from tests.soak.seen import Gone
from tests.soak.stage import Stage

GROUP: Final = "/apis/remediation.stormfold.io/v1alpha1"
FENCE: Final = "remediation.stormfold.io/fence"
PERSON: Final = "a-person"
SEVERITY: Final = "by-hand"
FLAPS: Final = 77_777
"""No storm has this severity, nor flaps that often: where either stands, an edit stands."""
UNKNOWN: Final = 1 << 62
"""A fence that nobody reaches."""
COMES_BACK_S: Final = 60.0
ASKED_EVERY_S: Final = 3.0
EDIT_S: Final = 30.0
"""How long an edit is left for the storm's next change to find; a storm may rest for longer."""
POLL_S: Final = 0.3
_MERGE: Final = "application/merge-patch+json"

Manifest = dict[str, Any]
Call = Callable[..., tuple[int, Manifest]]


def is_edited(rr: Manifest) -> bool:
    """Whether what was done here by hand stands in the object."""
    return rr["spec"]["signal"].get("severity") == SEVERITY or (rr.get("status") or {}).get("flaps") == FLAPS


def fences(rr: Manifest) -> tuple[int, int]:
    """Of the spec, which comes with an annotation, and of the status."""
    return int(rr["metadata"]["annotations"][FENCE]), int((rr.get("status") or {}).get("fence", 0))


def _path(rr: Manifest) -> str:
    return f"{GROUP}/namespaces/{rr['metadata']['namespace']}/remediationrequests/{rr['metadata']['name']}"


class Hands:
    """``call`` asks the server as an administrator and raises ``Gone``; ``wrong`` is told what must never be."""

    def __init__(self, call: Call, wrong: Callable[[str], None]) -> None:
        self._call = call
        self._wrong = wrong
        self.removed: set[str] = set()
        """The uids of what was deleted."""

    def delete(self, stage: Stage, chance: random.Random) -> bool:
        """The RR of an open storm; the next look through the sink finds that it is gone, if no change does before."""
        rr = self._an_open_storm(chance)
        if rr is None:
            return False
        uid = rr["metadata"]["uid"]
        only = {"uid": uid, "resourceVersion": rr["metadata"]["resourceVersion"]}
        self.removed.add(uid)
        try:
            status, answer = self._call("DELETE", _path(rr), {"kind": "DeleteOptions", "preconditions": only})
        except Gone:
            pass  # it may be deleted by now, or a little later
        else:
            if status in (404, 409):
                self.removed.discard(uid)
                return False
            assert status == 200, answer
        celery = make_celery(load(stage.stack.environ), publisher=True)
        end = time.monotonic() + COMES_BACK_S
        try:
            while time.monotonic() < end:
                with contextlib.suppress(OperationalError):  # the broker has faults of its own: asked again below
                    publish_reconcile(celery)
                if self._awaited(ASKED_EVERY_S, lambda: self._read(rr) is not None):
                    return True
        finally:
            celery.close()
        self._wrong(f"{rr['metadata']['name']} was deleted by hand and did not come back within {COMES_BACK_S:g} s")
        return True

    def edit(self, stage: Stage, chance: random.Random) -> bool:
        """Spec and status of an open storm's RR; they are taken back with the next change, and the object says so."""
        rr = self._an_open_storm(chance)
        if rr is None:
            return False
        try:
            fence = self._edit(rr, chance.choice(("Active", "Resolved")))
        except Gone:
            fence = UNKNOWN  # it may be edited by now, or a little later
        if fence and not self._awaited(EDIT_S, lambda: self._taken_back(rr, fence)):
            self._awaited(EDIT_S, lambda: self._undone(rr))
        return fence > 0

    def _edit(self, rr: Manifest, phase: str) -> int:
        """The fence under which it was written that was edited, 0 where there is nothing any more."""
        spec = {"signal": {"severity": SEVERITY}, "stormAggregation": {"alertCount": 0}}
        status, answer = self._patch(rr, "", {"spec": spec})
        if status == 200:
            status, answer = self._patch(rr, "/status", {"status": {"flaps": FLAPS, "phase": phase}})
        if status == 404:
            return 0
        assert status == 200, answer
        return fences(answer)[0]

    def _taken_back(self, rr: Manifest, fence: int) -> bool:
        now = self._read(rr)
        if now is None:
            return False
        name = rr["metadata"]["name"]
        annotated, observed = fences(now)
        if is_edited(now):
            if fence < annotated == observed:
                self._wrong(f"{name} was edited by hand and written again, and the edit stands")
                return True
            return False
        notices = [one["message"] for one in now["status"]["conditions"] if one["type"] == "Edited"]
        if fence != UNKNOWN and not any(PERSON in message for message in notices):
            self._wrong(f"{name} was edited by hand and taken back, and says {notices} of it")
        return True

    def _undone(self, rr: Manifest) -> bool:
        """Nothing changed about the storm, so nobody looked: whoever edited it takes it back himself."""
        now = self._read(rr)
        if now is None or not is_edited(now):
            return True
        was, status = rr["spec"], rr["status"]
        very = {"metadata": {"resourceVersion": now["metadata"]["resourceVersion"]}}
        spec = {"signal": was["signal"], "stormAggregation": {"alertCount": was["stormAggregation"]["alertCount"]}}
        done, answer = self._patch(rr, "", very | {"spec": spec})
        if done == 200:
            very["metadata"]["resourceVersion"] = answer["metadata"]["resourceVersion"]
            done, answer = self._patch(
                rr, "/status", very | {"status": {"flaps": status["flaps"], "phase": status["phase"]}}
            )
        return done == 200  # 409: it changed after all

    def _an_open_storm(self, chance: random.Random) -> Manifest | None:
        try:
            status, answer = self._call("GET", f"{GROUP}/remediationrequests")
        except Gone:
            return None
        found = [
            one
            for one in (answer["items"] if status == 200 else [])
            if one["spec"]["type"] == "Storm" and (one.get("status") or {}).get("phase") == "Active"
        ]
        return chance.choice(found) if found else None

    def _read(self, rr: Manifest) -> Manifest | None:
        status, answer = self._call("GET", _path(rr))
        return answer if status == 200 else None

    def _patch(self, rr: Manifest, part: str, change: Manifest) -> tuple[int, Manifest]:
        return self._call("PATCH", f"{_path(rr)}{part}?fieldManager={PERSON}", change, _MERGE)

    @staticmethod
    def _awaited(seconds: float, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(Gone):  # busy: asked again
                if condition():
                    return True
            time.sleep(POLL_S)
        return False
