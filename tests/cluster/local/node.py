"""A whole Kubernetes of one node on this machine: built from Go modules, with no container engine and no registry.

Everything runs in namespaces of its own (namespaces.py). This process joins the node's network while the node is up, so
kubectl, helm, and what the tests themselves open find the cluster, and nothing else does.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from embedded.paths import REPOSITORY
from tests.cluster.layout import Layout
from tests.cluster.local import groups, manifests, settings
from tests.cluster.local.namespaces import Namespaces
from tests.cluster.local.processes import InsideProcess
from tests.cluster.local.registry import serving
from tests.go_tools import go_tool
from tests.kubernetes.plane import ControlPlane
from tests.kubernetes.programs import program

PLACE = Path("/var/tmp")
PREFIX = "millrace-cluster-"
LOAD_SECONDS = 600
PULLS = 2
"""Images that are unpacked at the same time."""
HOST_PROGRAMS = {
    "unshare": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "runc": "runc",
}
"""What is taken from the machine, and the package of Debian that has it."""
PLUGINS = ("host-local", "loopback", "ptp")
SHIM = "containerd-shim-runc-v2"
CONTROLLERS = ("*",)


def why_not() -> str | None:
    """Say why no cluster can be started here, or None if it can."""
    if os.geteuid() != 0:
        return "needs root, for namespaces, mounts and control groups of its own"
    missing = {package for name, package in HOST_PROGRAMS.items() if shutil.which(name) is None}
    if missing:
        return f"needs {', '.join(sorted(missing))}: on Debian `apt-get install {' '.join(sorted(missing))}`"
    return None


def prepare_programs() -> None:
    """Build what the node needs, while registries can be reached. Skips the test where that can't be done."""
    program("kubelet")
    for name in (*PLUGINS, SHIM, "containerd", "ctr", "helm"):
        go_tool(name)


