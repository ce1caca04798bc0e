"""Settings of the library, read from environment variables. Nothing here touches a disk or a network."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from millrace.errors import MillraceError

DEFAULT_RETRY_DELAY = timedelta(minutes=5)
DEFAULT_NAMESPACE = "streams"
DEFAULT_INGEST_IMAGE = "millrace/ingest:0.1.0"


@dataclass(frozen=True)
class Settings:
    """Where the library finds things. Built by `load_settings`."""

    target: str
    """MILLRACE_TARGET: what runs applications and jobs: `embedded` or `kubernetes`."""
    root: Path
    """The folder that holds contracts/, dags/, ingest/ and spark-apps/."""
    home: Path | None
    """MILLRACE_HOME: all state of the embedded target."""
    storage_url: str | None
    """MILLRACE_STORAGE: base URL of checkpoints, tables, control files and reports, no slash at its end."""
    spark_jars: Path | None
    """MILLRACE_SPARK_JARS: folder of the jars that every Spark application gets."""
    namespace: str
    """MILLRACE_NAMESPACE: where the target `kubernetes` runs applications and jobs."""
    spark_image: str | None
    """MILLRACE_SPARK_IMAGE: the image of every Spark application, instead of its manifest's."""
    ingest_image: str
    """MILLRACE_INGEST_IMAGE: the image of the jobs of the target `kubernetes`."""

    def require_home(self) -> Path:
        """Return MILLRACE_HOME, or raise MillraceError where it isn't set."""
        if self.home is None:
            raise MillraceError(
                "MILLRACE_HOME is not set, so the embedded target does not know where its state is: "
                "start Airflow with `make run` or `make up`, or set the variable to that folder."
            )
        return self.home

    def require_storage(self) -> str:
        """Return MILLRACE_STORAGE, or raise MillraceError where it isn't set."""
        if self.storage_url is None:
            raise MillraceError(
                "MILLRACE_STORAGE is not set, so there is no place for checkpoints, tables and reports: "
                "set it to a base URL such as file:///var/lib/millrace/storage or s3a://bucket/prefix."
            )
        return self.storage_url


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (by default the process's own environment)."""
    env = os.environ if environ is None else environ
    home = env.get("MILLRACE_HOME")
    jars = env.get("MILLRACE_SPARK_JARS")
    storage = env.get("MILLRACE_STORAGE", "").rstrip("/")
    return Settings(
        target=env.get("MILLRACE_TARGET", "embedded"),
        root=Path(env.get("MILLRACE_ROOT") or Path(__file__).parents[2]),
        home=Path(home) if home else None,
        storage_url=storage or None,
        spark_jars=Path(jars) if jars else None,
        namespace=env.get("MILLRACE_NAMESPACE") or DEFAULT_NAMESPACE,
        spark_image=env.get("MILLRACE_SPARK_IMAGE") or None,
        ingest_image=env.get("MILLRACE_INGEST_IMAGE") or DEFAULT_INGEST_IMAGE,
    )


def retry_delay(environ: Mapping[str, str] | None = None) -> timedelta:
    """Return the first retry's delay: 5 minutes, or (for drills and tests) MILLRACE_RETRY_DELAY_SECONDS.

    Raises MillraceError if that variable isn't a number of seconds above 0.
    """
    env = os.environ if environ is None else environ
    text = env.get("MILLRACE_RETRY_DELAY_SECONDS")
    if not text:
        return DEFAULT_RETRY_DELAY
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise MillraceError(
            f"MILLRACE_RETRY_DELAY_SECONDS is {text!r}, which is not a number of seconds above 0: correct "
            "it or unset it."
        )
    return timedelta(seconds=seconds)
