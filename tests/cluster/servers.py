"""The servers of one control plane: etcd, kube-apiserver and, where they are at hand, the controllers."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
WORKER = "system:serviceaccount:stormfold-system:stormfold-worker"
USERS = {
    "admin": "system:masters",
    WORKER: "system:serviceaccounts,system:serviceaccounts:stormfold-system",
    "nobody": "nobody",
    "untold": "untold",
    "confined": "confined",
    "throttled": "workers",
}
"""Who may log in, with their groups; each one's token is its name with dashes."""

AUDITED = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "verbs": ["create", "patch", "update", "delete", "deletecollection"],
            "resources": [
                {"group": "remediation.stormfold.io"},
                {"group": "events.k8s.io", "resources": ["events"]},
                {"group": "", "resources": ["events"]},
            ],
        },
        {"level": "None"},
    ],
}
"""What the audit log holds: every request that writes an object of ours, or an Event."""

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
START_S = 90.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class ControlPlane:
    """Where it listens, and how to talk to it."""

    folder: str
    assets: str
    url: str
    controllers: bool = False
    """Whether kube-controller-manager runs: quotas count, namespaces end, owners' objects are collected."""

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig of one of USERS."""
        return Path(self.folder) / f"kubeconfig-{token_of(user)}"

    @property
    def authority(self) -> Path:
        """The certificate that the server is to be trusted by."""
        return Path(self.folder) / "certs" / "apiserver.crt"

    def kubectl(self, *arguments: str, user: str = "admin", stdin: str | None = None) -> str:
        """What kubectl prints; a failure shows what it said."""
        command = [f"{self.assets}/kubectl", f"--kubeconfig={self.kubeconfig(user)}", *arguments]
        cache = {"KUBECACHEDIR": f"{self.folder}/kubectl-cache", "PATH": os.environ["PATH"]}
        done = subprocess.run(command, input=stdin, env=cache, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def items(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, in one namespace or in all."""
        where = f"--namespace={namespace}" if namespace else "--all-namespaces"
        return list(json.loads(self.kubectl("get", kind, where, "-o", "json"))["items"])

    def audit(self, namespace: str = "") -> list[dict[str, Any]]:
        """The requests that wrote, or tried to, in the order in which they were answered."""
        with contextlib.suppress(FileNotFoundError):
            lines = (Path(self.folder) / "audit.log").read_text().splitlines()
            events = [json.loads(line) for line in lines if line.endswith("}")]
            return [one for one in events if namespace in ("", (one.get("objectRef") or {}).get("namespace"))]
        return []

    def ready(self) -> bool:
        """Whether the API server answers that it is ready."""
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": "Bearer admin"})
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def lacking(assets: Path) -> str:
    """Why there can be no control plane with the programs of this folder; empty where there can."""
    missing = [program for program in PROGRAMS if not (assets / program).is_file()]
    if missing:
        return f"KUBEBUILDER_ASSETS names no folder with {', '.join(missing)} (setup-envtest fetches them)"
    return "" if shutil.which("openssl") else "openssl is not installed"


def token_of(user: str) -> str:
    """The token of one of USERS."""
    return user.replace(":", "-")


