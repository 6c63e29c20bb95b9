"""What every sink must do, as tests: each kind of sink runs them all against its own world."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Protocol

import pytest

from tasks.manifests import Manifest, single_manifest, storm_manifest
from tasks.sinks import (
    Deadline,
    NewerFence,
    ObjectGone,
    ObjectRef,
    Sink,
    SinkError,
    SinkRefused,
    SinkUnavailable,
)
from tasks.storms import Target
from tests.support.contents import LEDGER, RESOURCES, SIGNAL, SINGLE_NAME, STORM_NAME, T0, single, storm
from tests.support.crd import violations

LATER = "2025-01-02T03:04:35.678Z"


class World(Protocol):
    """A sink and what else one can do where it writes."""

    sink: Sink
    namespace: str

    def read(self, name: str) -> Manifest | None: ...
    def generation(self, name: str) -> int: ...
    def delete(self, name: str) -> None: ...
    def patch(self, name: str, change: Manifest) -> None:
        """A consumer's merge patch, of status or metadata."""


def said(manifest: Manifest | None) -> dict[str, Any]:
    """What an object says, without what the place where it is kept adds."""
    assert manifest is not None
    assert violations(manifest) == []
    return {"spec": manifest["spec"], "status": manifest["status"]}


class SinkContract:
    """The rules; ``world`` is a fixture of each kind of sink."""

    @pytest.fixture
    def deadline(self) -> Deadline:
        return Deadline(30)

    def storm(self, world: World, **changes: Any) -> Manifest:
        return storm_manifest(storm(namespace=world.namespace, **changes))

    def test_creates_the_object_with_its_status(self, world: World, deadline: Deadline) -> None:
        # Given nothing of that name
        manifest = self.storm(world)
        # When it is put
        ref = world.sink.put(manifest, None, deadline)
        # Then the whole object is there, and the reference names it
        stored = world.read(STORM_NAME)
        assert said(stored) == {"spec": manifest["spec"], "status": manifest["status"]}
        assert stored is not None
        assert stored["metadata"]["labels"] == {
            "app.kubernetes.io/instance": "stormfold",
            "app.kubernetes.io/managed-by": "stormfold",
            "remediation.stormfold.io/storm-id": "3f0123456789abcd",
            "remediation.stormfold.io/type": "Storm",
        }
        assert stored["metadata"]["annotations"]["remediation.stormfold.io/fence"] == "3"
        assert (ref.namespace, ref.name) == (world.namespace, STORM_NAME)
        assert ref.uid
        assert ref.resource_version

    def test_an_update_replaces_the_spec_whole(self, world: World, deadline: Deadline) -> None:
        # Given a storm
        first = world.sink.put(self.storm(world), None, deadline)
        generation = world.generation(STORM_NAME)
        # When it grows by one resource, and its alerts have fewer labels in common than they had
        signal = SIGNAL.__class__("KubePodCrashLooping", "warning", {"alertname": "X"}, {}, "")
        grown = self.storm(
            world, fence=4, alert_count=13, total_alerts=13, signal=signal, resources=RESOURCES[:1],
            omitted_resources=2, supersedes=(), observed_at_ms=T0 + 9000,
        )  # fmt: skip
        second = world.sink.put(grown, first, deadline)
        # Then nothing of the old spec is left, the object is the same one, and consumers see a new generation
        expected = {"spec": grown["spec"], "status": grown["status"]}
        for one in expected["status"]["conditions"]:
            one["lastTransitionTime"] = "2025-01-02T03:04:11.678Z"
        assert said(world.read(STORM_NAME)) == expected
        assert second.uid == first.uid
        assert second.resource_version != first.resource_version
        assert world.generation(STORM_NAME) == generation + 1

    def test_the_same_again_changes_nothing(self, world: World, deadline: Deadline) -> None:
        # Given a storm that was created and updated (a server notes the first update in managedFields)
        created = world.sink.put(self.storm(world), None, deadline)
        first = world.sink.put(self.storm(world), created, deadline)
        before = world.read(STORM_NAME)
        # When the same is put and its status too
        second = world.sink.put(self.storm(world), first, deadline)
        third = world.sink.put_status(self.storm(world), second, deadline)
        # Then not even the version moved
        assert (second, third) == (first, first)
        assert world.read(STORM_NAME) == before

    @pytest.mark.parametrize("write", ["put", "put_status"])
    def test_an_older_fence_never_overwrites(self, world: World, deadline: Deadline, write: str) -> None:
        # Given a holder that wrote with fence 5 what an older one knows as of fence 3
        old = world.sink.put(self.storm(world), None, deadline)
        world.sink.put(self.storm(world, fence=5, alert_count=9, phase="Resolved"), old, deadline)
        before = world.read(STORM_NAME)
        # When the older one writes with fence 4
        with pytest.raises(NewerFence) as refusal:
            getattr(world.sink, write)(self.storm(world, fence=4), old, deadline)
        # Then it is told by whom, and the object is untouched
        assert refusal.value.existing == 5
        assert world.read(STORM_NAME) == before

    def test_a_fence_in_the_status_alone_holds_too(self, world: World, deadline: Deadline) -> None:
        # Given a status written with fence 6 over a spec of fence 3
        old = world.sink.put(self.storm(world), None, deadline)
        world.sink.put_status(self.storm(world, fence=6, phase="Stale"), old, deadline)
        # When an older holder writes spec and status with fence 5
        with pytest.raises(NewerFence) as refusal:
            world.sink.put(self.storm(world, fence=5), old, deadline)
        # Then it is refused
        assert refusal.value.existing == 6

    def test_the_status_alone_leaves_the_spec(self, world: World, deadline: Deadline) -> None:
        # Given a Single
        first = world.sink.put(single_manifest(single(namespace=world.namespace)), None, deadline)
        generation = world.generation(SINGLE_NAME)
        before = said(world.read(SINGLE_NAME))
        # When its storm supersedes it; the spec given with it is not complete
        content = single(namespace=world.namespace, phase="Superseded", superseded_by=STORM_NAME, fence=4)
        manifest = single_manifest(content)
        manifest["spec"] = {"type": "Single"}
        second = world.sink.put_status(manifest, first, deadline)
        # Then only the status is another one
        assert said(world.read(SINGLE_NAME)) == {"spec": before["spec"], "status": manifest["status"] | {
            "conditions": [
                {"type": "Active", "status": "False", "reason": "Superseded", "message": f"part of {STORM_NAME}",
                 "lastTransitionTime": "2025-01-02T03:04:11.678Z"},
                {"type": "Resolved", "status": "False", "reason": "Superseded", "message": f"part of {STORM_NAME}",
                 "lastTransitionTime": "2025-01-02T03:04:11.678Z"},
            ]}}  # fmt: skip
        assert second.uid == first.uid
        assert world.generation(SINGLE_NAME) == generation

    def test_a_condition_tells_since_when(self, world: World, deadline: Deadline) -> None:
        # Given a storm that is active since :11
        first = world.sink.put(self.storm(world), None, deadline)
        # When it is written again at :20, and is resolved by :35
        second = world.sink.put_status(self.storm(world, fence=4, observed_at_ms=T0 + 15000), first, deadline)
        still = said(world.read(STORM_NAME))["status"]["conditions"]
        resolved = self.storm(world, fence=5, alert_count=0, phase="Resolved", observed_at_ms=T0 + 30000)
        world.sink.put(resolved, second, deadline)
        over = said(world.read(STORM_NAME))["status"]["conditions"]
        # Then only what turned over has a new time
        assert [one["lastTransitionTime"] for one in still] == ["2025-01-02T03:04:11.678Z"] * 2
        assert [(one["type"], one["status"], one["lastTransitionTime"]) for one in over] == [
            ("Active", "False", LATER),
            ("Resolved", "True", LATER),
        ]

    def test_what_consumers_own_lives_on(self, world: World, deadline: Deadline) -> None:
        # Given a consumer's fields beside ours, written after we last looked
        first = world.sink.put(self.storm(world), None, deadline)
        theirs = {
            "type": "Remediated", "status": "True", "reason": "Restarted", "message": "",
            "lastTransitionTime": "2025-01-02T03:10:00Z",
        }  # fmt: skip
        conditions = said(world.read(STORM_NAME))["status"]["conditions"]
        world.patch(STORM_NAME, {"status": {"assignee": {"team": "shop"}, "conditions": [*conditions, theirs]}})
        world.patch(STORM_NAME, {"metadata": {"labels": {"team": "shop"}, "annotations": {"example.org/note": "seen"}}})
        # When the storm is written, whole and its status alone
        second = world.sink.put(self.storm(world, fence=4, alert_count=11), first, deadline)
        world.sink.put_status(self.storm(world, fence=5, flaps=1), second, deadline)
        # Then ours are new and theirs as they were
        stored = world.read(STORM_NAME)
        assert stored is not None
        assert stored["status"]["flaps"] == 1
        assert stored["status"]["assignee"] == {"team": "shop"}
        assert [one["type"] for one in stored["status"]["conditions"]] == ["Active", "Resolved", "Remediated"]
        assert stored["status"]["conditions"][2] == theirs
        assert stored["metadata"]["labels"]["team"] == "shop"
        assert stored["metadata"]["annotations"]["example.org/note"] == "seen"

    @pytest.mark.parametrize("write", ["put", "put_status"])
    def test_an_object_that_is_gone_is_not_made_again(self, world: World, deadline: Deadline, write: str) -> None:
        # Given somebody deletes what we wrote
        ref = world.sink.put(self.storm(world), None, deadline)
        world.delete(STORM_NAME)
        # When we go on writing to it
        with pytest.raises(ObjectGone):
            getattr(world.sink, write)(self.storm(world, fence=4), ref, deadline)
        # Then it stays gone
        assert world.read(STORM_NAME) is None

    @pytest.mark.parametrize("write", ["put", "put_status"])
    def test_another_object_of_that_name_is_not_ours(self, world: World, deadline: Deadline, write: str) -> None:
        # Given somebody deletes what we wrote and another one stands in its place
        old = world.sink.put(self.storm(world), None, deadline)
        world.delete(STORM_NAME)
        world.sink.put(self.storm(world), None, deadline)
        before = world.read(STORM_NAME)
        # When we write to the one we knew
        with pytest.raises(ObjectGone):
            getattr(world.sink, write)(self.storm(world, fence=4), old, deadline)
        # Then the new one is untouched
        assert world.read(STORM_NAME) == before

    def test_deletes_the_very_object_as_it_was_read(self, world: World, deadline: Deadline) -> None:
        # Given an object that was changed since it was last read, and one that was not
        old = world.sink.put(self.storm(world), None, deadline)
        world.sink.put(self.storm(world, fence=4, alert_count=11), old, deadline)
        before = world.read(STORM_NAME)
        unchanged = world.sink.put(single_manifest(single(namespace=world.namespace)), None, deadline)
        # When both are deleted as they were read, and one of them twice
        deleted = [world.sink.delete(ref, deadline) for ref in (old, unchanged, unchanged)]
        # Then only the unchanged one is gone, and it was so once
        assert deleted == [False, True, False]
        assert (world.read(STORM_NAME), world.read(SINGLE_NAME)) == (before, None)

    def test_another_object_of_that_name_is_not_deleted(self, world: World, deadline: Deadline) -> None:
        # Given an object that was made again since it was read
        old = world.sink.put(self.storm(world), None, deadline)
        assert world.sink.delete(old, deadline)
        new = world.sink.put(self.storm(world), None, deadline)
        before = world.read(STORM_NAME)
        # When the old one is deleted, also where somebody knows the new one's version
        deleted = [
            world.sink.delete(ref, deadline) for ref in (old, replace(old, resource_version=new.resource_version))
        ]
        # Then the new one stays
        assert (deleted, world.read(STORM_NAME)) == ([False, False], before)

    def test_a_create_takes_over_from_an_older_holder(self, world: World, deadline: Deadline) -> None:
        # Given a holder that died before it could tell what it created
        lost = world.sink.put(self.storm(world), None, deadline)
        # When the next one creates
        manifest = self.storm(world, fence=4, alert_count=11)
        ref = world.sink.put(manifest, None, deadline)
        # Then it updates that very object
        assert ref.uid == lost.uid
        assert said(world.read(STORM_NAME))["spec"] == manifest["spec"]

    def test_superseding_keeps_the_details_of_a_single_that_stands(self, world: World, deadline: Deadline) -> None:
        # Given a Single whose writer died before it could tell
        lost = world.sink.put(single_manifest(single(namespace=world.namespace)), None, deadline)
        before = said(world.read(SINGLE_NAME))
        # When its storm, which knows no details any more, creates it as Superseded
        content = single(
            namespace=world.namespace, fence=4, phase="Superseded", superseded_by=STORM_NAME,
            target=Target("Unknown", "unknown", ""),
        )  # fmt: skip
        ref = world.sink.put(single_manifest(content), None, deadline)
        # Then the status tells, the spec is as it was, and the late writer is refused
        after = said(world.read(SINGLE_NAME))
        assert (after["spec"], after["status"]["supersededBy"]) == (before["spec"], STORM_NAME)
        assert ref.uid == lost.uid
        for known in (None, lost):
            with pytest.raises(NewerFence):
                world.sink.put(single_manifest(single(namespace=world.namespace)), known, deadline)

    def test_a_create_whose_answer_was_lost_is_its_own(self, world: World, deadline: Deadline) -> None:
        # Given a create whose answer never came
        lost = world.sink.put(self.storm(world), None, deadline)
        # When the same claim creates the same again, Then it gets that object
        assert world.sink.put(self.storm(world), None, deadline) == lost

    @pytest.mark.parametrize("changes", [{"fence": 2}, {"fence": 3, "alert_count": 1}], ids=["older", "equal"])
    def test_a_create_meets_a_newer_holder(self, world: World, deadline: Deadline, changes: dict[str, Any]) -> None:
        # Given an object of fence 3
        world.sink.put(self.storm(world), None, deadline)
        before = world.read(STORM_NAME)
        # When somebody creates it with no higher fence and other content
        with pytest.raises(NewerFence) as refusal:
            world.sink.put(self.storm(world, **changes), None, deadline)
        # Then that is refused
        assert refusal.value.existing == 3
        assert world.read(STORM_NAME) == before

    def test_a_name_that_something_else_has_is_refused(self, world: World, deadline: Deadline) -> None:
        # Given the object of another storm under our name
        world.sink.put(self.storm(world, key={"alertname": "Another"}), None, deadline)
        before = world.read(STORM_NAME)
        # When ours is created, Then it is refused, however high the fence
        with pytest.raises(SinkRefused, match="something else"):
            world.sink.put(self.storm(world, fence=99), None, deadline)
        assert world.read(STORM_NAME) == before

    @pytest.mark.parametrize(
        "bad", ["", ".", "..", "../x", "a/b", "/etc/x", "a\x00", "A", "-a", "a.b", "a\n", "x" * 64]
    )
    @pytest.mark.parametrize("part", ["name", "namespace"])
    def test_names_cannot_lead_elsewhere(self, world: World, deadline: Deadline, part: str, bad: str) -> None:
        # Given a manifest with a name that is none; When it is put, Then it is refused
        manifest = self.storm(world)
        manifest["metadata"][part] = bad
        with pytest.raises(SinkRefused, match="DNS-1123"):
            world.sink.put(manifest, None, deadline)

    def test_nothing_is_sent_after_the_deadline(self, world: World, deadline: Deadline) -> None:
        # Given a storm, and a deadline that has passed
        ref = world.sink.put(self.storm(world), None, deadline)
        before = world.read(STORM_NAME)
        late = Deadline(0)
        # When anything is written
        with pytest.raises(SinkUnavailable):
            world.sink.put(single_manifest(single(namespace=world.namespace)), None, late)
        with pytest.raises(SinkUnavailable):
            world.sink.put(self.storm(world, fence=4, alert_count=11), ref, late)
        with pytest.raises(SinkUnavailable):
            world.sink.put_status(self.storm(world, fence=4), ref, late)
        with pytest.raises(SinkUnavailable):
            world.sink.delete(ref, late)
        # Then nothing came of it
        assert world.read(SINGLE_NAME) is None
        assert world.read(STORM_NAME) == before

    def test_racing_holders_leave_the_newest(self, world: World, deadline: Deadline) -> None:
        # Given eight holders of growing fences, all of which believe that they must create
        outcomes: dict[int, ObjectRef | SinkError] = {}
        start = threading.Barrier(8)

        def hold(fence: int) -> None:
            manifest = self.storm(world, fence=fence, ledger=LEDGER | {"received": fence}, total_alerts=100 + fence)
            start.wait()
            while True:
                try:
                    outcomes[fence] = world.sink.put(manifest, None, deadline)
                except SinkUnavailable:
                    continue
                except SinkError as error:
                    outcomes[fence] = error
                return

        threads = [threading.Thread(target=hold, args=(fence,)) for fence in range(1, 9)]
        # When they write at once, trying again while told to
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Then the newest one's content stands, whole, and whoever lost was told so
        stored = said(world.read(STORM_NAME))
        assert stored["spec"]["stormAggregation"]["totalAlerts"] == 108
        assert (stored["status"]["ledger"]["received"], stored["status"]["fence"]) == (8, 8)
        refs = [one for one in outcomes.values() if isinstance(one, ObjectRef)]
        assert isinstance(outcomes[8], ObjectRef)
        assert len({ref.uid for ref in refs}) == 1
        assert all(isinstance(one, ObjectRef | NewerFence) for one in outcomes.values())
        assert len(outcomes) == 8
