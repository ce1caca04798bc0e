"""Who reaches what, who is let in, and as whom programs run; from inside of the cluster."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.cluster.platform import NAMESPACES
from tests.cluster.probes import (
    BROKER,
    DATABASE,
    DRIVER,
    FEED,
    MIGRATION,
    OTHER_OF_AIRFLOW,
    OUTSIDER,
    STORE,
    UNLABELLED,
)
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.usefixtures("healthy_run")

PLACES = (BROKER, DATABASE, STORE)
LET_IN = [(FEED, BROKER), (DRIVER, BROKER), (DRIVER, STORE), (MIGRATION, DATABASE)]
KEPT_OUT = [
    *((probe, place) for probe in (OUTSIDER, UNLABELLED, OTHER_OF_AIRFLOW) for place in PLACES),
    *((FEED, DATABASE), (FEED, STORE), (DRIVER, DATABASE), (MIGRATION, BROKER), (MIGRATION, STORE)),
]

WRITE = """
import json, os, sys
from confluent_kafka import Producer
from ingest.kafka import security_config

topic, password = sys.argv[1], sys.argv[2]
security = security_config({**os.environ, **({"KAFKA_PASSWORD": password} if password else {})})
errors, delivered = [], []
producer = Producer({
    "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **security, "message.timeout.ms": 30000,
    "error_cb": lambda error: errors.append(error.name()),
})
producer.produce(topic, b"probe", on_delivery=lambda error, _: delivered.append(error.name() if error else "yes"))
for _ in range(40):
    # A client that is refused asks again until the message is too old.
    if not producer.flush(1) or "_AUTHENTICATION" in errors:
        break
print(json.dumps({"delivered": delivered, "errors": sorted(set(errors))}))
"""
READ = """
import json, os, sys
from confluent_kafka import Consumer
from ingest.kafka import security_config

consumer = Consumer({
    "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **security_config(),
    "group.id": "millrace-ingest-probe", "auto.offset.reset": "earliest", "enable.auto.commit": False,
})
consumer.subscribe([sys.argv[1]])
record = consumer.poll(60)
print(json.dumps("nothing" if record is None else record.error().name() if record.error() else "yes"))
"""


def named(pair):
    probe, place = pair
    return f"{probe.name} in {probe.namespace} to {place.partition('.')[0]}"


def reaches_all(cluster, probe, places):
    return set(probe.reaches(cluster, *places).values()) == {"yes"}


@pytest.fixture(scope="session")
def reached(cluster, probes):
    """What each pod reaches; asked when those that are let in are, so that nobody is kept out by being too early."""
    for probe in {probe for probe, _ in LET_IN}:
        wanted = [place for each, place in LET_IN if each is probe]
        eventually(partial(reaches_all, cluster, probe, wanted), f"{probe.name} to reach {', '.join(wanted)}", 60)
    everybody = {probe for probe, _ in LET_IN + KEPT_OUT}
    # All at once: whoever is kept out waits for some seconds.
    with ThreadPoolExecutor(len(everybody)) as pool:
        found = {probe: pool.submit(probe.reaches, cluster, *PLACES) for probe in everybody}
    return {(probe.name, probe.namespace): answer.result() for probe, answer in found.items()}


@pytest.mark.parametrize("pair", LET_IN, ids=named)
def test_who_needs_something_reaches_it(pair, probes, reached):
    probe, place = pair
    assert reached[probe.name, probe.namespace][place] == "yes"


@pytest.mark.parametrize("pair", KEPT_OUT, ids=named)
def test_who_does_not_need_it_does_not_reach_it(pair, probes, reached):
    probe, place = pair
    assert reached[probe.name, probe.namespace][place].startswith("no: timed out")


def test_the_right_password_writes_where_it_may(cluster, probes):
    assert FEED.run(cluster, WRITE, "input-topic", "")["delivered"] == ["yes"]


def test_a_wrong_password_is_refused(cluster, probes):
    found = FEED.run(cluster, WRITE, "input-topic", "wrong")
    assert found["delivered"] != ["yes"]
    assert "_AUTHENTICATION" in found["errors"]


def test_a_topic_outside_of_its_rights_is_not_written(cluster, probes):
    assert FEED.run(cluster, WRITE, "event-windows", "")["delivered"] == ["TOPIC_AUTHORIZATION_FAILED"]


def test_a_topic_outside_of_its_rights_is_not_read(cluster, probes):
    assert FEED.run(cluster, READ, "event-windows") == "TOPIC_AUTHORIZATION_FAILED"


def users(cluster, pod):
    """The user ids of every process that can be seen, by container."""
    found = {}
    for status in pod["status"].get("containerStatuses", ()):
        if "running" not in status["state"]:
            continue
        # What the runtime says of the first process; newer clusters have it.
        said = status.get("user", {}).get("linux", {}).get("uid")
        ids = set() if said is None else {said}
        place = ("exec", pod["metadata"]["name"], f"--container={status['name']}", "--")
        look = ("sh", "-c", "grep -h ^Uid: /proc/[0-9]*/status")
        # Images of one program have no shell.
        seen = cluster.kubectl(*place, *look, check=False, namespace=pod["metadata"]["namespace"])
        ids |= {int(uid) for line in seen.stdout.splitlines() for uid in line.split()[1:]}
        found[status["name"]] = ids
    return found


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nothing_runs_as_root(namespace, cluster, platform):
    found = {
        f"{pod['metadata']['name']}/{container}": ids
        for pod in platform.pods(namespace)
        if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")
        for container, ids in users(cluster, pod).items()
    }
    assert found or namespace == "streams"
    assert not {name: ids for name, ids in found.items() if 0 in ids}
    # A task's pod may have ended while it was asked.
    running = {pod["metadata"]["name"] for pod in platform.pods(namespace) if pod["status"]["phase"] == "Running"}
    silent = [name for name, ids in found.items() if not ids and name.partition("/")[0] in running]
    assert not silent, "nobody says as whom these run"
