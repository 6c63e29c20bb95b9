"""A real Kubernetes control plane (etcd and kube-apiserver) for a whole test run, shared between its processes.

Every user holds a shared lock on one file, and the kernel lets go of it however the user ends. A supervisor process
waits for the exclusive lock, so it goes when the last user is gone, killed ones included; what it started dies with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
WORKER = "system:serviceaccount:stormfold-system:stormfold-worker"
USERS = {
    "admin": "system:masters",
    WORKER: "system:serviceaccounts,system:serviceaccounts:stormfold-system",
    "nobody": "nobody",
    "throttled": "workers",
}
"""Who may log in, with their groups; each one's token is its name with dashes."""

_START_S = 90.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class ControlPlane:
    """Where it listens, and how to talk to it."""

    folder: str
    assets: str
    url: str

    def kubeconfig(self, user: str = "admin") -> Path:
        """A kubeconfig of one of USERS."""
        return Path(self.folder) / f"kubeconfig-{_token(user)}"

    def kubectl(self, *arguments: str, user: str = "admin", stdin: str | None = None) -> str:
        """What kubectl prints; a failure shows what it said."""
        command = [f"{self.assets}/kubectl", f"--kubeconfig={self.kubeconfig(user)}", *arguments]
        cache = {"KUBECACHEDIR": f"{self.folder}/kubectl-cache", "PATH": os.environ["PATH"]}
        done = subprocess.run(command, input=stdin, env=cache, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

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


@contextlib.contextmanager
def shared(folder: Path, assets: Path) -> Iterator[ControlPlane]:
    """The control plane of this folder: started by whoever comes first, stopped when the last user is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    supervisor: subprocess.Popen[bytes] | None = None
    with open(folder / "users.lock", "ab") as user:
        with open(folder / "start.lock", "ab") as starter:
            fcntl.flock(starter, fcntl.LOCK_EX)
            # Blocks while an earlier supervisor is stopping: it holds the exclusive lock to its end.
            fcntl.flock(user, fcntl.LOCK_SH)
            plane = _running(folder)
            if plane is None:
                supervisor = _spawn(folder, assets)
                plane = _started(folder, supervisor)
        yield plane
    if supervisor is not None:
        # Alone, this process sees it end; beside others, the last of them may still be at work.
        with contextlib.suppress(subprocess.TimeoutExpired):
            supervisor.wait(timeout=10)


def _running(folder: Path) -> ControlPlane | None:
    try:
        plane = ControlPlane(**json.loads((folder / "state.json").read_text()))
    except FileNotFoundError:
        return None
    return plane if plane.ready() else None


def _spawn(folder: Path, assets: Path) -> subprocess.Popen[bytes]:
    (folder / "state.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.cluster.control_plane", str(folder), str(assets)]
    with open(folder / "supervisor.log", "ab") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _started(folder: Path, supervisor: subprocess.Popen[bytes]) -> ControlPlane:
    def state() -> ControlPlane | None:
        if supervisor.poll() is not None:
            raise AssertionError(f"no control plane: {(folder / 'supervisor.log').read_text()[-4000:]}")
        return _running(folder)

    plane = wait_until(state, f"a control plane in {folder}", deadline_s=_START_S)
    assert plane is not None
    return plane


def _token(user: str) -> str:
    return user.replace(":", "-")


class _Supervisor:
    """Owns etcd and kube-apiserver."""

    def __init__(self, folder: Path, assets: Path) -> None:
        self.folder, self.assets = folder, assets
        self.children: list[subprocess.Popen[bytes]] = []

    def run(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with open(self.folder / "users.lock", "ab") as users:
            try:
                self._start()
                while self._alive() and not _locked(users):
                    time.sleep(0.2)
            finally:
                (self.folder / "state.json").unlink(missing_ok=True)
                self._stop()

    def _start(self) -> None:
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        lines = [f'{_token(user)},{user},{user},"{groups}"\n' for user, groups in USERS.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))
        for attempt in range(3):
            plane = self._try(key)
            if plane is not None:
                break
            # Somebody else took one of the ports in the meantime.
            print(f"attempt {attempt + 1} failed, see the logs beside", flush=True)
            self._stop()
        else:
            raise SystemExit("etcd or kube-apiserver does not start")
        self._write_kubeconfigs(plane)
        plane.kubectl("apply", "-k", str(ROOT / "docker" / "kubernetes"))
        plane.kubectl("wait", "--for=condition=Established", "crd/remediationrequests.remediation.stormfold.io")
        fresh = self.folder / "state.json.tmp"
        fresh.write_text(json.dumps(asdict(plane)))
        fresh.replace(self.folder / "state.json")

    def _try(self, key: Path) -> ControlPlane | None:
        etcd, peer, secure = (f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", free_port())
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)
        self._child(
            "etcd", f"--data-dir={self.folder}/etcd", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._child(
            "kube-apiserver", f"--etcd-servers={etcd}", f"--cert-dir={self.folder}/certs", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={secure}", f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
        )  # fmt: skip
        plane = ControlPlane(str(self.folder), str(self.assets), f"https://127.0.0.1:{secure}")
        wait_until(lambda: plane.ready() or not self._alive(), "kube-apiserver", deadline_s=_START_S, poll_s=0.2)
        return plane if self._alive() else None

    def _child(self, program: str, *arguments: str) -> None:
        with open(self.folder / f"{program}.log", "ab") as log:
            # A supervisor that is killed cannot stop anything any more: the kernel does it then.
            child = subprocess.Popen(
                [str(self.assets / program), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        self.children.append(child)

    def _alive(self) -> bool:
        return all(child.poll() is None for child in self.children)

    def _stop(self) -> None:
        # Nothing in there is wanted any more, so nothing waits for a graceful end.
        for child in reversed(self.children):
            child.kill()
            child.wait()
        self.children.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def _write_kubeconfigs(self, plane: ControlPlane) -> None:
        cluster = {"server": plane.url, "certificate-authority": f"{self.folder}/certs/apiserver.crt"}
        for user in USERS:
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": {"token": _token(user)}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
            plane.kubeconfig(user).write_text(yaml.safe_dump(config))


def _locked(handle: object) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    _Supervisor(Path(sys.argv[1]), Path(sys.argv[2])).run()
