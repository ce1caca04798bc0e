"""The upstream charts at their pinned versions, rendered with our values, where they can be had.

They are looked for in the folder that MILLRACE_UPSTREAM_CHARTS names (each unpacked in a folder of its name), then
pulled from their repositories, once. Where neither works, as without the internet, a test that needs one is skipped.
"""

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.settings import load_settings
from k8s.install.releases import Release, find_release, versions
from tests.charts.render import helm

PULL_SECONDS = 60


def chart(release: Release) -> Path:
    """The chart's folder. Skips the test where it can't be had."""
    found, reason = _chart(release.name)
    if found is None:
        pytest.skip(f"the chart {release.chart} {release.version} can't be had here: {reason}")
    return found


@cache
def _chart(name: str) -> tuple[Path | None, str]:
    release = find_release(name)
    if release.version is None:
        return REPOSITORY / release.repository / release.chart, ""
    given = os.environ.get("MILLRACE_UPSTREAM_CHARTS")
    if given and (Path(given) / release.chart / "Chart.yaml").exists():
        return Path(given) / release.chart, ""
    place = load_settings().home / "charts" / f"{release.chart}-{release.version}"
    if not (place / release.chart / "Chart.yaml").exists():
        command = [str(helm()), "pull", *release.chart_arguments(), "--untar", "--untardir", str(place)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=PULL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None, "its repository does not answer"
        if result.returncode:
            return None, result.stderr.strip().splitlines()[-1]
    return place / release.chart, ""


class Loader(yaml.CSafeLoader):
    """Reads what the Kubernetes definitions have: a lone `=` is a text there."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


@cache
def render(release_name: str, environment: str, crds: bool = False) -> tuple[dict[str, Any], ...]:
    """What `helm template` makes of a release in an environment: hooks too, and definitions if asked for."""
    documents = yaml.load_all(render_text(find_release(release_name), environment, crds), Loader)
    return tuple(each for each in documents if each)


def render_text(release: Release, environment: str, crds: bool = False) -> str:
    """The text that `helm template` writes."""
    command = [str(helm()), "template", release.name, str(chart(release)), "--namespace", release.namespace]
    for file in release.value_files(environment):
        command += ["--values", str(REPOSITORY / file)]
    command += ["--include-crds"] if crds else ["--skip-crds"]
    command += ["--kube-version", versions()["kubernetes"]["minimum"]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def merged_values(release: Release, environment: str) -> dict[str, Any]:
    """Our values for a release, merged as helm merges them; without the chart's own."""
    merged: dict[str, Any] = {}
    for file in release.value_files(environment):
        _merge(merged, yaml.safe_load((REPOSITORY / file).read_text()) or {})
    return merged


def unknown_values(release: Release, environment: str) -> list[str]:
    """Values of ours that the chart does not have: a typing error would have no effect, and nobody would notice."""
    schema = chart(release) / "values.schema.json"
    ours = merged_values(release, environment)
    if schema.exists():
        errors = jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(ours)
        problems = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]
    else:
        problems = []
    return problems + _unknown(ours, _defaults(chart(release)), "")


def _defaults(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "values.yaml").read_text()) or {}
    for below in sorted((folder / "charts").glob("*/values.yaml")):
        _merge_missing(values.setdefault(below.parent.name, {}), yaml.safe_load(below.read_text()) or {})
    return values


def _unknown(ours: dict[str, Any], theirs: dict[str, Any], path: str) -> list[str]:
    found = []
    for key, value in ours.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in theirs:
            # What is empty in the chart is free to be filled: labels, resources, settings by other programs' names.
            if theirs or not path:
                found.append(here)
        elif isinstance(value, dict) and isinstance(theirs[key], dict):
            found += _unknown(value, theirs[key], here)
    return found


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _merge_missing(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge_missing(into[key], value)
        else:
            into.setdefault(key, value)
