"""Addresses of the local cluster, and the configuration of each of the node's programs."""

from pathlib import Path
from typing import Any

NODE = "millrace-tests"
ADDRESS = "10.244.255.1"
"""The node's; outside the pods' own range, inside what the chart takes for private networks."""
LINK = "node"
API_PORT = 6443
PODS = "10.244.0.0/16"
NODE_PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/24"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
DOMAIN = "cluster.local"
PAUSE = "docker.io/millrace-tests/pause:0.1.0"
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets for the whole machine. Here it finds all as it wants it, and the machine is left alone."""


def containerd(folder: Path, programs: Path) -> str:
    """Return containerd's configuration (TOML).

    Args:
        folder: where it keeps images and containers; on a file system that overlays can be made on.
        programs: where the plugins of CNI are.
    """
    return f"""version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.cri.v1.nri"]

[grpc]
  address = "{folder}/containerd.sock"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
  # A process that may not raise its own rank among the victims of memory shortage can't do so for others.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{programs}"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def network(folder: Path) -> dict[str, Any]:
    """Return the configuration of the pods' network: each has a link of its own to the node, which routes."""
    plugin = {
        "type": "ptp",
        "mtu": 1500,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{folder}/addresses",
            "ranges": [[{"subnet": NODE_PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}


def kubelet(folder: Path, authority: Path, certificate: Path, key: Path, group: str) -> dict[str, Any]:
    """Return the kubelet's configuration; the control group `group` holds all pods."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "enforceNodeAllocatable": ["pods"],
        # A disk that is nearly full for others' sake is no reason to end pods of a test.
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "100Mi", "imagefs.available": "100Mi"},
        "evictionPressureTransitionPeriod": "10s",
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "oomScoreAdj": 0,
        "podLogsDir": f"{folder}/logs/pods",
        "readOnlyPort": 0,
        "registerNode": True,
        "resolvConf": f"{folder}/resolv.conf",
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "volumePluginDir": f"{folder}/volume-plugins",
    }


def proxy(kubeconfig: Path) -> dict[str, Any]:
    """Return kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": ADDRESS,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": PODS,
        # Counts for the whole machine; left as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": NODE,
        "metricsBindAddress": f"{ADDRESS}:10249",
        "mode": "iptables",
    }
