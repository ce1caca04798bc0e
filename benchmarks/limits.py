"""The machine's limits: Kafka's own performance tools, and the loop that a user would write instead of a Spark app."""

import re
import subprocess
import time
from pathlib import Path

import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

KEEP = "departed"  # what every filter of the benchmark keeps: one event in four


def _tool(java_home: Path, jars: Path, main_class: str, arguments: list[str]) -> str:
    command = [str(java_home / "bin" / "java"), "-Xmx1g", "-cp", f"{jars}/*", main_class, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{main_class} failed with exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def producer_tool(
    bootstrap_servers: str, topic: str, records: int, payload: Path, java_home: Path, jars: Path
) -> float:
    """Return the records/s of kafka-producer-perf-test writing `records` lines of `payload` to `topic`.

    Raises:
        RuntimeError: when the tool failed or its output has no rate.
    """
    # fmt: off
    output = _tool(java_home, jars, "org.apache.kafka.tools.ProducerPerformance", [
        "--topic", topic, "--num-records", str(records), "--throughput", "-1", "--payload-file", str(payload),
        "--command-property", f"bootstrap.servers={bootstrap_servers}", "acks=all", "linger.ms=20",
        "batch.size=262144",
    ])
    # fmt: on
    rates = re.findall(r"([\d.]+) records/sec", output)
    if not rates:
        raise RuntimeError(f"kafka-producer-perf-test printed no rate: {output[-400:]}")
    return float(rates[-1])


def consumer_tool(bootstrap_servers: str, topic: str, records: int, java_home: Path, jars: Path) -> float:
    """Return the records/s of kafka-consumer-perf-test reading `records` records of `topic` (fetch time only).

    Raises:
        RuntimeError: when the tool failed or its output has no figures.
    """
    # fmt: off
    output = _tool(java_home, jars, "org.apache.kafka.tools.ConsumerPerformance", [
        "--topic", topic, "--num-records", str(records), "--bootstrap-server", bootstrap_servers,
        "--timeout", "60000",
    ])
    # fmt: on
    rows = [line.split(",") for line in output.splitlines() if line.count(",") >= 9]
    if len(rows) < 2:
        raise RuntimeError(f"kafka-consumer-perf-test printed no figures: {output[-400:]}")
    figures = dict(zip((name.strip() for name in rows[0]), rows[-1], strict=False))
    return float(figures["fetch.nMsg.sec"])


def hand_written_loop(bootstrap_servers: str, source: str, sink: str, records: int) -> float:
    """Return the records/s of a plain confluent-kafka loop: consume, parse with orjson, filter, produce.

    Reads `records` records of `source` once and writes those with event_type KEEP to `sink`; one process, as the
    first version that most people write.

    Raises:
        KafkaException: when a record could not be read or written.
    """
    # fmt: off
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers, "group.id": "benchmark-loop", "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "fetch.min.bytes": 65_536, "queued.max.messages.kbytes": 262_144,
    })
    producer = Producer({
        "bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 20, "batch.size": 262_144,
        "queue.buffering.max.messages": 500_000,
    })
    # fmt: on
    partitions = consumer.list_topics(source, timeout=30).topics[source].partitions
    consumer.assign([TopicPartition(source, partition, 0) for partition in partitions])
    seen = 0
    started = time.perf_counter()
    while seen < records:
        for message in consumer.consume(10_000, timeout=10):
            if message.error():
                raise KafkaException(message.error())
            seen += 1
            event = orjson.loads(message.value())
            if event["event_type"] == KEEP:
                producer.produce(sink, message.value(), message.key())
        producer.poll(0)
    producer.flush()
    elapsed = time.perf_counter() - started
    consumer.close()
    return seen / elapsed
