"""Records that can't be used go to a dead-letter topic, each with where it came from and why.

They are sent, and acknowledged, before their batch is committed: a batch that is done again sends them again. So a dead
letter comes at least once, and its headers tell a second copy. The headers are those of `streamkit.dead_letter`.
"""

import zlib
from datetime import UTC, datetime

from confluent_kafka import Message

from ingest import kafka
from ingest.consumer_metrics import ConsumerMetrics
from ingest.kafka import ProducerSettings
from ingest.progress import Metrics, Progress
from ingest.sender import Sender, StopRequest


class DeadLetters:
    """Sends to the dead-letter topic of a topic: `<topic>-dead-letter`."""

    def __init__(self, settings: ProducerSettings, topic: str, feed: str, metrics: ConsumerMetrics) -> None:
        self.topic = f"{topic}-dead-letter"
        self.sent = 0
        self._partitions = kafka.partition_count(settings, self.topic)
        self._count, self._labels = metrics.dead_letters, (feed, topic)
        # Not among the feed's own messages: a topic that gets no dead letters is no reason for an alert.
        progress = Progress(feed, self.topic, Metrics())
        # A stop finishes the batch under way: it isn't this sender's business.
        self._sender = Sender(settings, self.topic, StopRequest(), progress)

    def send(self, record: Message, reason: str) -> None:
        """Queue a record, key and value as they came; raises IngestError if an earlier one can't be delivered."""
        moment = datetime.fromtimestamp(max(0, record.timestamp()[1]) / 1000, UTC)
        texts = {
            "source-topic": record.topic() or "",
            "source-partition": str(record.partition()),
            "source-offset": str(record.offset()),
            "source-timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "reason": reason,
        }
        headers = [(name, text.encode()) for name, text in texts.items()]
        partition = zlib.crc32(record.key() or b"") % self._partitions
        self._sender.send(partition, record.key(), record.value(), headers)
        self.sent += 1
        kind = next((kind for kind in ("malformed", "oversized") if kind in reason), "invalid")
        self._count.labels(*self._labels, kind).inc()

    def flush(self) -> None:
        """Wait until all that is queued is delivered; raises IngestError if it can't be."""
        self._sender.flush()
