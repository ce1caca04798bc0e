"""A real control plane: etcd, kube-apiserver, and the controllers that the tests need; on free loopback ports.

There is no kubelet and no scheduler: nothing runs in a pod. A test that needs a pod to run says itself what a kubelet
would (tests/control_plane/pods.py), or takes a whole node (tests/cluster/local).
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from embedded.ports import LOOPBACK, free_port
from tests.certificates import Authority, signing_key
from tests.kubernetes.programs import program

START_SECONDS = 120
PARENT_DEATH_SIGNAL = 1
CONTROLLERS = (
    "namespace-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "garbage-collector-controller",
    "job-controller",
)


def _end_with_the_tests() -> None:
    """Runs in the child: Linux ends it when the tests are killed before they could."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc.cluster.local")
"""Of the API server, besides kubernetes.default.svc."""


class Process:
    """A program in a session of its own, ended by its process id; its output goes to a file."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.name = Path(command[0]).name
        self.log = log
        self._begin(command)

    def _begin(self, command: Sequence[str | Path]) -> None:
        log = self.log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,
                preexec_fn=_end_with_the_tests,  # noqa: PLW1509 - the tests start programs from one thread
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until it is ready. Raises RuntimeError, with the end of its log, if it isn't or has ended."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not self.runs() or time.monotonic() >= deadline:
                raise RuntimeError(f"{self.name} did not start: {self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it at once: its data are needed no more, and an API server would wait for everybody who watches."""
        self._process.kill()
        self._process.wait()


