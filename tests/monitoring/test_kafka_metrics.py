"""What the rules name is what a broker serves, with the reporter that Strimzi gives it and our allow list."""

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import NewTopic

from embedded import broker as embedded_broker
from embedded import jars
from embedded.broker import Broker, BrokerSettings
from embedded.java import find_java
from embedded.ports import LOOPBACK, free_port
from embedded.settings import load_settings
from tests.charts.render import by_name, render_chart
from tests.monitoring.conftest import exposition
from tests.monitoring.exposition import listed, served
from tests.topics import create_topics

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """What a broker serves that has been written to and read from, under the chart's allow list."""
    place = tmp_path_factory.mktemp("kafka")
    java = find_java()
    folders = jars.fetch(java, load_settings().jars, names=["kafka", "metrics"])
    together = place / "jars"
    together.mkdir()
    for jar in (jar for folder in folders.values() for jar in folder.glob("*.jar")):
        (together / jar.name).symlink_to(jar)
    [resource] = by_name(render_chart(), "Kafka").values()
    allowed = resource["spec"]["kafka"]["metricsConfig"]["values"]["allowList"]
    port = free_port()
    reporter = {
        "metric.reporters": "io.strimzi.kafka.metrics.KafkaPrometheusMetricsReporter",
        "kafka.metrics.reporters": "io.strimzi.kafka.metrics.YammerPrometheusMetricsReporter",
        "prometheus.metrics.reporter.listener": f"http://{LOOPBACK}:{port}",
        "prometheus.metrics.reporter.allowlist": ",".join(allowed),
    }
    settings = BrokerSettings(
        java, together, place, free_port(), free_port(), log_file=place / "log", heap_mebibytes=192, short_lived=True
    )
    broker = Broker(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_broker, "BROKER_PROPERTIES", embedded_broker.BROKER_PROPERTIES | reporter)
        broker.start()
    try:
        _use(broker.bootstrap_servers)
        yield served(exposition(f"http://{LOOPBACK}:{port}/metrics"))
    finally:
        broker.kill()


def _use(servers):
    """Write to a topic and read from it: metrics of topics appear with their first request."""
    create_topics(servers, NewTopic("events", 1, 1))
    producer = Producer({"bootstrap.servers": servers})
    producer.produce("events", b"one")
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe(["events"])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.value() == b"one"


def test_what_is_listed_is_served_with_these_labels(kafka):
    metrics = listed("kafka")
    assert metrics.keys() <= kafka.keys()
    assert {name: kafka[name] for name in metrics} == metrics


def test_little_else_is_served(kafka):
    """All that a broker has are thousands of series."""
    assert not [name for name in kafka if name.startswith(("kafka_server_fetch", "kafka_coordinator", "kafka_utils"))]
    families = {name for name in kafka if name.startswith("kafka_")}
    assert len(families) < 100
