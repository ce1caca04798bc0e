"""Forwards what an Azure Event Hubs namespace holds into one of our topics, as messages of its contract.

Event Hubs speaks Kafka's protocol at port 9093, with TLS and SASL PLAIN: the user is `$ConnectionString`, the password
the connection string. The group's offsets are kept there, in the namespace. An event is committed after Kafka has
acknowledged its message: each arrives at least once, and its `event_id` tells a second copy.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jmespath
import jmespath.exceptions
import orjson
from confluent_kafka import Message

from ingest import contracts, kafka
from ingest.consumer import Batch, ConsumerSettings, consume
from ingest.consumer_metrics import ConsumerMetrics
from ingest.contracts import Contract, ContractError
from ingest.dead_letters import DeadLetters
from ingest.errors import BadInputError
from ingest.kafka import ProducerSettings
from ingest.progress import Progress, iso
from ingest.sender import Sender, StopRequest

VARIABLE = "EVENT_HUBS_CONNECTION_STRING"
AUTHORITY = "EVENT_HUBS_SSL_CA_LOCATION"
PORT = 9093
_NEEDED = ("Endpoint", "SharedAccessKeyName", "SharedAccessKey")
# The service closes a connection that was idle for 4 minutes, and wants sessions of 6 s to 5 minutes.
_OPTIONS = {"socket.keepalive.enable": True, "connections.max.idle.ms": 180_000, "metadata.max.age.ms": 180_000}


@dataclass(frozen=True)
class Namespace:
    """A namespace, and how to enter it."""

    host: str
    port: int
    hub: str  # the one that the connection string is for; empty if it is for the whole namespace
    connection_string: str = field(repr=False)
    authority: str = ""  # PEM file; empty for those that the system trusts

    def consumer(self, **settings: Any) -> ConsumerSettings:
        """Return the settings of a consumer."""
        security = {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "$ConnectionString",
            "sasl.password": self.connection_string,
        }
        return ConsumerSettings(
            f"{self.host}:{self.port}",
            security=security | ({"ssl.ca.location": self.authority} if self.authority else {}),
            address_from=f"the Endpoint in {VARIABLE}",
            user_from=VARIABLE,
            topic_from="correct --event-hub, or make it there",
            options=_OPTIONS,
            **settings,
        )


def namespace_of(environ: Mapping[str, str] = os.environ) -> Namespace:
    """Return the namespace that the environment names.

    Raises BadInputError if the connection string is missing, can't be read or isn't one. No error quotes it.
    """
    text = environ.get(VARIABLE, "").strip()
    file = environ.get(f"{VARIABLE}_FILE")
    if not text and file:
        try:
            text = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise BadInputError(
                f"{VARIABLE}_FILE names {file}, which can't be read ({reason}): mount it there."
            ) from None
    if not text:
        raise BadInputError(f"no Event Hubs namespace is given: set {VARIABLE}, or {VARIABLE}_FILE to a file with it.")
    parts = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
    missing = [name for name in _NEEDED if not parts.get(name)]
    if missing:
        raise BadInputError(
            f"{VARIABLE} lacks {', '.join(missing)}: copy the whole connection string of a shared access policy."
        )
    try:
        endpoint = urlsplit(parts["Endpoint"])
        host, port = endpoint.hostname, endpoint.port or PORT
    except ValueError:
        host, port = None, PORT
    if not host:
        raise BadInputError(f"the Endpoint in {VARIABLE} isn't an address such as sb://name.servicebus.windows.net/.")
    authority = environ.get(AUTHORITY, "")
    if authority and not os.access(authority, os.R_OK):
        raise BadInputError(f"{AUTHORITY} names {authority}, which can't be read: mount the certificate there.")
    return Namespace(host, port, parts.get("EntityPath", ""), text, authority)


@dataclass(frozen=True)
class EventMapping:
    """How an event becomes a message: fields taken from the event, and fields that are always the same.

    Without `fields` the event's own fields are the message's. What the message then lacks of `schema_version`,
    `event_id`, `source` and the event time is what Event Hubs knows of the event.
    """

    fields: Mapping[str, str] = field(default_factory=dict)  # name in the message: JMESPath in the event
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, path in self.fields.items():
            try:
                jmespath.compile(path)
            except jmespath.exceptions.JMESPathError as error:
                reason = str(error).splitlines()[0]
                raise BadInputError(f"--field {name}={path} isn't a JMESPath ({reason}).") from None

    def message(self, record: Message, contract: Contract, origin: str) -> contracts.Message:
        """Return the message of an event; raises ContractError if the event isn't a JSON object, or can't be searched.

        `origin` names the namespace and the hub: with partition and offset it is the event's id, if it has none.
        """
        try:
            event = orjson.loads(record.value() or b"")
        except orjson.JSONDecodeError as error:
            raise ContractError(f"malformed JSON: {error}") from error
        if not isinstance(event, dict):
            raise ContractError("malformed JSON: not an object")
        message = self._taken(event) if self.fields else event
        time_field = contract.schema["x-event-time"]
        known = {
            "schema_version": contract.version,
            "event_id": f"{origin}/{record.partition()}/{record.offset()}",
            "source": origin,
            time_field: iso(max(1, record.timestamp()[1]) / 1000),  # when the event was queued
        }
        message = known | message | dict(self.constants)
        if isinstance(message["event_id"], int):
            message["event_id"] = str(message["event_id"])
        message[time_field] = _instant(message[time_field])
        return message

    def _taken(self, event: contracts.Message) -> contracts.Message:
        try:
            found = {name: jmespath.search(path, event) for name, path in self.fields.items()}
        except jmespath.exceptions.JMESPathError as error:
            raise ContractError(f"can't be searched: {str(error).splitlines()[0]}") from error
        return {name: value for name, value in found.items() if value is not None}


def _instant(value: Any) -> Any:
    """Return an instant as our contracts write it; what isn't one is left for the contract to refuse."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
    return value if moment.tzinfo is None else iso(moment.timestamp())


