"""Whether RemediationRequests can be written where the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.settings import Settings
from tasks.doctor.findings import Finding, fail, ok, warn
from tasks.manifests import Manifest, single_manifest
from tasks.sinks.errors import SinkError
from tasks.sinks.files import check_writable
from tasks.storms import Signal, SingleContent, Target

if TYPE_CHECKING:
    from tasks.sinks.probe import Probe

APPLY = "kubectl apply -k docker/kubernetes"


def check_sink(settings: Settings, clocks: dict[str, int]) -> Iterator[Finding]:
    """The sink of the settings; what its clock says is added to ``clocks``."""
    kind, _, path = settings.sink.partition(":")
    if kind == "directory":
        yield from check_directory(Path(path))
        return
    # Imported here: the client costs 0.3 s and 43 MiB, which a directory need not pay.
    from tasks.sinks.api import connect
    from tasks.sinks.probe import Probe

    try:
        probe = Probe(connect(), settings.kube_timeout / 1000)
    except SinkError as error:
        yield fail("kubernetes", str(error), "run in the cluster, or set KUBECONFIG")
        return
    try:
        yield from check_cluster(probe, settings, clocks)
    finally:
        probe.close()


def check_directory(root: Path) -> Iterator[Finding]:
    """Writes a file and removes it."""
    try:
        check_writable(root)
    except SinkError as error:
        yield fail("directory", str(error), "give the worker's user the right to write there, or free the disk")
    else:
        yield ok("directory", f"{root.absolute()} is writable")


def check_cluster(probe: Probe, settings: Settings, clocks: dict[str, int]) -> Iterator[Finding]:
    """Reachable, our kind, our rights, and a create that is only tried; stops at what makes the rest meaningless."""
    try:
        version = probe.version()
        yield ok("kubernetes", f"API server {version.text} answers")
        if version.ahead_ms is not None:
            clocks["the API server"] = version.ahead_ms
        definition = _definition(probe)
        yield definition
        missing = list(_missing_rights(probe, settings))
        yield from missing
        if not missing:
            where = settings.namespace or "all namespaces"
            yield ok("kubernetes rights", f"all that a worker needs, in {where}")
        if definition.level != "fail" and all(finding.level != "fail" for finding in missing):
            yield _trial(probe, settings)
            yield _others(probe, settings)
    except SinkError as error:
        yield fail("kubernetes", str(error), "see to the API server, the network or the credentials")


def _definition(probe: Probe) -> Finding:
    from tasks.sinks.probe import lacking, packaged_schema

    about = "custom resource"
    if not probe.served():
        return fail(about, "RemediationRequest is not installed; alerts are kept until it is", APPLY)
    served, wanted = probe.served_schema(), packaged_schema()
    if served is None:
        return warn(about, "installed; the server does not tell its schema", f"apply it anew if in doubt: {APPLY}")
    lost = [path for part in ("spec", "status") for path in lacking(_part(wanted, part), _part(served, part), part)]
    if lost:
        return fail(about, f"the installed one is older: it lacks {', '.join(lost[:5])}", APPLY)
    if any(_part(served, part) != _part(wanted, part) for part in ("spec", "status")):
        return warn(about, "the installed one is of another version", APPLY)
    return ok(about, "installed, of this version")


def _part(schema: Manifest, name: str) -> Manifest:
    found: Manifest = (schema.get("properties") or {}).get(name) or {}
    return found


def _missing_rights(probe: Probe, settings: Settings) -> Iterator[Finding]:
    from tasks.sinks.probe import PLURAL, RIGHTS

    for verb, subresource in RIGHTS:
        if probe.allowed(verb, subresource, settings.namespace):
            continue
        resource = f"{PLURAL}/{subresource}" if subresource else PLURAL
        where = f"namespace {settings.namespace}" if settings.namespace else "all namespaces"
        text = f"may not {verb} {resource} in {where}"
        if verb == "delete":
            if settings.retention:
                yield warn("kubernetes rights", f"{text}: closed objects pile up", APPLY)
        else:
            yield fail("kubernetes rights", text, APPLY)

    if not probe.may_tell(settings.namespace):
        where = f"namespace {settings.namespace}" if settings.namespace else "all namespaces"
        yield warn("kubernetes rights", f"may not create events in {where}: kubectl describe shows none", APPLY)


def _others(probe: Probe, settings: Settings) -> Finding:
    found = probe.others(settings.field_manager, settings.namespace)
    if not found:
        return ok("kubernetes objects", f"all open ones are of this installation, {settings.field_manager}")
    said = ", ".join(f"{name} keeps {count}" for name, count in sorted(found.items()))
    mend = "let each alert go to one installation only; metric stormfold_rival_objects counts storms that both have"
    return warn("kubernetes objects", f"other installations have open ones here: {said}", mend)


def _trial(probe: Probe, settings: Settings) -> Finding:
    namespace = settings.namespace or settings.fallback_namespace
    manifest = single_manifest(
        SingleContent(
            name="rr-doctor", namespace=namespace, storm_id="0" * 16, fingerprint="doctor", key={}, phase="Active",
            signal=Signal("Doctor", "none", {}, {}, ""), target=Target("Unknown", "doctor", ""), ledger={}, flaps=0,
            fence=1, observed_at_ms=0,
        )
    )  # fmt: skip
    error = probe.try_create(manifest)
    if error is None:
        return ok("kubernetes writes", f"an object in {namespace} would be taken")
    mend = f"kubectl create namespace {namespace}" if "not found" in str(error) else "mend what the answer names"
    return fail("kubernetes writes", str(error), mend)
