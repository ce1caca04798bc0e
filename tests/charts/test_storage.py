"""PostgreSQL and the object store, as the chart starts them: the real programs, with what is rendered for them."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError

from embedded.ports import free_port
from tests.charts.gateway import Gateway, environment, wait_until
from tests.charts.render import by_name, of_kind, render_chart, workloads
from tests.postgresql import find, unprivileged


def test_nothing_is_rendered_for_a_database_of_one_s_own():
    objects = render_chart({"postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"], "port": 5433}}})
    assert not [each for each in objects if each["metadata"]["name"].startswith("postgresql")]
    [policy] = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "to-database"]
    assert policy["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 5433, "protocol": "TCP"}]}
    ]


@pytest.mark.parametrize(
    ("external", "endpoint", "region", "port"),
    [
        ({"region": "eu-central-1", "bucket": "mine"}, "", "eu-central-1", 443),
        (
            {"endpoint": "https://s3.example.com:9000", "bucket": "mine"},
            "https://s3.example.com:9000",
            "us-east-1",
            9000,
        ),
        ({"endpoint": "http://s3.example.com", "bucket": "mine"}, "http://s3.example.com", "us-east-1", 80),
    ],
)
def test_an_s3_of_one_s_own(external, endpoint, region, port):
    objects = render_chart({"objectStore": {"enabled": False, "external": external}})
    assert not [each for each in objects if each["metadata"]["name"] == "object-store"]
    for each in of_kind(objects, "ConfigMap"):
        if each["metadata"]["name"] == "millrace":
            assert each["data"]["MILLRACE_STORAGE"] == "s3a://mine"
            assert each["data"].get("AWS_ENDPOINT_URL_S3", "") == endpoint
            assert each["data"]["AWS_REGION"] == region
    [policy] = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "to-object-store"]
    assert policy["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": port, "protocol": "TCP"}]}
    ]


def test_the_bucket_is_there_before_the_first_request_and_stays(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.initialise()
    with gateway.running():
        client = gateway.client()
        assert [each["Name"] for each in client.list_buckets()["Buckets"]] == ["millrace"]
        client.put_object(Bucket="millrace", Key="checkpoints/offsets/0", Body=b"first")
        # What makes a commit atomic: of many who write what isn't there yet, one wins.
        outcomes: list[str] = []

        def commit() -> None:
            try:
                gateway.client().put_object(
                    Bucket="millrace", Key="checkpoints/commits/0", Body=b"mine", IfNoneMatch="*"
                )
                outcomes.append("won")
            except ClientError as error:
                outcomes.append(error.response["Error"]["Code"])

        threads = [threading.Thread(target=commit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert outcomes.count("won") == 1
        assert len(outcomes) == 8
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            gateway.client("wrong").list_buckets()
    gateway.initialise()  # each start of the pod
    with gateway.running():
        stored = gateway.client().get_object(Bucket="millrace", Key="checkpoints/offsets/0")
        assert stored["Body"].read() == b"first"


class Server:
    """PostgreSQL's pod, on this machine: the image's entry point does the same with initdb and psql."""

    def __init__(self, directory: Path) -> None:
        objects = render_chart()
        pod = workloads(objects)["StatefulSet/postgresql"]
        self.container = pod["containers"][0]
        self.script = by_name(objects, "ConfigMap")["postgresql-init"]["data"]["init.sql"]
        self.exporter = environment(pod["containers"][1])["DATA_SOURCE_NAME"]
        self.directory, self.data, self.port = directory, directory / "data", free_port()

    def initialise(self) -> None:
        """What the entry point does on an empty volume, up to the scripts."""
        passwords = {"postgres-password": "of the superuser", "airflow-password": 'it\'s "quoted" $HOME'}
        for name, password in passwords.items():
            self.file(name, password)
        arguments = environment(self.container)["POSTGRES_INITDB_ARGS"].split()
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "--no-sync", *arguments)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all all scram-sha-256\n")

    def file(self, name: str, content: str) -> Path:
        path = self.directory / name
        path.write_text(content)
        identity = unprivileged()
        if identity:
            os.chown(path, identity["user"], identity["group"])
        return path

    def run(self, program: str, *arguments: str) -> str:
        result = subprocess.run(
            [str(find(program)), *arguments],
            env={"LC_ALL": "C", "PATH": os.environ["PATH"], "HOME": str(self.directory)},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **unprivileged(),
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        command = [str(find("postgres")), "-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1"]
        command += ["-k", str(self.directory), *self.container["args"]]
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **unprivileged())
        try:
            probe = self.container["startupProbe"]["exec"]["command"]
            ready = [str(find(probe[0])), *probe[1:], f"--port={self.port}"]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, process)
            yield
        finally:
            process.send_signal(2)  # SIGINT, the image's stop signal: a fast shutdown
            process.wait(60)

    def connect(self, user: str, password: str, database: str) -> psycopg.Connection:
        return psycopg.connect(host="127.0.0.1", port=self.port, user=user, password=password, dbname=database)


@pytest.fixture
def server() -> Iterator[Server]:
    if None in (find("initdb"), find("postgres"), find("psql")):
        pytest.skip("needs PostgreSQL's programs (Debian: postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-postgresql-"))  # a socket's path must be short
    identity = unprivileged()
    if identity:
        os.chown(directory, identity["user"], identity["group"])
    yield Server(directory)
    shutil.rmtree(directory, ignore_errors=True)


def test_the_database_and_its_roles_are_made(server):
    server.initialise()
    with server.running():
        script = server.file("init.sql", server.script.replace("/etc/millrace/postgresql", str(server.directory)))
        server.run("psql", "-h", str(server.directory), "-p", str(server.port), "-U", "postgres", "-f", str(script))

        with server.connect("airflow", 'it\'s "quoted" $HOME', "airflow") as connection:
            assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
            assert connection.execute("SHOW max_connections").fetchone() == ("100",)
            connection.execute("CREATE TABLE of_migrations (name text)")
            assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'airflow'").fetchone() == (False,)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            server.connect("airflow", "wrong", "airflow")

        # The exporter comes by the socket, which no other pod has; by the network nobody is let in without a password.
        by_socket = server.exporter.replace("/var/run/postgresql", str(server.directory)) + f" port={server.port}"
        with psycopg.connect(by_socket) as connection:
            member = "SELECT pg_has_role('exporter', 'pg_monitor', 'member')"
            assert connection.execute(member).fetchone() == (True,)
        with pytest.raises(psycopg.OperationalError, match="password|fe_sendauth"):
            server.connect("exporter", "", "postgres")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(by_socket.replace("dbname=postgres", "dbname=airflow"))