@dataclass(frozen=True)
class ForwardSettings:
    """From which event hub, to which topic."""

    consumer: ConsumerSettings
    producer: ProducerSettings
    hub: str
    topic: str
    origin: str  # names namespace and hub, in ids
    contract: str = ""  # of which topic; empty for the topic's own
    group: str = ""  # in the namespace; empty for `millrace-<topic>`
    mapping: EventMapping = EventMapping()
    until_end: bool = False


def forward(settings: ForwardSettings, stop: StopRequest, metrics: ConsumerMetrics) -> dict[str, Any]:
    """Forward events until it is asked to stop, and return the summary.

    Raises BadInputError if the hub or the topic doesn't exist or a user is refused, IngestError if either side fails.
    """
    forwarder = Forwarder(settings, metrics)
    group = settings.group or f"millrace-{settings.topic}"
    summary = consume(
        settings.consumer,
        [settings.hub],
        group,
        forwarder.forward,
        stop=stop,
        metrics=metrics,
        until_end=settings.until_end,
    )
    return summary | {"sent": forwarder.progress.sent, "dead_letters": forwarder.dead.sent}


class Forwarder:
    """Sends batches of events to the topic."""

    def __init__(self, settings: ForwardSettings, metrics: ConsumerMetrics) -> None:
        name = settings.contract or settings.topic
        self._contract = contracts.load(name, (contracts.versions(name) or [1])[-1])
        self._mapping, self._origin = settings.mapping, settings.origin
        self._partitions = kafka.partition_count(settings.producer, settings.topic)
        self.dead = DeadLetters(settings.producer, settings.topic, "event-hubs", metrics)
        self.progress = Progress("event-hubs", settings.topic, metrics)
        # A stop finishes the batch under way: it isn't the sender's business.
        self._sender = Sender(settings.producer, settings.topic, StopRequest(), self.progress)

    def forward(self, batch: Batch) -> None:
        """Send a batch, and wait until all of it is acknowledged; raises IngestError if it can't be."""
        newest = 0.0
        for record in batch.records:
            try:
                message = self._mapping.message(record, self._contract, self._origin)
                value = self._contract.encode(message)
            except ContractError as error:
                self.dead.send(record, str(error))
                continue
            key = self._contract.key(message)
            self._sender.send(kafka.partition_of(key, self._partitions), key, value)
            newest = max(newest, datetime.fromisoformat(message[self._contract.schema["x-event-time"]]).timestamp())
        self.dead.flush()
        self._sender.flush()
        self.progress.event_time = max(self.progress.event_time, newest)
        self.progress.report()
        batch.event_time = newest or batch.event_time
