"""An object that cannot be closed keeps neither the others nor the first write of any storm waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from lua_scripts.leases import Claim, Leases
from lua_scripts.orphans import Orphans
from tasks.manifests import Manifest, storm_manifest
from tasks.reconcile import Reconciler
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.directory import DirectorySink
from tasks.sinks.errors import NotYet, SinkError, SinkRefused
from tests.scripts.lab import STORM, Lab, many
from tests.support.contents import storm
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


class Guarded(DirectorySink):
    """Somebody's policy: this one object must not be touched; or there is no time for it now."""

    untouchable = "storm-untouchable-0123456780"

    def __init__(self, root: Path, error: SinkError) -> None:
        super().__init__(root)
        self._error = error

    def put_status(self, manifest: Manifest, known: ObjectRef, deadline: Deadline, *, queue: bool = True) -> ObjectRef:
        if known.name == self.untouchable:
            raise self._error
        return super().put_status(manifest, known, deadline, queue=queue)


@pytest.mark.parametrize("error", [SinkRefused("403: denied by a policy"), NotYet("the budget is used up", 2.0)])
def test_the_others_are_closed_and_storms_are_written(tmp_path: Path, error: SinkError) -> None:
    # Given three objects that nothing stands for any more, of which one cannot be closed, and a storm never written
    server = RedisServer(tmp_path).start()
    try:
        sink = Guarded(tmp_path / "manifests", error)
        names = ["storm-a-0123456780", Guarded.untouchable, "storm-z-0123456780"]
        for number, name in enumerate(names):
            content = storm(name=name, namespace="shop", storm_id=f"{number}{'a' * 15}")
            sink.put(storm_manifest(content), None, Deadline(10))
        lab = Lab(server.client)
        lab.deliver(*many(12))
        orphans = Orphans(server.client)
        # When the sink is looked through, and all grace is over
        done = Reconciler(orphans, sink, grace_ms=0).run()
        # Then the others are closed,
        assert (done.seen, done.lost) == (3, 3)
        phases = [manifest["status"]["phase"] for _, manifest in sink.owned(Deadline(10))]
        assert phases == ["Stale", "Active", "Stale"]
        # And the storm is leased, now that the sink was looked through
        leases = Leases(server.client)
        claims = []

        def claimed() -> bool:
            claims.append(leases.claim(STORM, "holder", 10_000, lab.rules, reconciled=True))
            return isinstance(claims[-1], Claim)

        wait_until(claimed, "the storm to be leased", describe=lambda: claims[-1])
    finally:
        server.stop()
