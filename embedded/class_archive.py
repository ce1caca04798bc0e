"""A class archive for Spark's drivers: classes that Java has found, parsed and verified once (the JDK's AppCDS).

A driver loads some 20,000 classes from 300 jars before its first batch. With an archive it maps them into memory:
session and two small batches take 7 s instead of 12 s, on 2 cores. Java uses an archive only if it was made by the same
runtime from the same jars, and starts without it otherwise; so an archive that does not fit costs time, never more.
"""

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyspark

from embedded.errors import UserError
from embedded.jars import INCOMPLETE, exclusive
from embedded.java import Java, home_for_spark
from embedded.ports import LOOPBACK

QUICK_START = "-XX:TieredStopAtLevel=1"
"""Java option: compile soon, and not again."""
TRAINING = Path(__file__).with_name("class_archive_training.py")
STEP_SECONDS = 600.0


def archive_of(java: Java, spark_jars: Path, directory: Path) -> Path:
    """Return where the archive is, or would be, that fits this runtime and these jars."""
    digest = hashlib.sha256(f"{java.home} {java.version}".encode())
    for jar in sorted([*spark_jars.glob("*.jar"), *_spark_home().glob("jars/*.jar")]):
        status = jar.stat()
        digest.update(f" {jar} {status.st_size} {status.st_mtime_ns}".encode())
    return directory / f"spark-{digest.hexdigest()[:16]}.jsa"


def java_options(java: Java, spark_jars: Path, directory: Path) -> list[str]:
    """Return the options with which a driver's Java uses the archive; none if it was not made."""
    archive = archive_of(java, spark_jars, directory)
    if not archive.exists():
        return []
    # Whatever Java has to say about an archive that it doesn't take would stand at the top of the driver's log.
    quiet = ["-Xlog:cds*=off", *(["-Xlog:aot*=off"] if java.major >= 24 else [])]
    return [f"-XX:SharedArchiveFile={archive}", *quiet]


def submit_options(options: list[str], environment: Mapping[str, str]) -> str:
    """Return a value of SPARK_SUBMIT_OPTS: what it is in the environment, and these options."""
    return " ".join(filter(None, [environment.get("SPARK_SUBMIT_OPTS", ""), *map(shlex.quote, options)]))


def make(java: Java, spark_jars: Path, directory: Path, say: Callable[[str], None]) -> Path:
    """Make the archive, unless it is there; return its path. Archives of other runtimes and jars are removed.

    Raises:
        UserError: a driver could not be started, or Java could not write the archive.
    """
    archive = archive_of(java, spark_jars, directory)
    # Two that make it at once would each take twice as long, and the later one would remove the earlier one's.
    with exclusive(directory, ".archive.lock", f"{INCOMPLETE}archive-*"):
        if archive.exists():
            say(f"The class archive is there: {archive}.")
            return archive
        say("Making a class archive (once, about 75 s, 230 MB): each later start of Spark is 5 to 15 s shorter.")
        try:
            with tempfile.TemporaryDirectory(prefix=f"{INCOMPLETE}archive-", dir=directory) as temporary:
                made = _make(java, spark_jars, Path(temporary))
                for old in directory.glob("spark-*.jsa"):
                    old.unlink(missing_ok=True)
                made.replace(archive)
        except OSError as error:
            raise UserError(
                f"{directory} can't be written ({error.strerror}): set MILLRACE_HOME to one that can."
            ) from None
    return archive


def _make(java: Java, spark_jars: Path, temporary: Path) -> Path:
    classes, archive = temporary / "classes", temporary / "spark.jsa"
    # The classes' paths go into the archive as the driver will have them, so everything but the work is as it will be.
    command = [str(_spark_home() / "bin" / "spark-submit"), "--master", "local[2]"]
    command += ["--conf", "spark.ui.enabled=false", "--conf", f"spark.driver.host={LOOPBACK}"]
    command += ["--conf", f"spark.driver.extraClassPath={spark_jars}/*", str(TRAINING), str(temporary)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "MILLRACE_"))}
    environment = kept | {
        "JAVA_HOME": str(home_for_spark(java, temporary / "java")),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_SUBMIT_OPTS": submit_options([QUICK_START, f"-XX:DumpLoadedClassList={classes}"], {}),
    }
    _run(command, environment, temporary / "training.log", "Spark could not be started to make the class archive")
    class_path = (temporary / "classpath").read_text()
    command = [str(java.executable), "-Xshare:dump", f"-XX:SharedClassListFile={classes}"]
    command += [f"-XX:SharedArchiveFile={archive}", "-cp", class_path]
    _run(command, environment, temporary / "dump.log", "Java could not write the class archive")
    return archive


def _run(command: list[str], environment: dict[str, str], log: Path, failure: str) -> None:
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # A driver is a JVM and a Python: whatever ends this, neither stays.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        # The shell script that starts Java stumbles over its end, and says so last.
        lines = [line for line in lines if "spark-class: line" not in line]
        how = f"no end after {STEP_SECONDS:.0f} s" if code is None else f"exit status {code}"
        raise UserError(f"{failure} ({how}; {lines[-1].strip() if lines else 'it says nothing'}).")


def _spark_home() -> Path:
    return Path(pyspark.__file__).parent
