"""The programs of a control plane: those of KUBEBUILDER_ASSETS, else built once from their Go modules."""

import hashlib
import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from embedded.settings import load_settings
from embedded.versions import versions
from tests.go_tools import go_program

SOURCE = Path(__file__).parent / "control_plane" / "main.go"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
ASSETS = "KUBEBUILDER_ASSETS"


def program(name: str) -> Path:
    """Return one of NAMES. Skips the test where it is neither there nor can be built, and says why."""
    if assets := os.environ.get(ASSETS):
        for folder in (assets, *(os.environ["PATH"].split(os.pathsep) if name == "kubectl" else ())):
            if os.access(Path(folder) / name, os.X_OK):
                return Path(folder) / name
        pytest.skip(f"{ASSETS} is {assets}, where there is no {name}: put it there, or unset the variable")
    return built() / name


@cache
def built() -> Path:
    """Return the folder of the programs, built if it isn't there yet: 4 minutes on 2 idle cores, 130 MB."""
    kubernetes, etcd = versions()["kubernetes"]["tested_release"], versions()["tools"]["etcd"]
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:8]
    folder = load_settings().home / "tools" / f"kubernetes-{kubernetes}-etcd-{etcd}-{digest}"
    if not folder.exists():
        place = folder.with_name(f"incomplete-{folder.name}-{os.getpid()}")
        place.mkdir(parents=True)
        try:
            go_program(
                SOURCE,
                {"k8s.io/kubernetes": kubernetes, "go.etcd.io/etcd/server/v3": etcd},
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
