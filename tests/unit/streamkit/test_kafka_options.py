"""How an app reaches Kafka: what its source and its sink are given."""

from streamkit.kafka import kafka_options
from streamkit.settings import KafkaSecuritySettings, KafkaSinkSettings, SourceSettings

PLAIN = KafkaSecuritySettings(protocol="PLAINTEXT")


def test_a_sink_compresses_unless_its_options_say_otherwise() -> None:
    sink = KafkaSinkSettings("windows", "broker:9092", PLAIN)
    expected = {"kafka.bootstrap.servers": "broker:9092", "topic": "windows", "kafka.compression.type": "zstd"}
    assert kafka_options(sink) == expected
    own = KafkaSinkSettings(
        "windows", "broker:9092", PLAIN, options={"kafka.compression.type": "lz4", "failOnDataLoss": "no"}
    )
    assert kafka_options(own) == expected | {"kafka.compression.type": "lz4"}


def test_a_source_is_told_nothing_of_compression() -> None:
    source = SourceSettings(topic="events", bootstrap_servers="broker:9092", contract="contract.json", security=PLAIN)
    assert kafka_options(source) == {"kafka.bootstrap.servers": "broker:9092"}
