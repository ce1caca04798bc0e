"""What feeds of numbered trades share: duplicates, gaps, and fetching what came while there was no stream."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingest.contracts import Message
from ingest.feeds.http import Http, HttpSettings
from ingest.feeds.interface import Item, Items, SourceError
from ingest.feeds.report import Report
from ingest.feeds.websocket import WebSocketSettings


@dataclass(frozen=True)
class RefillSettings:
    """REST interface from which missed trades are fetched; `ingest/feeds/schema.json` describes each setting."""

    url: str = ""
    max_trades: int = 10_000
    page_size: int = 1000
    http: HttpSettings = field(default_factory=HttpSettings)


@dataclass(frozen=True)
class StreamSettings:
    """A live stream of one symbol's trades."""

    symbol: str
    product: str
    websocket: WebSocketSettings
    refill: RefillSettings = field(default_factory=RefillSettings)


Missed = Generator[tuple[int, Item] | None, None, None]
"""Trades by number, oldest first; None while waiting."""


class Source(Protocol):
    """Where missed trades are fetched from."""

    def missed(self, http: Http, first: int, before: int) -> Missed:
        """Yield the trades from `first` up to, not including, `before`. Raises SourceError."""


class Trades:
    """The place in a source that numbers its trades 1, 2, 3 without a gap."""

    def __init__(self, settings: StreamSettings, source: Source, prefix: str, report: Report) -> None:
        self._settings, self._source, self._prefix, self._report = settings.refill, source, prefix, report
        self._http = Http(settings.refill.http, report)
        self.last: int | None = None
        """Number of the newest trade that was sent or given up; None before the first."""

    def event_id(self, number: int) -> str:
        """Return the id of a trade."""
        return f"{self._prefix}{number}"

    def restore(self, sent: Iterable[Message]) -> None:
        """Continue behind the newest of these messages."""
        texts = (str(message.get("event_id", "")) for message in sent)
        numbers = [text.removeprefix(self._prefix) for text in texts if text.startswith(self._prefix)]
        self.last = max((int(number) for number in numbers if number.isdecimal()), default=self.last)

    def take(self, number: int, item: Item) -> Items:
        """Yield a trade of the stream unless it was sent, and before it those that were missed."""
        if self.last is not None and number > self.last + 1:
            yield from self.fetch(number)
        yield from self.add(number, item)

    def add(self, number: int, item: Item) -> Items:
        """Yield a trade unless it was sent."""
        if self.last is not None and number <= self.last:
            self._report.skipped("duplicate")
            return
        yield item
        self.last = number

    def fetch(self, before: int) -> Items:
        """Yield the trades between the last and `before`; what can't be had is counted as a gap."""
        if self.last is None:
            return
        first, had = max(self.last + 1, before - self._settings.max_trades), 0
        missing = before - 1 - self.last
        if self._settings.url:
            try:
                for found in self._source.missed(self._http, first, before):
                    if found is None:
                        yield None
                    elif self.last < found[0] < before:
                        had += 1
                        yield from self.add(*found)
            except SourceError as error:
                self._report.failed(f"refill_{error.kind}", str(error))
        if missing > had:
            self._report.gap("trade", missing - had)
        self.last = before - 1


def number_of(data: dict[str, Any], name: str) -> int | None:
    """Return a whole number above zero of a source's message, None if it has none there."""
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def in_order(entries: Sequence[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """Return trades by number, oldest first."""
    return sorted(entries, key=lambda entry: entry[0])
