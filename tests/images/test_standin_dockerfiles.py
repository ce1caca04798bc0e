"""The Dockerfiles of tests/cluster's images, by the rules of our own: see test_dockerfiles.py."""

import re

import pytest
import yaml

from embedded.versions import versions
from tests.cluster.images import DOCKERFILES, NAMES, OPERATORS, PROGRAMS, STANDINS, cluster_name
from tests.images.dockerfiles import IMAGES, Dockerfile, name_of, parse, read

FOLDERS = sorted(path.name for path in DOCKERFILES.iterdir())


def dockerfile(folder: str) -> Dockerfile:
    return parse(DOCKERFILES / folder / "Dockerfile")


@pytest.mark.parametrize("folder", FOLDERS)
def test_defaults_of_build_arguments_are_the_pins(folder):
    base = versions()["base_images"]
    pins = {
        "BASE": f"docker.io/library/debian:{base['debian']}",
        "PYTHON": str(base["python"]),
        "SPARK": name_of("spark"),
        "DEBIAN_FRONTEND": "noninteractive",
        "POSTGRESQL": "17",
    }
    found = dockerfile(folder).arguments()
    assert "BASE" in found
    assert found == {name: {pins[name]} for name in found}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_image_has_a_numeric_user_that_is_not_root(folder):
    for stage in dockerfile(folder).stages:
        if "AS packages" not in stage[0].value:
            users = [each.value for each in stage if each.name == "USER"]
            assert len(users) == 1
            assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[0])


def test_every_image_has_a_target():
    targets = {stage[0].value.partition(" AS ")[2] for name in FOLDERS for stage in dockerfile(name).stages}
    assert {*OPERATORS, *PROGRAMS, "pause"} <= targets
    assert set(NAMES) == {*IMAGES, *OPERATORS, *PROGRAMS, "pause", "postgresql"}


def test_the_cache_serves_our_images_and_the_operators():
    """The same words up to the environment's own place, and a check of every hash after it."""
    ours, theirs = read("spark").stages[0], dockerfile("operators").stages[0]
    own = next(number for number, each in enumerate(ours) if "uv venv" in each.value)
    assert theirs[:own] == ours[:own]
    assert "--require-hashes /build/requirements/standins.lock" in theirs[-1].value


def test_values_name_images_that_are_built():
    values = yaml.safe_load((STANDINS / "values" / "millrace.yaml").read_text())
    images = {
        values["postgresql"]["image"],
        values["postgresql"]["exporter"]["image"],
        values["objectStore"]["image"],
    }
    assert images <= {cluster_name(name) for name in NAMES}
