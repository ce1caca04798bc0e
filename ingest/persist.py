"""Keeps a topic's messages in a Delta table: each record once, whatever interrupts it, by any number of members.

The table itself says up to which offset it holds each partition, in the same commit as the rows (`ingest.delta`); a
member that gets a partition goes on from there. The group's commits in Kafka follow, and are there to see the lag.
"""

import logging
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from arro3.core import Table
from confluent_kafka import Message

from ingest import contracts, kafka
from ingest.columns import DATE_COLUMN, Row, arrow_schema, arrow_table, columns_of, stored
from ingest.consumer import Batch, ConsumerSettings, consume
from ingest.consumer_metrics import ConsumerMetrics
from ingest.dead_letters import DeadLetters
from ingest.delta import AppendTable, Marks, table_url
from ingest.errors import BadInputError
from ingest.kafka import ProducerSettings
from ingest.positions import partition_of
from ingest.sender import StopRequest

LOG = logging.getLogger("ingest.persist")


@dataclass(frozen=True)
class PersistSettings:
    """What is kept where."""

    consumer: ConsumerSettings
    producer: ProducerSettings  # for dead letters
    table: str  # URL or path
    topic: str = "market-data"
    contract: str = ""  # of which topic; empty for the topic's own
    until_end: bool = False

    @property
    def group(self) -> str:
        """The group's name: one for each table, or two tables would share the records of one topic."""
        return f"millrace-ingest-persist-{self.topic}-{zlib.crc32(table_url(self.table).encode()):08x}"


def persist(settings: PersistSettings, stop: StopRequest, metrics: ConsumerMetrics) -> dict[str, Any]:
    """Keep a topic until it is asked to stop, and return the summary.

    Raises BadInputError if the topic, its contract or the table can't be used, IngestError if Kafka or storage fails.
    """
    kafka.partition_count(settings.consumer, settings.topic)
    keeper = Keeper(settings, metrics)
    summary = consume(
        settings.consumer,
        [settings.topic],
        settings.group,
        keeper.keep,
        stop=stop,
        metrics=metrics,
        start=keeper.start,
        until_end=settings.until_end,
    )
    return summary | {
        "table": keeper.table.url,
        "written": keeper.written,
        "already_there": keeper.repeated,
        "dead_letters": keeper.dead.sent,
    }


class Keeper:
    """Writes batches to the table."""

    def __init__(self, settings: PersistSettings, metrics: ConsumerMetrics) -> None:
        self._contract = settings.contract or settings.topic
        found = contracts.versions(self._contract)
        if not found:
            raise BadInputError(f"no contract {self._contract}: name the topic whose contract holds, with --contract.")
        self._version = found[-1]
        self._columns = columns_of(contracts.load(self._contract, self._version))
        self._event_time = contracts.load(self._contract, self._version).schema["x-event-time"]
        # A topic that is deleted and made anew counts from 0 again; under its new id, the table holds nothing of it.
        self._mark = f"millrace-persist/{settings.topic}/{kafka.topic_id(settings.consumer, settings.topic)}"
        self.dead = DeadLetters(settings.producer, settings.topic, "persist", metrics)
        self.table = AppendTable(settings.table, arrow_schema(self._columns), DATE_COLUMN)
        self.written = self.repeated = 0

    def _name(self, partition: int) -> str:
        return f"{self._mark}/{partition}"

    def start(self, _topic: str, partition: int) -> int | None:
        """Return where the table ends, of a partition."""
        return self.table.mark(self._name(partition))

    def keep(self, batch: Batch) -> None:
        """Write a batch; raises IngestError if the table or the dead-letter topic can't be written."""
        rows: list[tuple[str, int, Row]] = []
        newest = 0.0
        for record in batch.records:
            try:
                row, moment = self._row(record)
            except ValueError as error:  # also ContractError
                self.dead.send(record, str(error))
                continue
            rows.append((self._name(partition_of(record)[1]), record.offset() or 0, row))
            newest = max(newest, moment.timestamp())
        self.dead.flush()

        def missing(held: Marks) -> Table:
            return arrow_table(self._columns, [row for name, offset, row in rows if offset >= held.get(name, 0)])

        marks = {self._name(partition): offset for (_, partition), offset in batch.offsets.items()}
        written = self.table.append(marks, missing)
        self.written += written
        self.repeated += len(rows) - written
        batch.event_time = newest or batch.event_time

    def _row(self, record: Message) -> tuple[Row, datetime]:
        """Return a record as a row, and its event time; raises ValueError with the reason if it can't be one."""
        message = contracts.read(self._contract, record.value() or b"", self._version)
        moment = datetime.fromisoformat(message[self._event_time])
        message |= {
            "kafka_partition": record.partition(),
            "kafka_offset": record.offset(),
            "kafka_time": datetime.fromtimestamp(max(0, record.timestamp()[1]) / 1000, UTC),
            DATE_COLUMN: moment.astimezone(UTC).date(),
        }
        return stored(self._columns, message), moment