class Node(ControlPlane):
    """The control plane, and a node that runs pods."""

    def __init__(self, folder: Path) -> None:
        self.namespaces = Namespaces()
        super().__init__(folder, settings.ADDRESS, settings.API_PORT, settings.API_SERVICE)
        self.group = folder.name
        self._bin = self._programs()
        self._socket = folder / "containerd.sock"

    def _programs(self) -> Path:
        """Gather what is looked for by name in one folder."""
        place = self.folder / "bin"
        place.mkdir()
        for name in (*PLUGINS, SHIM, "containerd", "ctr"):
            (place / name).symlink_to(go_tool(name))
        for name in ("kubelet", "kube-proxy", "kube-scheduler", "kubectl"):
            (place / name).symlink_to(program(name))
        (place / "helm").symlink_to(go_tool("helm"))
        return place

    @property
    def path(self) -> str:
        """PATH with the node's programs, kubectl and helm among them."""
        return f"{self._bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def environment(self) -> dict[str, str]:
        """What finds the cluster in its network: kubectl, helm, and who they are."""
        return {"PATH": self.path, "KUBECONFIG": str(self.admin)}

    def prepare(self) -> None:
        """Make the node's links, mounts and control group."""
        run = self.namespaces.run
        run("mount", "--make-rprivate", "/")
        run("mount", "--types", "tmpfs", "tmpfs", "/run")
        run("mount", "--types", "tmpfs", "tmpfs", "/var/log")
        tunables = self.folder / "tunables"
        tunables.mkdir()
        for name, value in settings.TUNABLES.items():
            file = tunables / name.replace("/", ".")
            file.write_text(f"{value}\n")
            run("mount", "--bind", file, f"/proc/sys/{name}")
        # No name of the outside is ever found, at once: there is no way to whom the machine would ask.
        (self.folder / "resolv.conf").write_text("")
        run("mount", "--bind", self.folder / "resolv.conf", "/etc/resolv.conf")
        run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", settings.LINK, "type", "bridge")
        run("ip", "address", "add", f"{settings.ADDRESS}/32", "dev", settings.LINK)
        run("ip", "link", "set", settings.LINK, "up")
        # Leads nowhere; but an address of a Service must have a way before the firewall rules can turn it.
        run("ip", "route", "add", "default", "dev", settings.LINK)
        groups.make(self.group)

    def _launch(self, name: str, command: Sequence[str | Path]) -> InsideProcess:
        environment = {"PATH": self.path, "HOME": str(self.folder), "PYTHONPATH": str(REPOSITORY)}
        return InsideProcess(self.namespaces, name, command, self.folder / f"{name}.log", environment)

    def _api_settings(self) -> dict[str, object]:
        return {
            **super()._api_settings(),
            "endpoint-reconciler-type": "lease",
            "service-cluster-ip-range": settings.SERVICES,
        }

    def start(self) -> None:
        """Start everything; the node is ready when this returns."""
        super().start()
        self.start_controllers(
            CONTROLLERS,
            cluster_cidr=settings.PODS,
            service_cluster_ip_range=settings.SERVICES,
            # A node is away for longer than a kubelet takes to come back, and not for minutes.
            node_monitor_grace_period="40s",
        )
        scheduler = self.kubeconfig("system:kube-scheduler")
        self._run(
            "kube-scheduler",
            [
                program("kube-scheduler"),
                f"--kubeconfig={scheduler}",
                f"--authentication-kubeconfig={scheduler}",
                f"--authorization-kubeconfig={scheduler}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
            ],
        )
        self._start_containerd()
        self._start_proxy()
        self._configure_kubelet()
        self.start_kubelet()
        self._run("policies", [sys.executable, "-m", "tests.cluster.local.policies", f"--kubeconfig={self.admin}"])
        self.kubectl(
            "apply", "--server-side", "--filename=-", given=[*manifests.dns(), *manifests.storage(self.folder)]
        )

    def wait_for_names(self) -> None:
        """Wait until names of Services can be looked up."""
        self.kubectl("rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=100s")

    def _start_containerd(self) -> None:
        configuration = self.folder / "containerd.toml"
        configuration.write_text(settings.containerd(self.folder, self._bin))
        network = self.folder / "cni" / "pods.conflist"
        network.parent.mkdir()
        network.write_text(json.dumps(settings.network(self.folder)))
        process = self._run("containerd", [self._bin / "containerd", "--config", configuration])
        process.wait_until(lambda: self._ctr("version").returncode == 0)

    def _start_proxy(self) -> None:
        configuration = self.folder / "kube-proxy.yaml"
        configuration.write_text(yaml.safe_dump(settings.proxy(self.kubeconfig("system:kube-proxy"))))
        self._run("kube-proxy", [program("kube-proxy"), f"--config={configuration}"])

    def _configure_kubelet(self) -> None:
        certificate, key = self.authority.sign("kubelet", settings.NODE, server=True, addresses=(settings.ADDRESS,))
        wanted = settings.kubelet(self.folder, self.authority.path, certificate, key, f"/{self.group}")
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(wanted))
        self.kubeconfig(f"system:node:{settings.NODE}", groups=("system:nodes",))

    def start_kubelet(self) -> None:
        """Start the kubelet, for the first time or again; return when it reports that the node is ready."""
        kubeconfig = self.folder / f"system-node-{settings.NODE}.kubeconfig"
        began = datetime.now(UTC)
        process = self._run(
            "kubelet",
            [
                program("kubelet"),
                f"--config={self.folder / 'kubelet.yaml'}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={settings.NODE}",
                f"--node-ip={settings.ADDRESS}",
                f"--root-dir={self.folder / 'kubelet'}",
                f"--cert-dir={self.folder / 'certificates'}",
            ],
        )
        process.wait_until(lambda: self._ready_since(began))

    def stop_kubelet(self) -> None:
        """End the kubelet at once; the pods go on."""
        self._running.pop("kubelet").end()

    def _ready_since(self, moment: datetime) -> bool:
        """Whether the kubelet has been heard of since, and says that all is well."""
        lease = self.kubectl("get", "lease", settings.NODE, "--namespace=kube-node-lease", "--output=json", check=False)
        if lease.returncode or datetime.fromisoformat(json.loads(lease.stdout)["spec"]["renewTime"]) < moment:
            return False
        node = self.get("node", settings.NODE)
        conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True"

    def load(self, layout: Layout) -> None:
        """Have containerd pull all images of a layout. Raises RuntimeError if it can't.

        From a registry of this process's own, which hands out little more than their descriptions: the layers are put
        into containerd's folder under another name, and what is there already it neither asks for nor reads.
        """
        content = self.folder / "containerd" / "io.containerd.content.v1.content" / "blobs"
        layout.link(content)
        hosts = self.folder / "hosts" / "docker.io"
        hosts.mkdir(parents=True)
        with serving(layout) as address, ThreadPoolExecutor(PULLS) as pool:
            (hosts / "hosts.toml").write_text(f'server = "{address}"\n')
            pull = ["--namespace=k8s.io", "images", "pull", f"--hosts-dir={hosts.parent}"]
            names = sorted(layout.names)
            for name, result in zip(names, pool.map(lambda name: self._ctr(*pull, name), names), strict=True):
                if result.returncode:
                    raise RuntimeError(f"{name} can't be pulled from {layout.folder}: {result.stderr.strip()}")

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._bin / "ctr"), f"--address={self._socket}", *arguments],
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
            check=False,
        )

    def end(self) -> None:
        """End everything, and leave nothing."""
        self._running.clear()
        self.namespaces.end()
        groups.remove(self.group)


@contextmanager
def local_node() -> Iterator[Node]:
    """A node that runs, whose network this process has joined; everything of it is gone after, whatever happens."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PLACE))
    (folder / "owner").write_text(str(os.getpid()))
    node = Node(folder)
    try:
        node.prepare()
        with node.namespaces.joined():
            node.start()
            yield node
    finally:
        node.end()
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove the files and control groups of nodes whose tests were killed; Linux ended their processes with them."""
    for folder in PLACE.glob(f"{PREFIX}*"):
        owner = folder / "owner"
        if owner.exists() and not Path(f"/proc/{owner.read_text()}").exists():
            groups.remove(folder.name)
            shutil.rmtree(folder, ignore_errors=True)
