"""Logs on standard error: one JSON object a line for machines, a line of text for people; Spark's own go beside it."""

import json
import logging
import os
import sys
from datetime import UTC, datetime

LOGGER = logging.getLogger("streamkit")


class JsonFormatter(logging.Formatter):
    """Writes timestamp, level, logger, message and whatever `extra={"fields": {...}}` holds."""

    def __init__(self, **always: str) -> None:
        """Take what every line says, such as `app` and `topic`."""
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Writes a line as a person reads it, with its fields at the end."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of text (more, if it has an exception)."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        return f"{datetime.now(UTC):%H:%M:%S} {record.levelname.lower()} {super().format(record)} {fields}".rstrip()


def set_up_logs(**always: str) -> None:
    """Send the library's log, and warnings of others, to standard error; may be called again when more is known.

    As JSON, each line with what is `always` so; as text if that is a terminal. MILLRACE_LOG_FORMAT (`json` or `text`)
    says otherwise. MILLRACE_RUN, the run that this process belongs to, is in every line as `run`.
    """
    handler = logging.StreamHandler(sys.stderr)
    wanted = os.environ.get("MILLRACE_LOG_FORMAT") or ("text" if sys.stderr.isatty() else "json")
    known = {"run": os.environ.get("MILLRACE_RUN", ""), **always}
    said = {name: value for name, value in known.items() if value}
    handler.setFormatter(TextFormatter() if wanted == "text" else JsonFormatter(**said))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    LOGGER.setLevel(logging.INFO)
