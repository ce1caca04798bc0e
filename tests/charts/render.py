"""Renders the chart with real helm, and reads what comes out."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.documents import documents
from tests.go_tools import go_tool

CHART = REPOSITORY / "charts" / "millrace"
EVERYTHING = REPOSITORY / "tests" / "charts" / "everything.yaml"
"""Values that turn everything on."""
RELEASE_NAMESPACE = "millrace"


class RenderError(Exception):
    """Helm refused the values; the message is what it wrote."""


@cache
def helm() -> Path:
    """Return helm: that of the path if it is version 3 or later, else the pinned one, built from its Go module once."""
    found = shutil.which("helm")
    if found and _version(Path(found)).startswith(("v3.", "v4.")):
        return Path(found)
    return go_tool("helm")


def _version(program: Path) -> str:
    command = [str(program), "version", "--template", "{{.Version}}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def render_chart(
    values: dict[str, Any] | None = None, *, files: tuple[Path, ...] = (), chart: Path = CHART
) -> list[dict[str, Any]]:
    """Return the objects that `helm template` makes of the chart with these values. Raises RenderError."""
    return documents(render_text(values, files=files, chart=chart))


def render_text(
    values: dict[str, Any] | None = None, *, files: tuple[Path, ...] = (), chart: Path = CHART, anew: bool = False
) -> str:
    """Return the text that `helm template` writes; what it has once made of the same values, unless `anew`.

    Raises RenderError.
    """
    given = yaml.safe_dump(values or {})
    # The repository's own files stay as they are while the tests run; a test's are what it has written last.
    own = chart == CHART and all(file.is_relative_to(REPOSITORY) for file in files)
    return (_template if own and not anew else _template.__wrapped__)(given, files, chart)


@cache
def _template(given: str, files: tuple[Path, ...], chart: Path) -> str:
    command = [str(helm()), "template", "millrace", str(chart), "--namespace", RELEASE_NAMESPACE]
    command += [part for file in files for part in ("--values", str(file))]
    command += ["--values", "-"]
    command += ["--kube-version", versions()["kubernetes"]["minimum"]]
    result = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise RenderError(result.stderr)
    return result.stdout


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the objects of a kind, each with its namespace, also where that is the release's."""
    return [
        {**each, "metadata": {"namespace": RELEASE_NAMESPACE, **each["metadata"]}}
        for each in objects
        if each["kind"] == kind
    ]


def workloads(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the specs of pods that Deployments, StatefulSets, Jobs and the like make, by kind and name."""
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    }


def by_name(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind by their names."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}
