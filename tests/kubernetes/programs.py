"""The programs of Kubernetes: a control plane from KUBEBUILDER_ASSETS, else all of them built once from Go modules."""

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from embedded.settings import load_settings
from embedded.versions import versions
from tests.go_tools import built_once, go_program

SOURCE = Path(__file__).parent / "main.go"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NAMES = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kube-proxy", "coredns")
ASSETS = "KUBEBUILDER_ASSETS"


def program(name: str) -> Path:
    """Return one of NAMES. Skips the test where it is neither there nor can be built, and says why."""
    if name in CONTROL_PLANE and (assets := os.environ.get(ASSETS)):
        for folder in (assets, *(os.environ["PATH"].split(os.pathsep) if name == "kubectl" else ())):
            if os.access(Path(folder) / name, os.X_OK):
                return Path(folder) / name
        pytest.skip(f"{ASSETS} is {assets}, where there is no {name}: put it there, or unset the variable")
    return built() / name


@cache
def built() -> Path:
    """Return the folder of the programs, built if it isn't there yet: 3 minutes on 2 idle cores, 130 MB."""
    kubernetes, tools = versions()["kubernetes"]["tested_release"], versions()["tools"]
    modules = {
        "k8s.io/kubernetes": kubernetes,
        "go.etcd.io/etcd/server/v3": tools["etcd"],
        "github.com/coredns/coredns": tools["coredns"],
    }
    digest = hashlib.sha256(SOURCE.read_bytes() + repr(sorted(modules.items())).encode()).hexdigest()[:8]
    folder = load_settings().home / "tools" / f"kubernetes-{kubernetes}-{digest}"
    with built_once(folder):
        if not folder.exists():
            place = folder.with_name(f"incomplete-{folder.name}-{os.getpid()}")
            place.mkdir(parents=True)
            try:
                go_program(
                    SOURCE,
                    modules,
                    place / "program",
                    {
                        "k8s.io/component-base/version.gitVersion": f"v{kubernetes}",
                        "k8s.io/client-go/pkg/version.gitVersion": f"v{kubernetes}",
                    },
                )
                for name in NAMES:
                    (place / name).symlink_to("program")
                place.rename(folder)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    return folder
