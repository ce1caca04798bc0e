"""Keeps what a stream's batches reported, because a driver forgets it when it is restarted."""

import time
from typing import Any

from millrace import storage
from millrace.progress import merge_history

FILE = "progress.json"
SAVE_SECONDS = 10.0
"""Least seconds between two writes of the same file."""


def load(run_id: str) -> list[dict[str, Any]]:
    """Return the batches that were recorded for a run, oldest first."""
    return storage.read_json("reports", storage.run_folder(run_id), FILE) or []


class Recorder:
    """Collects batches from `/progress` documents, and writes them to the run's folder now and then."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._batches: list[dict[str, Any]] | None = None
        self._saved = 0
        self._saved_at = time.monotonic()

    def add(self, document: dict[str, Any]) -> None:
        """Take over the batches that aren't known yet."""
        if self._batches is None:  # Another trigger, or this one before a restart, may have begun.
            self._batches = load(self._run_id)
            self._saved = len(self._batches)
        self._batches = merge_history(self._batches, document)
        if len(self._batches) > self._saved and time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write all batches."""
        batches = self._batches or []
        storage.write_json(batches, "reports", storage.run_folder(self._run_id), FILE)
        self._saved, self._saved_at = len(batches), time.monotonic()
