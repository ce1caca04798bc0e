"""The secrets: what is made, what is kept, and what does not fit together."""

import base64
import json
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from k8s.install.credentials import KAFKA_USERS, STREAM_USERS, places
from k8s.install.releases import releases

OWN = {"password": "my own"}


@pytest.fixture
def cluster(world):
    world.change(contexts=["kind-millrace"])
    return world


def test_every_secret_that_a_release_needs_is_made_and_no_other(cluster, millrace):
    assert millrace("secrets")[0] == 0
    needed = {
        (namespace, name)
        for release in releases()
        for namespace, names in release.needs.secrets.items()
        for name in names
    }
    assert set(cluster.secrets()) == needed - {("airflow", "kafka-ca")} == set(places())


def test_what_must_agree_agrees(cluster, millrace):
    millrace("secrets")
    found = cluster.secrets()
    stores = [found[namespace, "object-store"] for namespace in ("millrace", "streams", "airflow")]
    assert stores[0] == stores[1] == stores[2]
    for user in STREAM_USERS:
        theirs = found["streams", f"kafka-user-{user}"]
        assert theirs == {"username": user, "password": found["millrace", f"kafka-user-{user}"]["password"]}
    passwords = [found["millrace", f"kafka-user-{user}"]["password"] for user in KAFKA_USERS]
    assert len(set(passwords)) == len(KAFKA_USERS)
    assert min(map(len, passwords)) >= 32
    connection = found["airflow", "airflow-metadata"]["connection"]
    password = found["millrace", "postgresql"]["airflow-password"]
    assert connection == f"postgresql+psycopg://airflow:{password}@postgresql.millrace.svc:5432/airflow"


READ = """
import json, os, sys
os.environ |= json.load(sys.stdin)
from airflow.models.connection import Connection
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from sqlalchemy import make_url
url = make_url(os.environ["AIRFLOW_METADATA"])
kafka = Connection.from_json(os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"])
client = S3Hook(aws_conn_id="object_store").get_conn()
place = {"Bucket": "millrace", "Key": "airflow-logs/x"}
print(json.dumps({
    "driver": url.drivername, "host": url.host, "database": url.database, "kafka": kafka.extra_dejson,
    "endpoint": client.meta.endpoint_url, "object": client.generate_presigned_url("get_object", Params=place),
}))
"""


