"""A sink that keeps each RemediationRequest as a YAML file, under the same fence as a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from tasks.events import Event
from tasks.manifests import FENCE_ANNOTATION, GROUP, Manifest
from tasks.sinks.base import Deadline, ObjectRef
from tasks.sinks.errors import ObjectGone, SinkRefused, SinkUnavailable
from tasks.sinks.files import locked, read_manifest, sink_errors, write_manifest
from tasks.sinks.objects import (
    FIELD_MANAGER,
    check_name,
    is_stormfolds,
    merge_status,
    needs_update,
    number_of,
    refuse_if_newer,
    signed,
)

# What a server would keep in metadata stands in annotations, so that `kubectl apply -f` takes the files as they are:
# it refuses a uid or a resourceVersion that is not the cluster's own.
UID_ANNOTATION: Final = f"{GROUP}/file-uid"
VERSION_ANNOTATION: Final = f"{GROUP}/file-version"
GENERATION_ANNOTATION: Final = f"{GROUP}/file-generation"


log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DirectorySink:
    """``ROOT/<namespace>/<name>.yaml``: lock, compare the fence, write beside, fsync, rename."""

    def __init__(self, root: Path, installation: str = FIELD_MANAGER) -> None:
        self._root = root
        self._installation = installation

    @property
    def installation(self) -> str:
        return self._installation

    def put(self, manifest: Manifest, known: ObjectRef | None, deadline: Deadline) -> ObjectRef:
        manifest = signed(manifest, self._installation)
        namespace = known.namespace if known else manifest["metadata"]["namespace"]
        path = self._path(namespace, manifest["metadata"]["name"])
        with sink_errors(path), locked(self._root, f"{namespace}/{path.name}", deadline):
            existing = read_manifest(path)
            if known is not None:
                existing = _the_very(existing, known, path)
                refuse_if_newer(existing, manifest)
            elif existing is not None and not needs_update(existing, manifest):
                return _replace(path, existing, _fenced(existing, manifest), manifest["status"], deadline)
            return _replace(path, existing, _spec_of(manifest, existing, namespace), manifest["status"], deadline)

    def put_status(self, manifest: Manifest, known: ObjectRef, deadline: Deadline, *, queue: bool = True) -> ObjectRef:
        path = self._path(known.namespace, known.name)
        with sink_errors(path), locked(self._root, f"{known.namespace}/{path.name}", deadline):
            existing = _the_very(read_manifest(path), known, path)
            refuse_if_newer(existing, manifest)
            return _replace(path, existing, _fenced(existing, manifest), manifest["status"], deadline)

    def announce(self, about: ObjectRef, event: Event, deadline: Deadline, storm_id: str = "") -> None:
        """Files have nobody to tell: what stands in them says it all."""

    def delete(self, known: ObjectRef, deadline: Deadline) -> bool:
        path = self._path(known.namespace, known.name)
        with sink_errors(path), locked(self._root, f"{known.namespace}/{path.name}", deadline):
            existing = read_manifest(path)
            if existing is None or _ref(existing) != known:
                return False
            if deadline.remaining() <= 0:
                raise SinkUnavailable(f"{path}: no time is left")
            path.unlink()
            return True

    def owned(self, deadline: Deadline) -> Iterator[tuple[ObjectRef, Manifest]]:
        for path in sorted(self._root.glob("*/*.yaml")):
            try:
                with sink_errors(path):
                    manifest = read_manifest(path)
            except SinkRefused as error:
                # One file that somebody spoilt must not hide the others.
                log.error("a manifest cannot be read", reason=str(error))
                continue
            if manifest is not None and is_stormfolds(manifest):
                yield _ref(manifest), manifest

    def close(self) -> None:
        """Nothing is held between two calls."""

    def _path(self, namespace: str, name: str) -> Path:
        check_name(namespace, "namespace")
        check_name(name, "name")
        return self._root / namespace / f"{name}.yaml"


def _the_very(existing: Manifest | None, known: ObjectRef, path: Path) -> Manifest:
    if existing is None:
        raise ObjectGone(f"{path} is gone")
    if _annotation(existing, UID_ANNOTATION) != known.uid:
        raise ObjectGone(f"{path} is another object now")
    return existing


def _spec_of(manifest: Manifest, existing: Manifest | None, namespace: str) -> Manifest:
    """The object with our spec and metadata; labels and annotations of others stay."""
    metadata = manifest["metadata"]
    before = existing["metadata"] if existing else {}
    generation = number_of(_annotation(existing, GENERATION_ANNOTATION)) if existing else 0
    if existing is None or existing.get("spec") != manifest["spec"]:
        generation += 1
    uid = _annotation(existing, UID_ANNOTATION) if existing else ""
    own = {GENERATION_ANNOTATION: str(generation), UID_ANNOTATION: uid or str(uuid.uuid4())}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {
            "name": metadata["name"],
            "namespace": namespace,
            "labels": (before.get("labels") or {}) | metadata["labels"],
            "annotations": (before.get("annotations") or {}) | metadata["annotations"] | own,
        },
        "spec": manifest["spec"],
        "status": (existing or {}).get("status") or {},
    }


def _replace(path: Path, existing: Manifest | None, fresh: Manifest, status: Manifest, deadline: Deadline) -> ObjectRef:
    """Write where something changed, as a server does: else the version stays."""
    fresh = fresh | {"status": merge_status(status, fresh.get("status") or {})}
    if fresh != existing:
        version = number_of(_annotation(existing, VERSION_ANNOTATION)) + 1 if existing else 1
        fresh = _annotated(fresh, {VERSION_ANNOTATION: str(version)})
        if deadline.remaining() <= 0:
            raise SinkUnavailable(f"{path}: no time is left of the lease")
        write_manifest(path, fresh)
    return _ref(fresh)


def _ref(manifest: Manifest) -> ObjectRef:
    return ObjectRef(
        namespace=manifest["metadata"]["namespace"],
        name=manifest["metadata"]["name"],
        uid=_annotation(manifest, UID_ANNOTATION),
        resource_version=_annotation(manifest, VERSION_ANNOTATION),
    )


def _fenced(existing: Manifest, manifest: Manifest) -> Manifest:
    """A server takes no annotation along with a status; a file does, so both fences are always the same here."""
    return _annotated(existing, {FENCE_ANNOTATION: manifest["metadata"]["annotations"][FENCE_ANNOTATION]})


def _annotated(manifest: Manifest, more: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    return manifest | {"metadata": metadata | {"annotations": (metadata.get("annotations") or {}) | more}}


def _annotation(manifest: Manifest, name: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, ""))
