"""The loop of an operator: what changes is looked at at once, and everything from time to time."""

import logging
import os
import threading
import time
from collections.abc import Callable

from tests.cluster.standins.strimzi.api import Api, ApiError, Object

Key = tuple[str, str]
AGAIN_SECONDS = 2.0
_LOG = logging.getLogger(__name__)


class Work:
    """Names of resources (namespace, name) that are to be looked at, each with the time from which on."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._changed = threading.Condition()

    def add(self, key: Key, after: float = 0.0) -> None:
        """Have it looked at, in so many seconds; earlier where it was to be earlier."""
        with self._changed:
            when = time.monotonic() + after
            self._due[key] = min(when, self._due.get(key, when))
            self._changed.notify()

    def take(self) -> Key:
        """Wait for the next one that is due, and return it."""
        with self._changed:
            while True:
                key = min(self._due, key=self._due.__getitem__, default=None)
                wait = None if key is None else self._due[key] - time.monotonic()
                if key is not None and wait is not None and wait <= 0:
                    del self._due[key]
                    return key
                self._changed.wait(wait)


class Changes:
    """Tells what the status alone has changed of from what somebody has changed."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[str, int, bool]] = {}

    def news(self, event: str, value: Object) -> bool:
        """Whether an event says that the resource is another, is being deleted, or is gone."""
        metadata = value["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if event == "DELETED":
            self._known.pop(key, None)
            return True
        found = (metadata["uid"], metadata.get("generation", 0), "deletionTimestamp" in metadata)
        before, self._known[key] = self._known.get(key), found
        return event == "LISTED" or before != found


def follow(api: Api, kind: str, namespace: str, labels: str, seen: Callable[[str, Object], None]) -> None:
    """Tell of every object of a kind and of what happens to it, in the background and for good."""

    def forever() -> None:
        while True:
            try:
                for event, value in api.follow(kind, namespace, labels):
                    seen(event, value)
            except ApiError as error:
                _LOG.warning("%s of %s can't be followed, again in %s s: %s", kind, namespace, AGAIN_SECONDS, error)
            time.sleep(AGAIN_SECONDS)

    threading.Thread(target=forever, name=f"{kind} of {namespace}", daemon=True).start()


def every(seconds: float, do: Callable[[], None]) -> None:
    """Do something in the background, from now on and for good."""

    def forever() -> None:
        while True:
            try:
                do()
            except ApiError as error:
                _LOG.warning("%s; again in %s s", error, AGAIN_SECONDS)
                time.sleep(AGAIN_SECONDS)
            else:
                time.sleep(seconds)

    threading.Thread(target=forever, name="all", daemon=True).start()


def end_with_threads() -> None:
    """Have an error that no thread expects end the program: it would go on deaf. The kubelet starts it anew."""

    def end(error: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(error)
        os._exit(1)

    threading.excepthook = end
