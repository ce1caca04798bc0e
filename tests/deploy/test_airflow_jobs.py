"""The commands of Airflow's two Jobs, as the values have them, run by the real Airflow on a database of its own."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from embedded.paths import REPOSITORY

pytestmark = pytest.mark.embedded

VALUES = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "airflow.yaml").read_text())
ADMIN_PASSWORD = "it has 'quotes', \"more\" and a $sign"  # noqa: S105


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A place for Airflow with nothing in it, and a way to run a Job's command there."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "ADMIN_PASSWORD": ADMIN_PASSWORD,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
    }

    def run(job):
        shell, *arguments = VALUES[job]["args"]
        command = [shutil.which(shell), *(each.replace("/opt/millrace", str(REPOSITORY)) for each in arguments)]
        # A session of its own has no terminal, as a pod has none.
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            start_new_session=True, timeout=300,
        )  # fmt: skip

    return run, home / "airflow.db"


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
