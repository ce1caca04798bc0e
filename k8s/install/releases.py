"""What is installed and how: k8s/releases/releases.yaml, with the versions of versions.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from k8s.install.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
"""The root of the repository; every command runs there."""
ENVIRONMENTS = ("kind", "staging", "production")
NAMESPACES = "k8s/namespaces.yaml"


@dataclass(frozen=True)
class Wait:
    """What to wait for after a release was installed."""

    what: str
    command: tuple[str, ...]
    """What kubectl is given, but for the namespace and the time."""
    minutes: int


@dataclass(frozen=True)
class Objects:
    """Objects of the cluster that a release needs, or brings."""

    namespaces: tuple[str, ...]
    definitions: tuple[str, ...]
    """CustomResourceDefinitions."""
    secrets: dict[str, tuple[str, ...]]
    """By namespace."""
    config_maps: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Release:
    """One release of one chart."""

    name: str
    namespace: str
    chart: str
    repository: str
    version: str | None
    """None: the chart is in this repository."""
    values: tuple[str, ...]
    """Files of values for every environment, relative to the repository."""
    needs: Objects
    brings: Objects
    spared: dict[str, dict[str, tuple[str, ...]]]
    """Secrets among the needs that an environment does without: by environment, by namespace."""
    replace: tuple[str, ...]
    """Jobs to delete before an upgrade."""
    waits: tuple[Wait, ...]

    def value_files(self, environment: str, more: Sequence[Path] = ()) -> list[str]:
        """The files of values for one environment, the later ones winning; last of all `<release>.yaml` of `more`."""
        overlay = f"k8s/environments/{environment}/{self.name}.yaml"
        own = [file for folder in more if (file := folder / f"{self.name}.yaml").exists()]
        files = [*self.values, *([overlay] if (REPOSITORY / overlay).exists() else [])]
        return [*files, *map(str, own)]

    def secrets(self, environment: str) -> dict[str, list[str]]:
        """The secrets that it needs in an environment, by namespace."""
        spared = self.spared.get(environment, {})
        return {
            namespace: [name for name in names if name not in spared.get(namespace, ())]
            for namespace, names in self.needs.secrets.items()
        }

    @property
    def needed_releases(self) -> set[str]:
        """The names of the releases that bring what it needs."""
        found = {bringer("definition", name) for name in self.needs.definitions}
        found |= {
            bringer("configmap", name, namespace)
            for namespace, names in self.needs.config_maps.items()
            for name in names
        }
        return {name for name in found if name is not None}

    def chart_arguments(self, charts: Path | None = None) -> list[str]:
        """What tells helm which chart to take: that of its registry, or the folder of its name in `charts`."""
        if charts and self.version is not None:
            return [str(charts / self.chart)]
        if self.version is None:
            return [f"{self.repository}/{self.chart}"]
        if self.repository.startswith("oci://"):
            return [f"{self.repository}/{self.chart}", "--version", self.version]
        return [self.chart, "--repo", self.repository, "--version", self.version]


@cache
def versions() -> dict[str, Any]:
    """The content of versions.yaml."""
    return yaml.safe_load((REPOSITORY / "versions.yaml").read_text())


@cache
def releases() -> tuple[Release, ...]:
    """All releases, in the order of their installation."""
    content = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "releases.yaml").read_text())
    return tuple(_release(entry) for entry in content["releases"])


def check_folders(charts: Path | None, more_values: Sequence[Path]) -> None:
    """Look into the folders that stand for registries and that add values.

    Raises:
        UserError: a chart is missing, or a file of values belongs to no release.
    """
    if charts:
        missing = [
            each.chart for each in releases() if each.version and not (charts / each.chart / "Chart.yaml").exists()
        ]
        if missing:
            raise UserError(
                f"{charts} lacks {', '.join(missing)}: unpack each there, in a folder of its name "
                "(`helm pull --untar --untardir`).",
                2,
            )
    names = {release.name for release in releases()}
    for folder in more_values:
        found = {file.stem for file in folder.glob("*.yaml")}
        if not found or found - names:
            wrong = ", ".join(sorted(f"{name}.yaml" for name in found - names)) or "no file *.yaml"
            raise UserError(f"{folder} has {wrong}: name each file after its release ({', '.join(sorted(names))}).", 2)


def find_release(name: str) -> Release:
    """Return the release of that name.

    Raises:
        UserError: there is none.
    """
    for release in releases():
        if release.name == name:
            return release
    names = ", ".join(release.name for release in releases())
    raise UserError(f"There is no release {name!r}: choose one of {names}.", 2)


def bringer(kind: str, name: str, namespace: str = "") -> str | None:
    """Which release brings a definition (kind ``definition``) or a ConfigMap; None if none does."""
    for release in releases():
        if kind == "definition" and name in release.brings.definitions:
            return release.name
        if kind == "configmap" and name in release.brings.config_maps.get(namespace, ()):
            return release.name
    return None


def _release(entry: dict[str, Any]) -> Release:
    ours = entry["repository"] == "charts"
    return Release(
        name=entry["name"],
        namespace=entry["namespace"],
        chart=entry["chart"],
        repository=entry["repository"],
        version=None if ours else versions()["charts"][entry["chart"]],
        values=tuple(entry["values"]),
        needs=_objects(entry.get("needs", {}), namespace=entry["namespace"]),
        brings=_objects(entry.get("brings", {})),
        spared={
            environment: {namespace: tuple(names) for namespace, names in by_namespace.items()}
            for environment, by_namespace in entry.get("spared", {}).items()
        },
        replace=tuple(entry.get("replace", ())),
        waits=tuple(_wait(each) for each in entry["waits"]),
    )


def _wait(entry: dict[str, Any]) -> Wait:
    rollout = entry.get("rollout")
    command = ("rollout", "status", rollout) if rollout else ("wait", *entry["arguments"])
    return Wait(entry["what"], command, entry["minutes"])


def _objects(entry: dict[str, Any], namespace: str | None = None) -> Objects:
    def named(key: str) -> dict[str, tuple[str, ...]]:
        return {place: tuple(names) for place, names in entry.get(key, {}).items()}

    namespaces = ([namespace] if namespace else []) + entry.get("namespaces", [])
    return Objects(tuple(namespaces), tuple(entry.get("definitions", ())), named("secrets"), named("configMaps"))
