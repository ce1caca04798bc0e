"""How an app reaches Kafka: what its source and its sink are given."""

from dataclasses import replace

from streamkit.kafka import CONNECTING, kafka_options
from streamkit.settings import KafkaSecuritySettings, KafkaSinkSettings, SourceSettings

PLAIN = KafkaSecuritySettings(protocol="PLAINTEXT")
REACHED = {"kafka.bootstrap.servers": "broker:9092", **CONNECTING}


def test_a_sink_compresses_unless_its_options_say_otherwise() -> None:
    sink = KafkaSinkSettings("windows", "broker:9092", PLAIN)
    expected = {"topic": "windows", "kafka.compression.type": "zstd"}
    assert kafka_options(sink) == REACHED | expected
    own = KafkaSinkSettings(
        "windows", "broker:9092", PLAIN, options={"kafka.compression.type": "lz4", "failOnDataLoss": "no"}
    )
    assert kafka_options(own) == REACHED | expected | {"kafka.compression.type": "lz4"}


def test_a_source_is_told_nothing_of_compression() -> None:
    source = SourceSettings(topic="events", bootstrap_servers="broker:9092", contract="contract.json", security=PLAIN)
    assert kafka_options(source) == REACHED


def test_a_silent_address_is_given_up_within_seconds_unless_options_say_otherwise() -> None:
    """Kafka's own 30 s are half of the time after which a query's call to Kafka fails."""
    patience = "kafka.socket.connection.setup.timeout.max.ms"
    source = SourceSettings(topic="events", bootstrap_servers="broker:9092", contract="contract.json", security=PLAIN)
    assert int(kafka_options(source)[patience]) <= 5000
    assert kafka_options(replace(source, options={patience: "30000"}))[patience] == "30000"
