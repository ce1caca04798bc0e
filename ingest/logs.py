"""Logs on standard error: for machines one JSON object a line, for people one line of text."""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; what is passed as `extra={"fields": {...}}` is added to it."""

    def __init__(self, **always: str) -> None:
        """Take what every line says, such as `app` and `topic`."""
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as a person reads it, with its fields at the end."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of text (more, if it has an exception)."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        return f"{datetime.now(UTC):%H:%M:%S} {record.levelname.lower()} {super().format(record)} {fields}".rstrip()


def configure(level: int = logging.INFO, **always: str) -> None:
    """Send all logs to standard error: as JSON, each line with what is `always` so, or as text if that is a terminal.

    MILLRACE_LOG_FORMAT (`json` or `text`) says otherwise. MILLRACE_RUN, the run that this process belongs to, is in
    every line as `run`.
    """
    handler = logging.StreamHandler(sys.stderr)
    wanted = os.environ.get("MILLRACE_LOG_FORMAT") or ("text" if sys.stderr.isatty() else "json")
    known = {"run": os.environ.get("MILLRACE_RUN", ""), **always}
    said = {name: value for name, value in known.items() if value}
    handler.setFormatter(TextFormatter() if wanted == "text" else JsonFormatter(**said))
    logging.basicConfig(level=level, handlers=[handler], force=True)
