"""Settings of the embedded target, read from environment variables."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import UserError
from embedded.paths import REPOSITORY
from embedded.ports import LOOPBACK


@dataclass(frozen=True)
class Settings:
    """Where state is kept and which ports are used. Built by `load_settings`."""

    home: Path
    """MILLRACE_HOME: everything that runs write (default: .millrace in the repository)."""
    jars: Path
    """MILLRACE_JARS_CACHE: folder with the sets of jars (default: jars in the home)."""
    storage_url: str
    """MILLRACE_STORAGE: base URL of checkpoints, tables, control files and reports."""
    kafka_port: int
    """KAFKA_PORT."""
    controller_port: int
    """KAFKA_CONTROLLER_PORT (default: the one after KAFKA_PORT)."""
    airflow_port: int
    """AIRFLOW_PORT."""
    database_url: str
    """MILLRACE_DATABASE_URL: Airflow's metadata database (default: SQLite in the home)."""
    dags: Path = REPOSITORY / "dags"
    """The folder of DAG files; the benchmarks bring their own."""

    @property
    def bootstrap_servers(self) -> str:
        """What Kafka's clients connect to."""
        return f"{LOOPBACK}:{self.kafka_port}"

    @property
    def airflow_url(self) -> str:
        """Airflow's UI and API."""
        return f"http://{LOOPBACK}:{self.airflow_port}"

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.home / "airflow"

    @property
    def logs(self) -> Path:
        """Where the components' output goes."""
        return self.home / "logs"

    @property
    def apps(self) -> Path:
        """One folder for each application or job that the target runs."""
        return self.home / "apps"

    @property
    def storage(self) -> Path | None:
        """The storage as a local folder, or None if it is elsewhere."""
        return Path(self.storage_url.removeprefix("file://")) if self.storage_url.startswith("file://") else None


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        UserError: a value can't be used.
    """
    home = Path(environment.get("MILLRACE_HOME") or REPOSITORY / ".millrace").absolute()
    kafka_port = _port(environment, "KAFKA_PORT", 19092)
    ports = {
        "KAFKA_PORT": kafka_port,
        "KAFKA_CONTROLLER_PORT": _port(environment, "KAFKA_CONTROLLER_PORT", kafka_port + 1),
        "AIRFLOW_PORT": _port(environment, "AIRFLOW_PORT", 8080),
    }
    for name, port in ports.items():
        same = [other for other, number in ports.items() if number == port and other != name]
        if same:
            raise UserError(f"{name} and {same[0]} are both {port}: set one of them to another port.", 2)
    cache = environment.get("MILLRACE_JARS_CACHE")
    return Settings(
        home=home,
        jars=Path(cache).absolute() if cache else home / "jars",
        storage_url=(environment.get("MILLRACE_STORAGE") or f"file://{home}/storage").rstrip("/"),
        kafka_port=kafka_port,
        controller_port=ports["KAFKA_CONTROLLER_PORT"],
        airflow_port=ports["AIRFLOW_PORT"],
        database_url=_database_url(environment, home),
    )


def make_home(settings: Settings) -> None:
    """Make MILLRACE_HOME and see that it can be written.

    Raises:
        UserError: it can't.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe = settings.home / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"MILLRACE_HOME is {settings.home}, which can't be written ({error.strerror}): set MILLRACE_HOME to a "
            "folder that can.",
            2,
        ) from None


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UserError(f"{name} is {text!r}, which is not a port: set it to a number from 1 to 65535.", 2)
    return int(text)


def _database_url(environment: Mapping[str, str], home: Path) -> str:
    url = environment.get("MILLRACE_DATABASE_URL")
    if not url:
        return f"sqlite:///{home}/airflow/airflow.db"
    if re.match(r"sqlite:////?[^/]", url):
        return url
    # The driver that is installed, said outright: SQLAlchemy's own choice changed with 2.1.
    normal, count = re.subn(r"^(postgres|postgresql)(\+psycopg)?://", "postgresql+psycopg://", url)
    if not count:
        scheme = url.partition(":")[0]
        raise UserError(
            f"MILLRACE_DATABASE_URL begins with {scheme!r}, which is not supported: use "
            "postgresql://user:password@host:port/database, or unset it for SQLite.",
            2,
        )
    return normal
