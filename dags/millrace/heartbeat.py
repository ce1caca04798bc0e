"""Heartbeats: records that say, in one partition, that the source has sent everything up to an instant.

A replay ends with one per partition, and they close the last windows. They are repeated only where a driver
was restarted: Spark keeps one watermark in its checkpoint but not that of each source, so a partition that
was read to its end before the restart would hold the watermark back for ever. A heartbeat is counted by no
aggregation, so a second one changes no result.
"""

import json
from collections.abc import Mapping
from typing import Any

from millrace import kafka, records

SOURCE = "millrace"


def send_heartbeats(config: Mapping[str, Any], topic: str, event_time: str) -> dict[int, int]:
    """Send each partition a heartbeat of `event_time` (ISO 8601, UTC); return the new end offsets."""
    for partition in kafka.end_offsets(config, topic):
        event_id = f"heartbeat/{SOURCE}/{event_time}/{partition}"
        event = {
            "schema_version": 1,
            "event_id": event_id,
            "event_type": "heartbeat",
            "event_time": event_time,
            "source": SOURCE,
        }
        records.send(config, topic, event_id, json.dumps(event).encode(), partition=partition)
    return kafka.end_offsets(config, topic)
