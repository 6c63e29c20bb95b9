"""Manifest files on a disk: locked, read whole, replaced whole, readable by a person at 3 am."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tasks.manifests import Manifest
from tasks.sinks.base import Deadline
from tasks.sinks.errors import SinkRefused, SinkUnavailable

_LOCK_RETRY_S: Final = 0.01
_PASSING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EINTR}
)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BaseDumper):  # type: ignore[misc]
    """Block style throughout, text of several lines as such, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


@contextlib.contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says into the errors of sinks."""
    try:
        yield
    except OSError as error:
        kind = SinkUnavailable if error.errno in _PASSING else SinkRefused
        raise kind(f"{path}: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(root: Path, name: str, deadline: Deadline) -> Iterator[None]:
    """Hold the lock of a name against all processes and threads; the kernel frees it when its holder dies.

    One of 256 files by hash, not one per object: lock files can never be removed safely, so there must be few.
    """
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    stripe = hashlib.blake2b(name.encode(), digest_size=1).hexdigest()
    # flock, not lockf: the latter is the process's, so threads would not exclude each other.
    with open(folder / stripe, "ab") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if deadline.remaining() <= 0:
                    raise SinkUnavailable(f"{name}: another process holds its lock") from None
                time.sleep(min(_LOCK_RETRY_S, deadline.remaining()))
        yield


def read_manifest(path: Path) -> Manifest | None:
    """The manifest at the path, or None where there is no file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest: Manifest = yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeError) as error:
        raise SinkRefused(f"{path}: not YAML; mend or remove it") from error
    if not _well_formed(manifest):
        raise SinkRefused(f"{path}: not a manifest; mend or remove it")
    return manifest


def _well_formed(manifest: Any) -> bool:
    """Whether what the sink looks into has the right types, whatever an editor did to the file."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("metadata"), dict):
        return False
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    maps = (metadata.get("labels") or {}, metadata.get("annotations") or {}, status)
    if not all(isinstance(each, dict) for each in maps):
        return False
    conditions = status.get("conditions") or []
    return isinstance(conditions, list) and all(isinstance(each, dict) for each in conditions)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Put the manifest at the path, whole and on the disk, or not at all. The caller holds the lock."""
    text = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync_folder(path.parent.parent)
    # The name is fixed, so that what a killed process left is replaced by the next write.
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(fresh, flags, 0o666), "wb") as handle:
            handle.write(text.encode())
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    _sync_folder(path.parent)


def check_writable(root: Path) -> None:
    """Writes a file below the root as a manifest is written, and removes it. Raises ``SinkError``."""
    trial = root / f".trial-{os.getpid()}"
    with sink_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        write_manifest(trial, {})
        trial.unlink()


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