class ControlPlane:
    """Starts and ends the programs, and knows how to reach them. Certificates and data are in `folder`."""

    def __init__(self, folder: Path, address: str = LOOPBACK, port: int = 0, service: str = "10.96.0.1") -> None:
        self.folder = folder
        self.address = address
        self.authority = Authority(folder / "certificates")
        self.port = port or free_port()
        self.url = f"https://{address}:{self.port}"
        self._etcd_port = free_port()
        self._token_key = signing_key(folder / "certificates" / "tokens.key")
        self._server = self.authority.sign(
            "server", "kube-apiserver", server=True, addresses=(address, service), names=NAMES
        )
        self._to_kubelets = self.authority.sign("to-kubelets", "kube-apiserver-kubelet-client", ("system:masters",))
        self._running: dict[str, Process] = {}
        self.admin = self.kubeconfig("admin", groups=("system:masters",))

    def kubeconfig(
        self, user: str, *, groups: tuple[str, ...] = (), token: str | None = None, namespace: str = "default"
    ) -> Path:
        """Return a kubeconfig for a user: by a certificate that names groups, or by a token.

        What names no namespace is meant for `namespace`.
        """
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        if token is None:
            certificate, key = self.authority.sign(path.stem, user, groups)
            credentials = {"client-certificate": str(certificate), "client-key": str(key)}
        else:
            credentials = {"token": token}
        context = {"cluster": "test", "user": user, "namespace": namespace}
        server = {"server": self.url, "certificate-authority": str(self.authority.path)}
        path.touch(mode=0o600)
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": server}],
                    "users": [{"name": user, "user": credentials}],
                    "contexts": [{"name": "test", "context": context}],
                    "current-context": "test",
                }
            )
        )
        return path

    def start(self) -> None:
        """Start etcd and the API server."""
        address, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{free_port()}"
        etcd: list[str | Path] = [
            program("etcd"),
            "--data-dir",
            self.folder / "etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        etcd += [f"--listen-client-urls={address}", f"--advertise-client-urls={address}"]
        etcd += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        self._run("etcd", [*etcd, f"--initial-cluster=default={peer}"])
        self.start_api()

    def start_api(self) -> None:
        """Start the API server, for the first time or again."""
        settings = self._api_settings()
        command: list[str | Path] = [program("kube-apiserver"), "--authorization-mode=Node,RBAC"]
        process = self._run("kube-apiserver", [*command, *(f"--{key}={value}" for key, value in settings.items())])
        process.wait_until(lambda: self.answers("/readyz"))

    def _api_settings(self) -> dict[str, object]:
        return {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": self.address,
            "advertise-address": self.address,
            "secure-port": self.port,
            "cert-dir": self.folder / "certificates",
            "tls-cert-file": self._server[0],
            "tls-private-key-file": self._server[1],
            "client-ca-file": self.authority.path,
            "service-account-issuer": self.url,
            "service-account-key-file": self._token_key,
            "service-account-signing-key-file": self._token_key,
            "service-cluster-ip-range": "10.96.0.0/24",
            "enable-admission-plugins": "NodeRestriction",
            "kubelet-client-certificate": self._to_kubelets[0],
            "kubelet-client-key": self._to_kubelets[1],
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": "false",
            "endpoint-reconciler-type": "none",
        }

    def stop_api(self) -> None:
        """End the API server; etcd keeps all objects."""
        self._running.pop("kube-apiserver").end()

    def start_controllers(self, names: Sequence[str] = CONTROLLERS, **settings: object) -> None:
        """Start the controllers; the definitions of the kinds whose objects they clean up must be there already."""
        certificate = self.kubeconfig("system:kube-controller-manager")
        port = free_port()
        command: list[str | Path] = [
            program("kube-controller-manager"),
            f"--kubeconfig={certificate}",
            "--leader-elect=false",
        ]
        command += [f"--controllers={','.join(names)}", "--use-service-account-credentials=true"]
        command += ["--bind-address=127.0.0.1", f"--secure-port={port}", f"--root-ca-file={self.authority.path}"]
        command += [f"--service-account-private-key-file={self._token_key}"]
        command += [f"--cert-dir={self.folder / 'certificates'}"]
        command += [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
        self._run("kube-controller-manager", command)

    def end(self) -> None:
        """End everything: whoever asks before whom he asks."""
        for name in reversed(list(self._running)):
            self._running.pop(name).end()

    def answers(self, path: str) -> bool:
        """Whether the API server says `ok` to a path."""
        result = self.kubectl("get", "--raw", path, check=False)
        return result.returncode == 0 and result.stdout == "ok"

    def kubectl(
        self, *arguments: str | Path, given: Any = None, check: bool = True, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, by default as the administrator. Objects that are `given` are its standard input.

        Raises RuntimeError, with what it said, if it fails and `check` isn't False.
        """
        result = subprocess.run(
            [str(program("kubectl")), "--kubeconfig", str(kubeconfig or self.admin), *map(str, arguments)],
            input=None if given is None else json.dumps(one_object(given)),
            env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and result.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {result.stderr.strip()}")
        return result

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "--output=json").stdout)

    def define(self, definitions: list[dict[str, Any]]) -> None:
        """Define kinds, and wait until the API server serves them. Raises RuntimeError if it doesn't in time."""
        self.kubectl("apply", "--server-side", "--filename=-", given=definitions)
        names = [f"crd/{each['metadata']['name']}" for each in definitions]
        deadline = time.monotonic() + START_SECONDS
        # kubectl gives up on a definition that has no conditions at all yet.
        while True:
            last = time.monotonic() >= deadline
            waited = self.kubectl("wait", *names, "--for=condition=Established", "--timeout=60s", check=last)
            if waited.returncode == 0:
                return
            time.sleep(0.1)

    def token(self, namespace: str, account: str) -> str:
        """Return a token of a service account, as its pod would have."""
        return self.kubectl("create", "token", account, f"--namespace={namespace}").stdout.strip()

    def _run(self, name: str, command: Sequence[str | Path]) -> Process:
        self._running[name] = self._launch(name, command)
        return self._running[name]

    def _launch(self, name: str, command: Sequence[str | Path]) -> Process:
        return Process(command, self.folder / f"{name}.log")


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    """A control plane that runs, and is ended whatever happens."""
    plane = ControlPlane(folder)
    try:
        plane.start()
        yield plane
    finally:
        plane.end()


def namespace(name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a namespace that enforces Pod Security `restricted`."""
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**enforce, **(labels or {})}},
    }


def one_object(given: Any) -> Any:
    """Return several objects as one, which kubectl takes; one as it is."""
    return {"apiVersion": "v1", "kind": "List", "items": given} if isinstance(given, list) else given
