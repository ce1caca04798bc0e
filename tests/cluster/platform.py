"""Millrace, installed in the cluster once for the session by its own installer, and the ways to its parts."""

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install import releases
from tests.cluster.bucket import Bucket
from tests.cluster.interface import Cluster
from tests.cluster.metrics import Prometheus
from tests.cluster.runs import AirflowLine, Options, Run

VALUES = Path(__file__).with_name("values")
"""What the tests change of an installation."""
NAMESPACES = tuple(
    each["metadata"]["name"] for each in yaml.safe_load_all((REPOSITORY / releases.NAMESPACES).read_text())
)
ENVIRONMENT = "kind"
SHOWN = 4000


@dataclass
class Platform:
    """Everything that is installed, and how to ask it."""

    cluster: Cluster
    airflow: AirflowLine
    prometheus: Prometheus
    bucket: Bucket
    theirs: bool
    """Somebody else's, who had installed it in a cluster of his own: the tests neither upgrade nor uninstall it."""
    values: tuple[Path, ...] = (VALUES,)
    """Folders of values with which it is installed now."""

    def install(self, *more: str) -> None:
        """Install, or upgrade, with the values of now."""
        installed(self.cluster, self.values, *more)

    def pods(self, namespace: str, *selector: str) -> list[dict[str, Any]]:
        """Return the pods of a namespace."""
        more = ["--selector", ",".join(selector)] if selector else []
        return self.cluster.get("pods", "--namespace", namespace, *more)["items"]

    def run(self, options: Options) -> Run:
        """Return a run of the main job, to be entered."""
        return Run(self.cluster, self.airflow, options)


def installed(cluster: Cluster, values: tuple[Path, ...], *more: str) -> CompletedProcess[str]:
    """Run the installer to its end; fail with what it said if it fails."""
    folders = [part for folder in values for part in ("--more-values", str(folder))]
    done = cluster.installer("install", "--environment", ENVIRONMENT, *folders, *more)
    if done.returncode:
        pytest.fail(f"The installer failed ({done.returncode}):\n{(done.stdout + done.stderr)[-SHOWN:]}", pytrace=False)
    return done


def unsettled(cluster: Cluster) -> list[str]:
    """Return the workloads whose pods are not all replaced and ready."""
    found = cluster.get("deployments,statefulsets", "--all-namespaces")["items"]
    return [
        each["metadata"]["name"]
        for each in found
        if each["metadata"]["namespace"] in NAMESPACES and not _is_settled(each)
    ]


def _is_settled(workload: dict[str, Any]) -> bool:
    status, wanted = workload.get("status", {}), workload["spec"]["replicas"]
    numbers = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
    return status.get("observedGeneration") == workload["metadata"]["generation"] and numbers == [wanted] * 3


@contextlib.contextmanager
def platform_of(cluster: Cluster) -> Iterator[Platform]:
    """Install everything that is not there, and open the ways to it."""
    there = cluster.kubectl("get", "deployment", "airflow-api-server", "--namespace", "airflow", check=False).stdout
    theirs = cluster.kind == "existing" and bool(there)
    if not theirs:
        installed(cluster, (VALUES,))
    password = cluster.get("secret", "airflow-admin", "--namespace=airflow")["data"]["password"]
    with contextlib.ExitStack() as closing:
        airflow = AirflowLine(cluster, base64.b64decode(password).decode())
        prometheus, bucket = Prometheus(cluster), Bucket(cluster)
        for each in (airflow, prometheus, bucket):
            closing.callback(each.close)
        yield Platform(cluster, airflow, prometheus, bucket, theirs)
