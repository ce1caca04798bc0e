"""What must be there before anything is made: programs, memory, and what each release needs of the ones before it."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from k8s.install.cluster import Cluster
from k8s.install.errors import UserError
from k8s.install.releases import NAMESPACES, Release, bringer, releases, versions
from k8s.install.runner import ask_json, missing, run

HELM_MINIMUM = (3, 19)
"""What the Airflow chart asks for."""
KUBECTL_MINIMUM = (1, 28)
MEMORY_GIB, CPUS, DISK_GIB = 12, 4, 25
"""What k8s/environments/kind is made for; the disk holds images, volumes and logs."""
KAFKA_CA = "kafka-ca"
"""The one secret that comes with Kafka."""
ALLOWANCE = 0.95
"""A machine sold with 12 GiB reports a little less."""


def check_programs(names: Iterable[str]) -> list[str]:
    """See that programs are installed and new enough; return a line on each.

    Raises:
        UserError: one is missing or too old.
    """
    for name in names:
        if shutil.which(name) is None:
            raise missing(name)
    lines = []
    for name in names:
        if name == "helm":
            version = run(["helm", "version", "--template", "{{.Version}}"]).strip()
            _require("helm", version, HELM_MINIMUM, "the Airflow chart needs it")
        elif name == "kubectl":
            version = ask_json(["kubectl", "version", "--client", "--output", "json"])["clientVersion"]["gitVersion"]
            _require("kubectl", version, KUBECTL_MINIMUM, "`kubectl wait` of older ones lacks what is used here")
        elif name == "kind":
            version = run(["kind", "version"]).strip()
            pinned = versions()["kind"]["version"]
            if _numbers(version) != _numbers(pinned)[:2]:
                version += f" (the node image is made for {pinned}; if the cluster does not come up, install that)"
        else:
            continue
        lines.append(f"{name}: {version}")
    return lines


def check_docker(fresh: bool) -> str:
    """See that Docker answers and has the memory, processors and disk that kind's environment needs; say what it has.

    Args:
        fresh: the cluster is not there yet, so its memory must be free still.

    Raises:
        UserError: it does not, or has not.
    """
    try:
        information = json.loads(run(["docker", "info", "--format", "{{json .}}"]))
    except ValueError:
        raise UserError("`docker info` wrote no JSON: update Docker, then try again.") from None
    if information.get("ServerErrors"):
        raise UserError(f"Docker does not answer ({information['ServerErrors'][0]}): start it, then try again.")
    memory, cpus = information["MemTotal"] / 2**30, information["NCPU"]
    if memory < MEMORY_GIB * ALLOWANCE or cpus < CPUS:
        raise UserError(
            f"Docker has {cpus} CPUs and {memory:.1f} GiB, but Millrace on kind needs {CPUS} and {MEMORY_GIB} "
            "GiB: give it more "
            "(Docker Desktop: Settings, Resources), or take `make run`, which needs no cluster."
        )
    free = _free_memory() if fresh else None
    if free is not None and free < MEMORY_GIB * 0.75:
        raise UserError(
            f"Only {free:.1f} GiB of memory are free, but Millrace on kind fills about {MEMORY_GIB * 0.75:.0f}: "
            "close what takes "
            "much, or take `make run`, which needs no cluster."
        )
    root = information.get("DockerRootDir", "")
    try:
        disk = shutil.disk_usage(root).free / 2**30
    except OSError:
        disk = None  # Docker runs in a machine of its own
    if fresh and disk is not None and disk < DISK_GIB:
        raise UserError(
            f"{root} has {disk:.0f} GiB free, but the images and volumes take up to {DISK_GIB}: make room, for "
            "example with "
            "`docker system prune`."
        )
    return f"docker: {information.get('ServerVersion', '?')}, {cpus} CPUs, {memory:.0f} GiB"


def check_cluster(cluster: Cluster) -> str:
    """See that the cluster answers and is new enough; return a line on it.

    Raises:
        UserError: it does not, or is not.
    """
    contexts = run(["kubectl", "config", "get-contexts", "--output", "name"]).split()
    if cluster.context not in contexts:
        known = ", ".join(contexts) or "none"
        raise UserError(f"The kubeconfig has no context {cluster.context!r} (it has: {known}): name one of those.", 2)
    version = ask_json(cluster.kubectl("version", "--output", "json")).get("serverVersion", {}).get("gitVersion", "")
    minimum = versions()["kubernetes"]["minimum"]
    _require("Kubernetes", version, _numbers(minimum), "Millrace is tested from that on")
    return f"cluster {cluster.context}: Kubernetes {version}"


def check_needs(cluster: Cluster, release: Release, environment: str) -> None:
    """See that everything a release needs is there, before any of it is made.

    Raises:
        UserError: something is missing; the sentence names all of it and where it comes from.
    """
    needs = release.needs
    absent = _absent(cluster, "namespace", needs.namespaces)
    lacking = [f"namespace {name} (kubectl apply --filename {NAMESPACES})" for name in absent]
    for name in _absent(cluster, "customresourcedefinition", needs.definitions):
        lacking.append(f"definition {name} (release {bringer('definition', name)})")
    for namespace, names in needs.config_maps.items():
        for name in _absent(cluster, "configmap", names, namespace):
            lacking.append(f"ConfigMap {namespace}/{name} (release {bringer('configmap', name, namespace)})")
    for namespace, secrets in release.secrets(environment).items():
        for name in _absent(cluster, "secret", secrets, namespace):
            lacking.append(f"secret {namespace}/{name} ({'make kafka-ca' if name == KAFKA_CA else 'make secrets'})")
    if lacking:
        raise UserError(
            f"Release {release.name} was not installed, because it needs what is not there: {'; '.join(lacking)}. "
            "Do what stands in parentheses first; nothing of the release was made."
        )


def check_secrets(cluster: Cluster, environment: str) -> None:
    """See that the secrets of all releases are there, but for those that are copied on the way.

    Raises:
        UserError: some are missing; the sentence names them.
    """
    lacking = []
    for namespace, names in beforehand(environment).items():
        lacking += [f"{namespace}/{name}" for name in _absent(cluster, "secret", names, namespace)]
    if lacking:
        raise UserError(
            f"These secrets are not there: {', '.join(lacking)}. Bring them from your store (docs/gitops.md) "
            "first; no release "
            "was installed."
        )


def secret_commands(cluster: Cluster, environment: str) -> list[list[str]]:
    """The commands that show whether all of those secrets are there."""
    return [
        cluster.kubectl("get", "secret", *names, "--namespace", namespace)
        for namespace, names in beforehand(environment).items()
    ]


def beforehand(environment: str) -> dict[str, list[str]]:
    """The secrets that must be there before the first release is installed, by namespace."""
    found: dict[str, list[str]] = {}
    for release in releases():
        for namespace, names in release.secrets(environment).items():
            found.setdefault(namespace, []).extend(name for name in names if name != KAFKA_CA)
    return found


def _absent(cluster: Cluster, kind: str, names: Iterable[str], namespace: str = "") -> list[str]:
    wanted = list(names)
    there = cluster.existing(kind, wanted, namespace)
    return [name for name in wanted if name not in there]


def _require(program: str, version: str, minimum: tuple[int, ...], why: str) -> None:
    if _numbers(version) < minimum[:2]:
        wanted = ".".join(map(str, minimum))
        raise UserError(
            f"{program} is {version or 'of an unknown version'}, but must be {wanted} or later ({why}): update it."
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor version."""
    found = re.search(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _free_memory() -> float | None:
    """GiB that are free on this machine; None where it does not say, or Docker runs elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable:")), None)
