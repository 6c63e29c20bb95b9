"""The directory sink of a soak: its objects are files in a folder, and what may happen to such a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml

from tests.soak.faults import SOME, Kinds, freeze_as_it_writes
from tests.soak.seen import Seen, seen_of
from tests.soak.stage import LEASE_S, Stage
from tests.support import objects

UID: Final = "remediation.stormfold.io/file-uid"
LOCKS: Final = 256


def read(path: Path) -> Seen:
    """One manifest, whole: the sink replaces files by renaming."""
    with path.open("rb") as file:
        text = file.read()
        written_at = path.stat().st_mtime
    rr: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return seen_of(rr, fence=objects.fence(rr), uid=rr["metadata"]["annotations"][UID], written_at=written_at)


class Folder:
    """Used as a context manager. The folder that workers know is a link, so that it can be swapped."""

    kind: Final = "directory"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects = folder / "objects"
        self._link = folder / "manifests"
        self._states: dict[Path, tuple[int, int]] = {}
        self._seen: dict[str, Seen] = {}
        self.wrong: list[str] = []
        self.settings: Mapping[str, str] = {"SINK": f"directory:{self._link}"}
        self.lanes: Mapping[str, Kinds] = {
            "sink": {
                "sink is a file": (2, self._is_a_file),
                "sink is read-only": (1, self._is_read_only),
                "sink hangs": (2, self._hangs),
                "worker frozen as it writes": (3, freeze_as_it_writes),
            },
        }

    def __enter__(self) -> Folder:
        self._objects.mkdir(parents=True)
        self._link.symlink_to(self._objects)
        return self

    def __exit__(self, *_: object) -> None:
        """The files stay, for whoever wants to look."""

    def read(self) -> Mapping[str, Seen]:
        for path in self._objects.glob("*/*.yaml"):
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_ino)
            if self._states.get(path) != state:
                self._seen[str(path)] = read(path)
                self._states[path] = state
        return dict(self._seen)

    def removed(self, uid: str) -> bool:
        return False

    @contextlib.contextmanager
    def held(self, *, every: int = 1) -> Iterator[None]:
        """Somebody holds the locks, or one in ``every``, so that workers which write elsewhere go on."""
        folder = self._objects / ".locks"
        folder.mkdir(exist_ok=True)
        with ExitStack() as held:
            for stripe in range(0, LOCKS, every):
                handle = held.enter_context(open(folder / f"{stripe:02x}", "ab"))
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _is(self, target: Path) -> Iterator[None]:
        """The link leads elsewhere for a while; it is swapped in one step."""

        def swap(to: Path) -> None:
            fresh = self._folder / "manifests.fresh"
            fresh.symlink_to(to)
            fresh.replace(self._link)

        swap(target)
        try:
            yield
        finally:
            swap(self._objects)

    def _is_a_file(self, stage: Stage, chance: random.Random) -> bool:
        file = self._folder / "no-folder"
        file.touch()
        with self._is(file):
            stage.pause(chance.uniform(0.5, 4))
        return True

    def _is_read_only(self, stage: Stage, chance: random.Random) -> bool:
        """Each namespace's folder is closed: nothing can be written anew or over. Root is not held up by that."""
        if os.geteuid() == 0:
            return False
        folders = [path for path in self._objects.iterdir() if path.is_dir()]
        for folder in folders:
            folder.chmod(0o555)
        stage.pause(chance.uniform(0.5, 4))
        for folder in folders:
            folder.chmod(0o755)
        return True

    def _hangs(self, stage: Stage, chance: random.Random) -> bool:
        """At times for longer than a lease lasts."""
        with self.held(every=chance.choice((1, 1, SOME))):
            stage.pause(chance.choice((0.5, 2, LEASE_S + 1)))
        return True
