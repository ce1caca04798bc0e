"""What is to be looked at, each once however often it is asked for, and never by two workers at a time."""

import heapq
import threading
import time
from collections import deque

Key = tuple[str, str]
"""Namespace and name."""
FIRST_DELAY = 0.005
LONGEST_DELAY = 60.0
"""Upstream's is six hours: whoever watches a test does not wait so long."""


class WorkQueue:
    """Keys for workers; one that is asked for while a worker has it comes again after that."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: deque[Key] = deque()
        self._wanted: set[Key] = set()
        self._busy: set[Key] = set()
        self._later: list[tuple[float, Key]] = []
        self._failures: dict[Key, int] = {}
        self._closed = False

    def add(self, key: Key) -> None:
        """Ask for a key to be looked at."""
        with self._changed:
            self._add(key)

    def add_later(self, key: Key, seconds: float) -> None:
        """Ask for a key to be looked at after some time, also if it is looked at before."""
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + seconds, key))
            self._changed.notify_all()

    def add_failed(self, key: Key) -> float:
        """Ask for a key again after a failure, each time later; return when, in seconds."""
        with self._changed:
            count = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(FIRST_DELAY * 2 ** min(count - 1, 30), LONGEST_DELAY)
        self.add_later(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        """Forget a key's failures."""
        with self._changed:
            self._failures.pop(key, None)

    def get(self) -> Key | None:
        """Wait for a key; whoever gets one says when he is done. None once the queue is closed."""
        with self._changed:
            while not self._closed:
                self._take_due()
                if self._ready:
                    key = self._ready.popleft()
                    self._wanted.discard(key)
                    self._busy.add(key)
                    return key
                wait = self._later[0][0] - time.monotonic() if self._later else None
                self._changed.wait(wait)
            return None

    def done(self, key: Key) -> None:
        """Say that a key is not worked on any more."""
        with self._changed:
            self._busy.discard(key)
            if key in self._wanted:
                self._ready.append(key)
                self._changed.notify_all()

    def close(self) -> None:
        """Let every worker end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, key: Key) -> None:
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._busy:
            self._ready.append(key)
            self._changed.notify_all()

    def _take_due(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._add(heapq.heappop(self._later)[1])
