"""What the Dockerfiles say, read without building them."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from embedded.paths import REPOSITORY

IMAGES = ("airflow", "spark", "ingest")
VERSION: str = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


def name_of(image: str) -> str:
    """The name that images/build.sh gives an image, as buildah lists it."""
    return f"localhost/millrace/{image}:{VERSION}"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    value: str


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile: what stands before the first FROM, then its stages."""

    preamble: list[Instruction]
    stages: list[list[Instruction]]

    @property
    def final(self) -> list[Instruction]:
        """The instructions of the stage that becomes the image."""
        return self.stages[-1]

    def arguments(self) -> dict[str, set[str]]:
        """Each build argument that has a default, with every default that it is given."""
        found: dict[str, set[str]] = {}
        for instruction in [*self.preamble, *(each for stage in self.stages for each in stage)]:
            name, equals, default = instruction.value.partition("=")
            if instruction.name == "ARG" and equals:
                found.setdefault(name, set()).add(default)
        return found

    def last(self, name: str) -> str:
        """The value of the last instruction of that name in the final stage."""
        return [each.value for each in self.final if each.name == name][-1]


def path_of(image: str) -> Path:
    """The Dockerfile of an image."""
    return REPOSITORY / "images" / image / "Dockerfile"


def read(image: str) -> Dockerfile:
    """Read the Dockerfile of one of our images."""
    return parse(path_of(image))


def parse(path: Path) -> Dockerfile:
    """Read a Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    preamble: list[Instruction] = []
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            if name == "FROM":
                stages.append([])
            (stages[-1] if stages else preamble).append(Instruction(name, re.sub(r"\s+", " ", value.strip())))
    return Dockerfile(preamble, stages)
