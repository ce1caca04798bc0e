"""One JSON object per line on standard error, for machines; Spark's own log goes beside it."""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("streamkit")


class JsonFormatter(logging.Formatter):
    """Writes time, level, message and whatever `extra={"fields": {...}}` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line, default=str)


def set_up_logs() -> None:
    """Send the library's log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
