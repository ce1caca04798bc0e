"""The commands that are members of a consumer group: `persist` and `event-hubs`."""

import argparse
from typing import Any

import orjson

from ingest import event_hubs
from ingest.commands import AddFeed, Producer
from ingest.consumer import ConsumerSettings
from ingest.consumer_metrics import ConsumerMetrics
from ingest.errors import BadInputError
from ingest.kafka import ProducerSettings
from ingest.sender import StopRequest

_PERSIST = """examples:
  # keep market-data in a Delta table, partitioned by the event's date
  python -m ingest persist --topic market-data --to s3://millrace/tables/market-data-raw
  # keep what is there now, and end
  python -m ingest persist --topic market-data --to /tmp/market-data --until-end

To scale, start the same command again: the members share the topic's partitions. Each record is in the
table once, whatever is killed when. Records that break the contract go to <topic>-dead-letter. Storage on
S3: AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.
"""
_EVENT_HUBS = """examples:
  # the event hub `trades`, whose events keep the contract of market-data
  EVENT_HUBS_CONNECTION_STRING_FILE=/run/secrets/hub python -m ingest event-hubs --event-hub trades
  # events of another shape: {"id": 7, "data": {"last": 1.5}, ...}
  python -m ingest event-hubs --event-hub quotes --field event_id=id --field price=data.last \\
    --constant event_type=ticker --constant symbol=EUR/USD

The namespace comes from EVENT_HUBS_CONNECTION_STRING, or the file that EVENT_HUBS_CONNECTION_STRING_FILE
names: the connection string of a shared access policy that may listen. It is never an argument.
EVENT_HUBS_SSL_CA_LOCATION (PEM file) replaces the authorities that the system trusts. Each event arrives at
least once; its event_id is its own, or its place in the hub.
"""


def register(commands: Any, feed: AddFeed, producer: Producer) -> None:
    """Add the commands; `feed` makes one with every feed's options, `producer` reads those that tell how to send."""

    def persist_command(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
        return _persist(arguments, producer(arguments), stop)

    def event_hubs_command(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
        return _event_hubs(arguments, producer(arguments), stop)

    one = feed(commands, "persist", "keep a topic's messages in a table, each once", _PERSIST, "market-data")
    one.add_argument("--to", required=True, metavar="URL", help="the table: a path, file://, s3:// or another storage")
    _member_options(one, batch_records=10_000, batch_seconds=10.0)
    one.set_defaults(run=persist_command)

    one = feed(commands, "event-hubs", "forward events from Azure Event Hubs", _EVENT_HUBS, "market-data")
    one.add_argument("--event-hub", metavar="NAME", help="default: the one that the connection string is for")
    one.add_argument("--group", default="", metavar="NAME", help="consumer group there (default millrace-<topic>)")
    one.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a field of the message, and where the event has it (JMESPath); with any, only these are taken",
    )
    one.add_argument(
        "--constant", action="append", default=[], metavar="NAME=VALUE", help="a field that is always the same"
    )
    _member_options(one, batch_records=5_000, batch_seconds=0.0)
    one.set_defaults(run=event_hubs_command)


def _member_options(one: argparse.ArgumentParser, batch_records: int, batch_seconds: float) -> None:
    one.add_argument("--contract", default="", metavar="TOPIC", help="whose contract holds (default: the topic's own)")
    one.add_argument(
        "--batch-records",
        type=int,
        default=batch_records,
        metavar="N",
        help=f"largest batch (default {batch_records}); reading pauses when two more of them wait",
    )
    one.add_argument(
        "--batch-seconds",
        type=float,
        default=batch_seconds,
        metavar="S",
        help=f"how long a record waits at most for its batch to fill (default {batch_seconds:g})",
    )
    one.add_argument(
        "--session-timeout",
        type=float,
        default=ConsumerSettings.session_timeout_seconds,
        metavar="S",
        help=f"others take over after so long a silence (default {ConsumerSettings.session_timeout_seconds:g})",
    )
    one.add_argument("--until-end", action="store_true", help="end when everything that the topic holds is done")


def _batching(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "connect_timeout_seconds": arguments.connect_timeout,
        "batch_records": arguments.batch_records,
        "batch_seconds": arguments.batch_seconds,
        "buffer_records": 2 * arguments.batch_records,
        "session_timeout_seconds": arguments.session_timeout,
    }


def _metrics(arguments: argparse.Namespace) -> ConsumerMetrics:
    metrics = ConsumerMetrics()
    if arguments.metrics_port is not None:
        metrics.serve(arguments.metrics_port)
    return metrics


def _persist(arguments: argparse.Namespace, producer: ProducerSettings, stop: StopRequest) -> dict[str, Any]:
    # Only this command needs what it imports: 25 MiB of memory.
    from ingest import persist  # noqa: PLC0415

    settings = persist.PersistSettings(
        consumer=ConsumerSettings(producer.bootstrap_servers, producer.security, **_batching(arguments)),
        producer=producer,
        table=arguments.to,
        topic=arguments.topic,
        contract=arguments.contract,
        until_end=arguments.until_end,
    )
    return persist.persist(settings, stop, _metrics(arguments))


def _event_hubs(arguments: argparse.Namespace, producer: ProducerSettings, stop: StopRequest) -> dict[str, Any]:
    namespace = event_hubs.namespace_of()
    hub = arguments.event_hub or namespace.hub
    if not hub:
        raise BadInputError("no event hub is given: name it with --event-hub.")
    mapping = event_hubs.EventMapping(
        _pairs("--field", arguments.field),
        {name: _value(text) for name, text in _pairs("--constant", arguments.constant).items()},
    )
    settings = event_hubs.ForwardSettings(
        consumer=namespace.consumer(**_batching(arguments)),
        producer=producer,
        hub=hub,
        topic=arguments.topic,
        origin=f"event-hubs/{namespace.host.partition('.')[0]}/{hub}",
        contract=arguments.contract,
        group=arguments.group,
        mapping=mapping,
        until_end=arguments.until_end,
    )
    return event_hubs.forward(settings, stop, _metrics(arguments))


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    pairs = dict(one.partition("=")[::2] for one in given)
    if not all(pairs) or not all(pairs.values()):
        raise BadInputError(f"{option} must be NAME=VALUE, not {' '.join(given)!r}.")
    return pairs


def _value(text: str) -> Any:
    """Return a constant as JSON has it if it is a number, true, false or null; else as text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if isinstance(value, dict | list) else value
