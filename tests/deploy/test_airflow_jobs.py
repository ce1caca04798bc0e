"""The commands of Airflow's two Jobs and of its probes, as the values have them, with a real Airflow."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.ports import accepts_connections, free_port

pytestmark = pytest.mark.embedded

VALUES = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "airflow.yaml").read_text())
ADMIN_PASSWORD = "it has 'quotes', \"more\" and a $sign"  # noqa: S105


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A place for Airflow with nothing in it."""
    home = tmp_path_factory.mktemp("airflow")
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
    }


@pytest.fixture(scope="module")
def airflow(environment):
    """A way to run a Job's command there, and the database."""

    def run(job):
        shell, *arguments = VALUES[job]["args"]
        command = [shutil.which(shell), *(each.replace("/opt/millrace", str(REPOSITORY)) for each in arguments)]
        # A session of its own has no terminal, as a pod has none.
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            start_new_session=True, timeout=300,
        )  # fmt: skip

    return run, Path(environment["AIRFLOW_HOME"]) / "airflow.db"


def rows(database, query):
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="module")
def migrated(airflow):
    run, database = airflow
    result = run("migrateDatabaseJob")
    assert result.returncode == 0, result.stderr[-3000:]
    return run, database


def test_the_migration_also_declares_the_pools_and_does_so_again(migrated):
    import json

    run, database = migrated
    declared = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    found = dict(rows(database, "SELECT pool, slots FROM slot_pool"))
    assert {name: found[name] for name in declared} == {name: pool["slots"] for name, pool in declared.items()}
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE slot_pool SET slots = 1")
    assert run("migrateDatabaseJob").returncode == 0
    assert dict(rows(database, "SELECT pool, slots FROM slot_pool"))["streaming_pool"] == found["streaming_pool"]


def test_the_administrator_gets_the_secret_s_password_by_a_pipe_and_a_second_time_changes_nothing(migrated):
    from werkzeug.security import check_password_hash

    run, database = migrated
    result = run("createUserJob")
    assert result.returncode == 0, result.stderr[-3000:]
    assert ADMIN_PASSWORD not in result.stdout + result.stderr
    query = "SELECT ab_user.username, ab_role.name, ab_user.password FROM ab_user "
    query += "JOIN ab_user_role ON ab_user.id = user_id JOIN ab_role ON ab_role.id = role_id"
    [(name, role, hashed)] = rows(database, query)
    assert (name, role) == ("admin", "Admin")
    assert check_password_hash(hashed, ADMIN_PASSWORD)
    assert run("createUserJob").returncode == 0
    assert rows(database, query) == [(name, role, hashed)]


@pytest.fixture(scope="module")
def health_server(environment, migrated):
    """What the scheduler starts in its pod, by the settings of the values, on a port of its own."""
    settings = VALUES["config"]["scheduler"]
    assert settings["enable_health_check"] == "True"
    assert settings["scheduler_health_check_server_host"] == "127.0.0.1"
    port = free_port()
    more = {
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_HOST": "127.0.0.1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(port),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
    }
    command = [sys.executable, "-m", "airflow.utils.scheduler_health"]
    process = subprocess.Popen(command, env=environment | more, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not accepts_connections(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def probe(kind, port):
    """The exit status of a probe of the scheduler's, as its pod would run it."""
    shell, *arguments = VALUES["scheduler"][kind]["command"]
    assert "/127.0.0.1/8974" in arguments[-1]  # Airflow's default port
    arguments[-1] = arguments[-1].replace("8974", str(port))
    return subprocess.run(
        [shutil.which(shell), *arguments], capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    ).returncode


def last_heard_of(database, *ages):
    """Let the database have a scheduler of this host for each age of its last heartbeat, and no other."""
    columns = "job_type, state, hostname, start_date, latest_heartbeat"
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM job")
        for age in ages:
            heartbeat = str(datetime.now(UTC).replace(tzinfo=None) - age)
            values = ("SchedulerJob", "running", socket.gethostname(), heartbeat, heartbeat)
            connection.execute(f"INSERT INTO job ({columns}) VALUES (?, ?, ?, ?, ?)", values)


@pytest.mark.parametrize("kind", ["livenessProbe", "startupProbe"])
def test_a_probe_of_the_scheduler_knows_whether_it_is_alive(kind, health_server, migrated):
    _, database = migrated
    assert probe(kind, free_port()) != 0  # nobody is there
    last_heard_of(database)
    assert probe(kind, health_server) != 0  # the server is there, and no scheduler
    last_heard_of(database, timedelta())
    assert probe(kind, health_server) == 0
    last_heard_of(database, timedelta(minutes=5))
    assert probe(kind, health_server) != 0
