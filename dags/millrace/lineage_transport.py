"""Sends OpenLineage's events to Kafka, as whom and where the Airflow connection `kafka_default` says.

Switched on by one setting without a secret in it:

    AIRFLOW__OPENLINEAGE__TRANSPORT={"type": "millrace.lineage_transport.ConnectionTransport", "topic": "lineage"}

Without it the provider is silent. OpenLineage's own Kafka transport does the sending; this tells it the broker and the
user, which would else have to be written down a second time, with the password.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import attr
from openlineage.client.transport.kafka import KafkaConfig, KafkaTransport
from openlineage.client.transport.transport import Config

from millrace.errors import MillraceError

VARIABLE = "AIRFLOW_CONN_KAFKA_DEFAULT"
PATIENCE_MS = 8000
"""For one event. The provider ends a process that sends for longer than 10 s; the task itself never waits."""


@attr.define
class ConnectionConfig(Config):
    """Which topic."""

    topic: str = "lineage"

    @classmethod
    def from_dict(cls, params: dict[str, Any]) -> "ConnectionConfig":
        """Return the configuration that Airflow's setting holds."""
        return cls(topic=params.get("topic", "lineage"))


class ConnectionTransport(KafkaTransport):
    """OpenLineage's Kafka transport, with the settings of `kafka_default`."""

    kind = "millrace"
    config_class = ConnectionConfig  # type: ignore[assignment]

    def __init__(self, config: ConnectionConfig) -> None:
        super().__init__(KafkaConfig(config=client_settings(os.environ), topic=config.topic))


def client_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return librdkafka's settings from the connection's variable; events also come from where no task runs.

    Raises MillraceError if it isn't set, or doesn't name a broker.
    """
    try:
        extra = json.loads(environ[VARIABLE])["extra"]
        found = dict(extra if isinstance(extra, Mapping) else json.loads(extra))
        if not found["bootstrap.servers"]:
            raise KeyError("bootstrap.servers")
    except (KeyError, TypeError, ValueError) as error:
        raise MillraceError(
            f"{VARIABLE} does not say where Kafka is ({type(error).__name__}), so no lineage is sent: set it to "
            '{"conn_type": "kafka", "extra": {"bootstrap.servers": "host:port"}}.'
        ) from error
    return {"message.timeout.ms": PATIENCE_MS, "enable.idempotence": True, **found}
