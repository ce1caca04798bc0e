"""What a feed is: something that opens a session with its source and yields what the source sends."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from ingest.contracts import ContractError, Message

IDLE_SECONDS = 0.2
"""Longest time a session keeps the runner waiting for its next item."""


class SourceError(Exception):
    """A source can't be reached, refuses, or broke off; `kind` is a word for the metric, the text a sentence."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class RefusedError(ValueError):
    """What a source sent can't become a message; the text is the reason that the dead letter names."""


@dataclass(frozen=True)
class Item:
    """One thing that a source sent: a message for the topic, or the reason why it is none (kind and sentence)."""

    raw: bytes
    message: Message | None = None
    kind: str = ""
    reason: str = ""


def mapped(raw: bytes, make: Callable[[], Message]) -> Item:
    """Return the message that `make` returns, or the reason why it can't."""
    try:
        return Item(raw, make())
    except RefusedError as error:
        return Item(raw, kind="malformed", reason=f"malformed: {error}")
    except ContractError as error:
        return Item(raw, kind="invalid", reason=str(error))


def decoded(raw: bytes) -> dict[str, Any]:
    """Return the object that a JSON text holds; raises RefusedError."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError("not a JSON object")
    return found


Items = Generator[Item | None, None, None]
"""What a session yields; None at least every IDLE_SECONDS when the source is silent, so that nothing else waits."""


class Feed(Protocol):
    """One source. A feed keeps its own place in the source, across sessions and, by `restore`, across processes."""

    def restore(self, sent: Sequence[Message]) -> None:
        """Continue behind the messages given: the newest that the topic holds of this feed, in no certain order."""

    def session(self) -> Items:
        """Connect and yield items, until the source ends the session in good order. Raises SourceError."""


def pause(until: float) -> Generator[None, None, None]:
    """Wait until `time.monotonic()` reaches a moment, yielding None once at least: `yield from` it in a session."""
    yield None
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, IDLE_SECONDS))
        yield None
