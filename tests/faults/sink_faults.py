"""Faults of the sink: something in its way, and a lock that is not given back."""

from __future__ import annotations

import contextlib
import fcntl

from lua_scripts.keys import StormKeys
from tests.faults.struck import Struck


def sink_refuses(at: Struck) -> None:
    """Something else stands where the objects of the namespace are to go; then somebody mends it."""
    folder = at.situation.stack.manifests / at.situation.scene.namespace
    aside = at.situation.stack.folder / f"{folder.name}.aside"
    if folder.exists():
        folder.rename(aside)
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    at.stop.release()
    at.stop.wait_over()
    assert at.situation.stack.redis.client.hget(StormKeys(at.situation.storm_id).header, "fa"), "it was not refused"
    folder.unlink()
    if aside.exists():
        aside.rename(folder)


def sink_hangs(at: Struck) -> None:
    """The object's lock is held by somebody who does not let go before the lease is over."""
    with contextlib.ExitStack() as held:
        folder = at.situation.stack.manifests / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        for stripe in range(256):
            handle = held.enter_context((folder / f"{stripe:02x}").open("ab"))
            fcntl.flock(handle, fcntl.LOCK_EX)
        at.stop.release()
        at.stop.wait_over()
