"""Images of tests/cluster without a cluster: PostgreSQL's first start, what operators find, and the layout."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.ports import free_port
from embedded.versions import versions
from tests.charts.gateway import environment
from tests.charts.render import by_name, render_chart, workloads
from tests.cluster.images import build, cluster_name, local_name, put
from tests.cluster.layout import Layout
from tests.images.builder import Container, Store

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

PASSWORDS = {"postgres-password": "of the superuser", "airflow-password": 'it\'s "quoted" $HOME'}

# Starts the server as a pod does, asks it what the arguments say, and stops it as a cluster does.
ASK = """
/entrypoint.sh "$@" >/tmp/log 2>&1 &
until pg_isready --quiet --host=127.0.0.1 --username=postgres; do
  kill -0 $! || { cat /tmp/log; exit 1; }
  sleep 0.2
done
psql --no-psqlrc -At --host="$FROM" --username="$AS" --dbname="$DATABASE" --command="$QUERY" 2>&1
kill -INT $!
wait $!
echo "ended with $?"
grep -c "entrypoint: running" /tmp/log
"""


class Server:
    """PostgreSQL's container, with what the chart gives it."""

    def __init__(self, container: Container, folder: Path) -> None:
        self.container = container
        self.port = str(free_port())  # this container has this machine's network
        objects = render_chart()
        self.pod = workloads(objects)["StatefulSet/postgresql"]["containers"][0]
        for name, content in PASSWORDS.items():
            (folder / name).write_text(content)
            container.put(folder / name, f"/etc/millrace/postgresql/{name}")
        (folder / "init.sql").write_text(by_name(objects, "ConfigMap")["postgresql-init"]["data"]["init.sql"])
        container.put(folder / "init.sql", "/docker-entrypoint-initdb.d/init.sql")

    def ask(self, query: str, *, user: str, password: str = "", database: str, host: str = "127.0.0.1") -> list[str]:
        """Start, ask, stop. Returns the answer, how the server ended, and how many files it ran before."""
        given = {"PGPORT": self.port, "FROM": host, "AS": user, "DATABASE": database, "QUERY": query}
        command = ["bash", "-c", ASK, "bash", *self.pod["args"]]
        variables = environment(self.pod) | given | ({"PGPASSWORD": password} if password else {})
        return self.container.execute(*command, **variables).stdout.splitlines()


@pytest.fixture(scope="module")
def postgresql(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    build(store, ["postgresql"])
    container = Container(store, local_name("postgresql"))
    yield Server(container, tmp_path_factory.mktemp("postgresql"))
    container.remove()


@pytest.fixture(scope="module")
def operators(store: Store) -> Iterator[Container]:
    build(store, ["operators"])
    container = Container(store, local_name("operators"))
    yield container
    container.remove()


def test_postgresql_says_that_it_has_no_password(postgresql: Server) -> None:
    result = postgresql.container.start(**{"POSTGRES_PASSWORD_FILE": "/nowhere"})
    assert result.returncode == 1
    assert "POSTGRES_PASSWORD_FILE is '/nowhere', where no password is" in result.stderr


def test_postgresql_starts_as_the_charts_user_and_makes_its_database_once(postgresql: Server) -> None:
    assert postgresql.container.output("id", "--user", "--name") == "postgres"
    assert postgresql.container.output("id", "--user") == "999"
    airflow = {"user": "airflow", "password": PASSWORDS["airflow-password"], "database": "airflow"}
    made = "CREATE TABLE IF NOT EXISTS kept (id int); SHOW server_encoding"
    assert postgresql.ask(made, **airflow) == ["CREATE TABLE", "UTF8", "ended with 0", "1"]
    counted = "SELECT count(*) FROM kept"
    assert postgresql.ask(counted, **airflow) == ["0", "ended with 0", "0"]
    assert "password authentication failed" in postgresql.ask("SELECT 1", **airflow | {"password": "wrong"})[0]
    super_user = {"user": "postgres", "password": PASSWORDS["postgres-password"], "database": "postgres"}
    assert postgresql.ask("SHOW max_connections", **super_user)[0] == "100"
    by_socket = postgresql.ask("SELECT 1", user="exporter", database="postgres", host="/var/run/postgresql")
    assert by_socket[0] == "1"


def test_operators_have_python_java_kafka_and_spark(operators: Container) -> None:
    modules = "kubernetes, confluent_kafka, psycopg, prometheus_client, cryptography, yaml"
    assert operators.output("python", "-c", f"import sys, {modules}; print(sys.prefix)") == "/opt/standins"
    assert operators.output("python", "-c", "import tests.cluster.standins, tests.certificates; print(1)") == "1"
    assert operators.output("id", "--user") == "10001"
    java = ["/opt/java/bin/java", "-cp", "/opt/kafka/libs/*"]
    tool = operators.execute(*java, "kafka.tools.StorageTool", "random-uuid")
    assert tool.returncode == 0, tool.stderr
    assert not tool.stderr
    assert operators.output("ls", "/opt/kafka/reporter").count("metrics-reporter") >= 1
    version = operators.start("spark-submit", "--version", SPARK_LOCAL_IP="127.0.0.1")
    assert f"version {versions()['spark']['version']}" in version.stdout + version.stderr


def test_images_that_share_layers_share_them_in_the_layout(store: Store, tmp_path: Path) -> None:
    names = ["pause", "postgresql"]
    build(store, names)
    layout = Layout(tmp_path / "layout")
    put(store, layout, names)
    assert layout.names == {cluster_name(name) for name in names}
    layers = []
    for name in names:
        assert layout.configuration(cluster_name(name)) == f"sha256:{store.identity(local_name(name))}"
        manifest = json.loads(layout.path(layout.find(cluster_name(name))["digest"]).read_bytes())  # type: ignore[index]
        assert all(layer["mediaType"].endswith(".tar") for layer in manifest["layers"])
        layers.append([layer["digest"] for layer in manifest["layers"]])
    assert layers[0][0] == layers[1][0]
    parts = {path: path.stat().st_mtime_ns for path in (layout.folder / "blobs" / "sha256").iterdir()}
    assert len(parts) == 4 + len({*layers[0], *layers[1]})
    for path in parts:
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == path.name
    put(store, layout, names)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts  # what is there is not pushed again