def test_airflow_reads_them_as_they_are_meant(cluster, millrace, tmp_path):
    millrace("secrets")
    found = cluster.secrets()
    Fernet(found["airflow", "airflow-fernet-key"]["fernet-key"].encode())
    environment = {
        **found["airflow", "airflow-connections"],
        "AIRFLOW_METADATA": found["airflow", "airflow-metadata"]["connection"],
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
    }
    result = subprocess.run(
        [sys.executable, "-c", READ], input=json.dumps(environment), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    read = json.loads(result.stdout.splitlines()[-1])
    assert (read["driver"], read["host"], read["database"]) == (
        "postgresql+psycopg",
        "postgresql.millrace.svc",
        "airflow",
    )
    assert read["kafka"]["sasl.password"] == found["millrace", "kafka-user-airflow"]["password"]
    assert read["kafka"]["ssl.ca.location"] == "/etc/millrace/kafka/ca.crt"
    assert read["endpoint"] == "http://object-store.millrace.svc:7070"
    # The bucket in the path: a name such as millrace.object-store.millrace.svc would not resolve.
    assert read["object"].startswith("http://object-store.millrace.svc:7070/millrace/airflow-logs/x?")


def test_secrets_that_are_there_are_kept_and_the_rest_fits_them(cluster, millrace):
    put(cluster, "millrace", "kafka-user-ingest", **OWN)
    put(cluster, "airflow", "object-store", **{"access-key": "MINE", "secret-key": "mine too"})
    status, text = millrace("secrets")
    assert status == 0, text
    found = cluster.secrets()
    assert found["millrace", "kafka-user-ingest"] == OWN
    assert found["streams", "kafka-user-ingest"] == {"username": "ingest", **OWN}
    assert found["streams", "object-store"] == {"access-key": "MINE", "secret-key": "mine too"}
    assert json.loads(found["airflow", "airflow-connections"]["AIRFLOW_CONN_OBJECT_STORE"])["login"] == "MINE"
    assert "Kept 2 secrets" in text
    assert "mine too" not in text


def test_a_second_time_makes_nothing(cluster, millrace):
    millrace("secrets")
    before = cluster.secrets()
    cluster.forget()
    assert millrace("secrets")[0] == 0
    assert cluster.secrets() == before
    assert cluster.changing() == []


def test_a_secret_that_was_deleted_comes_back_as_it_was_where_another_has_its_value(cluster, millrace):
    millrace("secrets")
    before = cluster.secrets()
    delete(cluster, "streams", "object-store")
    assert millrace("secrets")[0] == 0
    assert cluster.secrets() == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda world: put(world, "streams", "object-store", **{"access-key": "OTHER", "secret-key": "x"}),
            "The secrets millrace/object-store and streams/object-store and airflow/object-store differ but must agree",
        ),
        (
            lambda world: put(world, "millrace", "postgresql", **{"postgres-password": "x"}),
            "The secret millrace/postgresql has no key airflow-password",
        ),
        (
            lambda world: delete(world, "millrace", "kafka-user-airflow"),
            "The secret airflow/airflow-connections is there, but the one that it was made from "
            "(kafka-user-airflow) is not",
        ),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_made(cluster, millrace, change, sentence):
    millrace("secrets")
    change(cluster)
    before = cluster.secrets()
    status, text = millrace("secrets")
    assert status == 1
    assert sentence in text
    assert cluster.secrets() == before


def test_production_brings_its_own(cluster, millrace):
    status, text = millrace("secrets", "--environment", "production")
    assert status == 2
    assert "docs/gitops.md" in text
    assert cluster.secrets() == {}


def test_a_cluster_that_refuses_is_quoted_without_what_was_sent(cluster, millrace):
    cluster.fail("create --filename -", 'Error from server (NotFound): namespaces "airflow" not found')
    status, text = millrace("secrets")
    assert status == 1
    assert 'namespaces "airflow" not found' in text
    [call] = [call for call in cluster.recorded() if " create " in call["line"]]
    assert not any(
        each["stringData"][key] in text for each in sent(call) for key in each["stringData"] if "pass" in key
    )


def test_the_certificate_of_kafka_waits_for_kafka_and_follows_its_renewal(cluster, millrace):
    status, text = millrace("kafka-ca")
    assert status == 1
    assert "There is no secret millrace/millrace-cluster-ca-cert yet" in text
    assert cluster.changing() == []
    put(cluster, "millrace", "millrace-cluster-ca-cert", **{"ca.crt": "one", "ca.password": "not copied"})
    assert millrace("kafka-ca")[0] == 0
    assert cluster.secrets()["airflow", "kafka-ca"] == cluster.secrets()["streams", "kafka-ca"] == {"ca.crt": "one"}
    cluster.forget()
    assert millrace("kafka-ca")[0] == 0
    assert cluster.changing() == []
    put(cluster, "millrace", "millrace-cluster-ca-cert", **{"ca.crt": "two"})
    assert millrace("kafka-ca")[0] == 0
    assert cluster.secrets()["streams", "kafka-ca"] == {"ca.crt": "two"}


def sent(call):
    return json.loads(call["stdin"])["items"]


def put(world, namespace, name, **data):
    content = world.read()
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    content["objects"][f"secret|{namespace}|{name}"] = encoded
    world.write(content)


def delete(world, namespace, name):
    content = world.read()
    del content["objects"][f"secret|{namespace}|{name}"]
    world.write(content)