class Servers:
    """Starts and stops them; they die with the thread that started them."""

    def __init__(self, folder: Path, assets: Path, *, controllers: bool = True) -> None:
        self.folder, self.assets = folder, assets
        self._controllers = controllers and (assets / "kube-controller-manager").is_file()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd = ""
        self._port = 0

    def start(self, *, install: bool = True) -> ControlPlane:
        """A ready control plane; with ``install`` our definition and rights are in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        lines = [f'{token_of(user)},{user},{user},"{groups}"\n' for user, groups in USERS.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(AUDITED))
        for attempt in range(3):
            if self._start_etcd_and_api():
                break
            # Somebody else took one of the ports in the meantime.
            print(f"attempt {attempt + 1} failed, see the logs beside", flush=True)
            self.stop()
        else:
            raise AssertionError(f"etcd or kube-apiserver does not start, see the logs in {self.folder}")
        plane = self.plane
        self._write_kubeconfigs(plane)
        if install:
            plane.kubectl("apply", "-k", str(ROOT / "docker" / "kubernetes"))
            plane.kubectl("wait", "--for=condition=Established", "crd/remediationrequests.remediation.stormfold.io")
            # For some moments more the server says 429 to whoever asks for our kind; kubectl waits for the end of that.
            plane.kubectl("get", "remediationrequests", "--all-namespaces")
        if self._controllers:
            # Only now: they look for new kinds every 30 s at most, and for minutes would count none of ours in quotas.
            self._start_controllers(plane)
        return plane

    @property
    def plane(self) -> ControlPlane:
        return ControlPlane(str(self.folder), str(self.assets), f"https://127.0.0.1:{self._port}", self._controllers)

    def alive(self) -> bool:
        return all(child.poll() is None for child in self._children.values())

    def stop(self) -> None:
        """Nothing in there is wanted any more, so nothing waits for a graceful end."""
        for child in reversed(self._children.values()):
            child.kill()
            child.wait()
        self._children.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def kill_api(self) -> None:
        """The API server dies; what it stored stays."""
        child = self._children.pop("kube-apiserver")
        child.kill()
        child.wait()

    def signal_api(self, number: signal.Signals) -> None:
        """SIGSTOP makes it accept and never answer, SIGCONT ends that."""
        self._children["kube-apiserver"].send_signal(number)

    def start_api(self) -> None:
        """Again, under the same address; returns once it is ready."""
        self._spawn_api()
        wait_until(lambda: self.plane.ready() or not self.alive(), "kube-apiserver", deadline_s=START_S, poll_s=0.2)
        assert self.alive(), f"kube-apiserver does not come back, see {self.folder}/kube-apiserver.log"

    def _start_etcd_and_api(self) -> bool:
        self._etcd, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._port = free_port()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        self._child(
            "etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={self._etcd}", f"--advertise-client-urls={self._etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._spawn_api()
        wait_until(lambda: self.plane.ready() or not self.alive(), "kube-apiserver", deadline_s=START_S, poll_s=0.2)
        return self.alive()

    def _spawn_api(self) -> None:
        self._child(
            "kube-apiserver", f"--etcd-servers={self._etcd}", f"--cert-dir={self.folder}/certs",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self._port}",
            f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/sa.key",
            f"--service-account-signing-key-file={self.folder}/sa.key",
            f"--audit-policy-file={self.folder}/audit.yaml", f"--audit-log-path={self.folder}/audit.log",
        )  # fmt: skip

    def _start_controllers(self, plane: ControlPlane) -> None:
        self._child(
            "kube-controller-manager", f"--kubeconfig={plane.kubeconfig()}",
            f"--service-account-private-key-file={self.folder}/sa.key", f"--root-ca-file={plane.authority}",
            "--leader-elect=false", "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
            f"--cert-dir={self.folder}/controllers",
        )  # fmt: skip

    def _child(self, program: str, *arguments: str) -> None:
        with open(self.folder / f"{program}.log", "ab") as log:
            # Whoever is killed cannot stop anything any more: the kernel does it then.
            child = subprocess.Popen(
                [str(self.assets / program), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        self._children[program] = child

    @staticmethod
    def _write_kubeconfigs(plane: ControlPlane) -> None:
        for user in USERS:
            write_kubeconfig(plane.kubeconfig(user), plane.url, plane.authority, {"token": token_of(user)})


def write_kubeconfig(path: Path, server: str, authority: Path, credentials: dict[str, str]) -> None:
    """A kubeconfig with one cluster and one user."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": "test", "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config))


@contextlib.contextmanager
def own_servers(folder: Path, assets: Path, *, controllers: bool = False) -> Iterator[Servers]:
    """Servers of one test alone, for what would disturb others; not started yet."""
    servers = Servers(folder, assets, controllers=controllers)
    try:
        yield servers
    finally:
        servers.stop()
