"""Connections to the brokers, as one of the cluster's own parts."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.cluster.standins.strimzi.clusters import RefusedError

SECONDS = 30


def settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how to connect, from a pod's environment: with the one key and certificate of a folder."""
    folder = Path(environment["KAFKA_KEYS"])
    [key], [certificate] = sorted(folder.glob("*.key")), sorted(folder.glob("*.crt"))
    return {
        "bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": "ssl",
        "ssl.ca.location": environment["KAFKA_AUTHORITY"],
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
        "socket.connection.setup.timeout.ms": 10_000,
        # A broker that was restarted is found again soon.
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
    }


def connect(environment: Mapping[str, str]) -> AdminClient:
    """Return a client for administration."""
    return AdminClient({**settings(environment), "log_level": 4})


def results(futures: Iterable[Future]) -> list[Any]:
    """Return what Kafka answered. Raises RefusedError with what it said against it."""
    try:
        return [each.result(SECONDS) for each in futures]
    except KafkaException as error:
        raise RefusedError(error.args[0].str(), "KafkaError") from None
    except TimeoutError:
        raise RefusedError(f"Kafka did not answer within {SECONDS} s.", "KafkaError") from None
