"""Run the Ivy that comes with Spark, the only thing that this project downloads jars with."""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pyspark

from embedded.errors import UserError
from embedded.java import Java
from embedded.truststore import truststore_options

RETRIEVE_PATTERN = "[organisation]!!![artifact]!!![revision].[ext]"
"""How Ivy names what it retrieves; the organisation is part of it so that a coordinate can be told from a file name."""


@dataclass(frozen=True, order=True)
class Coordinate:
    """A jar as Maven repositories name it."""

    group: str
    artifact: str
    version: str

    @classmethod
    def parse(cls, text: str) -> "Coordinate":
        """Read ``group:artifact:version``.

        Raises:
            ValueError: the text has another form.
        """
        parts = text.split(":")
        if len(parts) != 3 or not all(re.fullmatch(r"[\w.\-]+", part) for part in parts):
            raise ValueError(f"{text!r} is not group:artifact:version")
        return cls(*parts)

    @property
    def file_name(self) -> str:
        """The jar's file name in our directories."""
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def retrieve(
    java: Java,
    coordinates: Iterable[Coordinate],
    directory: Path,
    *,
    transitive: bool,
    exclude: Sequence[str] = (),
) -> dict[Coordinate, Path]:
    """Download jars into an empty ``directory``.

    Args:
        java: the runtime to run Ivy with.
        coordinates: what to fetch.
        directory: where everything goes, Ivy's own cache included.
        transitive: also fetch what the jars need; else exactly the given ones, without reading their descriptors.
        exclude: ``group:artifact`` patterns (``*`` matches all) of dependencies to leave out.

    Returns:
        each jar's coordinate and file.

    Raises:
        UserError: Ivy could not resolve or download something.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings, module, output = directory / "settings.xml", directory / "ivy.xml", directory / "jars"
    settings.write_text(_settings(directory / "cache", transitive))
    module.write_text(_module(coordinates, transitive, exclude))
    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    command = [str(java.executable), "-XX:TieredStopAtLevel=1", *truststore_options(directory)]
    command += ["-cp", str(ivy), "org.apache.ivy.Main", "-settings", str(settings), "-ivy", str(module)]
    command += ["-retrieve", str(output / RETRIEVE_PATTERN)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    if result.returncode != 0:
        raise UserError(f"The jars could not be downloaded: {_reason(result.stdout + result.stderr)}")
    return {_coordinate(path): path for path in sorted(output.glob("*.jar"))}


def _coordinate(path: Path) -> Coordinate:
    return Coordinate(*path.name.removesuffix(".jar").split("!!!"))


def _settings(cache: Path, transitive: bool) -> str:
    root = os.environ.get("MILLRACE_MAVEN_REPOSITORY", "")
    attributes = f" root={quoteattr(root)}" if root else ""
    poms = "" if transitive else ' usepoms="false"'
    return (
        '<ivysettings><settings defaultResolver="central"/>'
        f"<caches defaultCacheDir={quoteattr(str(cache))}/>"
        f'<resolvers><ibiblio name="central" m2compatible="true"{poms}{attributes}/></resolvers></ivysettings>'
    )


def _module(coordinates: Iterable[Coordinate], transitive: bool, exclude: Sequence[str]) -> str:
    conf = "default->master,compile,runtime" if transitive else "default->*"
    dependencies = "".join(
        f"<dependency org={quoteattr(one.group)} name={quoteattr(one.artifact)} rev={quoteattr(one.version)} "
        f'conf="{conf}" transitive="{str(transitive).lower()}"/>'
        for one in coordinates
    )
    excluded = "".join(
        f"<exclude org={quoteattr(group)} module={quoteattr(artifact)} matcher='regexp'/>"
        for group, artifact in (re.escape(pattern).replace(r"\*", ".*").split(":") for pattern in exclude)
    )
    return (
        '<ivy-module version="2.0"><info organisation="millrace" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}{excluded}</dependencies></ivy-module>"
    )


def _reason(log: str) -> str:
    """The lines of Ivy's log that say what went wrong, as one sentence."""
    for line in log.splitlines():
        if "PKIX path" in line or "SSLHandshake" in line:
            return (
                "Java does not trust the repository's certificate; set SSL_CERT_FILE to this machine's CA bundle "
                "(PEM) and run it again."
            )
    missing = re.findall(r":: ([^:\s]+#[^:\s]+): not found", log)
    host = re.search(r"UnknownHost|Host ([\w.\-]+) not found|Connection (?:refused|timed out)", log)
    if host:
        return (
            "the Maven repository can't be reached; check the network, or set MILLRACE_MAVEN_REPOSITORY to a mirror "
            "that can be reached, and run it again."
        )
    if missing:
        return (
            f"not found in the Maven repository: {', '.join(sorted(set(missing)))}; correct the pins in versions.yaml."
        )
    lines = [line.strip() for line in log.splitlines() if re.search(r"ERROR|FAILED|[Ee]xception", line)]
    return (lines[-1] if lines else log.strip().splitlines()[-1] if log.strip() else "Ivy gave no reason") + "."
