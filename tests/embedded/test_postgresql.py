"""Airflow on PostgreSQL by one setting."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from embedded.ports import free_port
from tests.embedded.conftest import CommandLine
from tests.postgresql import find, unprivileged

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    initdb, server = find("initdb"), find("postgres")
    if initdb is None or server is None:
        pytest.skip("needs PostgreSQL's server programs (Debian: postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-postgresql-"))
    identity = unprivileged()
    if identity:
        os.chown(directory, identity["user"], identity["group"])
    data, port = directory / "data", free_port()
    # Encoding said outright: where the locale is C, the default would be SQL_ASCII.
    command = [initdb, "-D", str(data), "-U", "millrace", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, cwd=directory, **identity)
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(directory), "-c", "fsync=off"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([server, *options], stdout=log, stderr=log, cwd=directory, **identity)
    try:
        url = f"postgresql://millrace@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def test_airflow_runs_on_postgresql(postgresql_url: str, tmp_path: Path, jar_cache: Path, spark_jars: Path) -> None:
    command_line = CommandLine(tmp_path / "home", jar_cache, MILLRACE_DATABASE_URL=postgresql_url)
    try:
        for attempt in ("new database", "database that is there"):
            result = command_line.run("up", timeout=200)
            assert result.returncode == 0, f"{attempt}: {result.stdout}{result.stderr}"
            command_line.instance()
            logs = tmp_path / "home" / "logs"
            assert (logs / "airflow-migrate.log").exists() == (attempt == "new database")
            assert command_line.run("down", timeout=100).returncode == 0
        with psycopg.connect(postgresql_url) as connection:
            jobs = connection.execute("SELECT DISTINCT job_type FROM job").fetchall()
        assert {"SchedulerJob", "TriggererJob", "DagProcessorJob"} <= {row[0] for row in jobs}
        assert not list((tmp_path / "home").rglob("*.db"))
    finally:
        command_line.close()
