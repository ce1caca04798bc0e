"""Airflow as a part of the embedded target: its configuration, its secrets, its processes."""

import contextlib
import hashlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cryptography.fernet import Fernet

from embedded.errors import UserError
from embedded.ports import LOOPBACK, require_free
from embedded.settings import Settings

USER = "admin"
STOP_SECONDS = 12.0


@dataclass(frozen=True)
class Secrets:
    """What one home's Airflow signs, encrypts and logs in with. Made once, kept in a file that only its owner reads."""

    fernet_key: str
    jwt_secret: str
    api_secret_key: str
    password: str


def load_secrets(settings: Settings) -> Secrets:
    """Read the secrets of this home, making them the first time; also write the password file that Airflow reads.

    Raises:
        UserError: the file is there and can't be read as what we wrote.
    """
    settings.airflow_home.mkdir(parents=True, exist_ok=True)
    path = settings.airflow_home / "secrets.json"
    if not path.exists():
        new = Secrets(
            fernet_key=Fernet.generate_key().decode(),
            jwt_secret=secrets.token_urlsafe(48),
            api_secret_key=secrets.token_urlsafe(32),
            password=secrets.token_urlsafe(12),
        )
        _write_private(path, json.dumps(vars(new)))
    try:
        found = Secrets(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise UserError(f"{path} can't be read: delete {settings.airflow_home} (its history is lost).") from None
    _write_private(passwords_file(settings), json.dumps({USER: found.password}))
    return found


def passwords_file(settings: Settings) -> Path:
    """The file with the UI's password, for its owner only."""
    return settings.airflow_home / "passwords.json"


def airflow_environment(settings: Settings, keys: Secrets, loop_seconds: float) -> dict[str, str]:
    """All of Airflow's configuration, as environment variables.

    Args:
        settings: of the target.
        keys: this home's secrets.
        loop_seconds: pause between two looks of the scheduler. 0.1 starts tasks soon and takes 15 % of a core.
    """
    kafka = {"conn_type": "kafka", "extra": {"bootstrap.servers": settings.bootstrap_servers}}
    values = {
        "CORE__DAGS_FOLDER": settings.dags,
        "CORE__PLUGINS_FOLDER": settings.airflow_home / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        # Each worker is a process that stays; the default of 32 takes 5.5 GiB.
        "CORE__PARALLELISM": 4,
        "CORE__FERNET_KEY": keys.fernet_key,
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords_file(settings),
        # Both are needed on any port but 8080: tasks talk to the first, and fail at once if nobody is there.
        "CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "API__BASE_URL": settings.airflow_url,
        "API__HOST": LOOPBACK,
        "API__PORT": settings.airflow_port,
        "API__WORKERS": 1,
        "API__SECRET_KEY": keys.api_secret_key,
        "API_AUTH__JWT_SECRET": keys.jwt_secret,
        "DATABASE__SQL_ALCHEMY_CONN": settings.database_url,
        "LOGGING__BASE_LOG_FOLDER": settings.logs / "tasks",
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": settings.logs / "dag-processor",
        "LOGGING__COLORED_CONSOLE_LOG": False,
        # The default of 1 s adds up over a run's tasks, each of which takes the scheduler two or three looks.
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": loop_seconds,
        # A task's supervisor that sees its pipes close before its process is gone sleeps this long (default 5 s) before
        # it reports the end; a trigger that fires meanwhile makes the scheduler fail the task.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        # A task that is due may begin before the API server listens, which on a busy machine takes a minute. The
        # default of 5 tries lasts 15 s; these are for some minutes, and notice soon that the server is there.
        "WORKERS__EXECUTION_API_RETRIES": 90,
        "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": 5,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": 300,
    }
    if settings.database_url.startswith("postgresql"):
        # Airflow would guess asyncpg, which is not installed; psycopg speaks both ways.
        values["DATABASE__SQL_ALCHEMY_CONN_ASYNC"] = settings.database_url
    environment = {f"AIRFLOW__{name}": str(value) for name, value in values.items()}
    environment["AIRFLOW_HOME"] = str(settings.airflow_home)
    environment["AIRFLOW_CONN_KAFKA_DEFAULT"] = json.dumps(kafka)
    return environment


class Airflow:
    """Airflow's four components: api-server, scheduler, dag-processor, triggerer."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the components live (they end together)."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        """The launcher's log; the components have their own beside it."""
        return self.settings.logs / "airflow.log"

    def launch(self) -> None:
        """Start the components; prepare the database first if it is new or of another version. Does not wait.

        Raises:
            UserError: the port is taken, or the database can't be reached.
        """
        require_free(self.settings.airflow_port, "Airflow", "AIRFLOW_PORT")
        command = [sys.executable, "-m", "embedded.airflow_launcher", str(self.settings.logs)]
        if not is_migrated(self.settings):
            command.append("migrate")
        elif has_unfinished_runs(self.settings):
            command.append("close-runs")
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        (self.settings.logs / "airflow-processes.json").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                cwd=self.settings.airflow_home,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all components; the launcher sees to their process groups."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def why_ended(self) -> str:
        """The launcher's last line: which component ended, and how."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1]
        return "no reason was logged"

    def processes(self) -> dict[str, int]:
        """Each component's process id, as soon as they were started."""
        try:
            return json.loads((self.settings.logs / "airflow-processes.json").read_bytes())
        except (OSError, ValueError):
            return {}


def is_migrated(settings: Settings) -> bool:
    """Whether the metadata database was prepared by this version of Airflow and still is.

    Asking Airflow takes 5 s; this asks the database for its revision and compares it with what `mark_migrated` noted.

    Raises:
        UserError: PostgreSQL does not answer.
    """
    try:
        marker = json.loads(_marker(settings).read_bytes())
    except (OSError, ValueError):
        marker = {}
    revision = _revision(settings)
    return revision is not None and marker == _expected_marker(settings, revision)


def mark_migrated(settings: Settings) -> None:
    """Note that the database is prepared. To be called when Airflow runs on it."""
    revision = _revision(settings)
    if revision is not None:
        _write_private(_marker(settings), json.dumps(_expected_marker(settings, revision)))


def _marker(settings: Settings) -> Path:
    return settings.airflow_home / "migrated.json"


def _expected_marker(settings: Settings, revision: str) -> dict[str, str]:
    database = hashlib.sha256(settings.database_url.encode()).hexdigest()
    return {"airflow": version("apache-airflow-core"), "database": database, "revision": revision}


def has_unfinished_runs(settings: Settings) -> bool:
    """Whether runs of DAGs were under way when Airflow was last stopped or killed."""
    return _ask(settings, "SELECT run_id FROM dag_run WHERE state IN ('queued', 'running') LIMIT 1") is not None


def _revision(settings: Settings) -> str | None:
    """The schema's revision, or None if the database is empty."""
    return _ask(settings, "SELECT version_num FROM alembic_version")


def _ask(settings: Settings, query: str) -> str | None:
    """The first value of a query's first row; None if there is none, or not even the table."""
    if settings.database_url.startswith("sqlite"):
        path = Path(settings.database_url.removeprefix("sqlite:///"))
        if not path.exists():
            return None
        with contextlib.closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.DatabaseError):
            row = connection.execute(query).fetchone()
            return str(row[0]) if row else None
        return None
    import psycopg  # noqa: PLC0415 - not needed with SQLite

    address = settings.database_url.replace("postgresql+psycopg", "postgresql", 1)
    try:
        with psycopg.connect(address, connect_timeout=5) as connection:
            row = connection.execute(query).fetchone()
            return str(row[0]) if row else None
    except psycopg.errors.UndefinedTable:
        return None
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Airflow's database can't be reached ({reason}): start it, or correct MILLRACE_DATABASE_URL."
        ) from None


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
