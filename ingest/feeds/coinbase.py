"""Coinbase Exchange: the ticker of one product and its heartbeats; missed trades from its REST interface."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from ingest.contracts import Message
from ingest.feeds.http import Http, Place
from ingest.feeds.interface import Item, Items, RefusedError, SourceError, decoded, mapped
from ingest.feeds.mapping import as_number, as_time, taken
from ingest.feeds.report import Report
from ingest.feeds.trades import Missed, StreamSettings, Trades, in_order, number_of
from ingest.feeds.websocket import frames

SOURCE = "coinbase"
_OTHER_SIDE = {"buy": "sell", "sell": "buy"}


class CoinbaseTicker:
    """The channel `ticker`: the newest trade whenever there is one; several at once are told as one.

    So a number that is passed over between two tickers of one connection is no loss. A heartbeat, one a second, names
    the newest trade: one that no ticker told was missed. So were those between the last ticker of one connection
    and the first of the next.
    """

    def __init__(self, settings: StreamSettings, report: Report) -> None:
        self._settings, self._report = settings, report
        self._trades = Trades(settings, self, f"{SOURCE}:{settings.product}:", report)
        self._sequence: int | None = None
        self._resuming = True

    def restore(self, sent: Sequence[Message]) -> None:
        """Continue behind the newest trade sent; see `Feed`."""
        self._trades.restore(sent)

    def session(self) -> Items:
        """Subscribe and yield tickers, until the connection is renewed."""
        self._sequence, self._resuming = None, True
        channels = {"product_ids": [self._settings.product], "channels": ["ticker", "heartbeat"]}
        subscribe = orjson.dumps({"type": "subscribe", **channels}).decode()
        for frame in frames(self._settings.websocket, [subscribe]):
            if frame is None:
                yield None
                continue
            try:
                data = decoded(frame)
            except RefusedError as error:
                yield Item(frame, kind="malformed", reason=f"malformed: {error}")
                continue
            yield from self._items(frame, data)

    def _items(self, frame: bytes, data: dict[str, Any]) -> Items:
        match data.get("type"):
            case "ticker":
                yield from self._ticker(frame, data)
            case "heartbeat":
                yield from self._heartbeat(data)
            case "subscriptions":
                self._report.accepted()
            case "error":
                texts = (str(data[name]) for name in ("message", "reason") if name in data)
                raise SourceError("refused", f"Coinbase refuses: {': '.join(texts)[:500]}.")
            case _:  # new types may come at any time: clients are to ignore them
                self._report.skipped("unknown")

    def _ticker(self, frame: bytes, data: dict[str, Any]) -> Items:
        number = number_of(data, "trade_id")
        if number is None:
            yield Item(frame, kind="malformed", reason="malformed: trade_id: a ticker without the number of its trade")
            return
        self._count(data)
        item = mapped(frame, partial(self._of_stream, data, number))
        yield from self._trades.take(number, item) if self._resuming else self._trades.add(number, item)
        self._resuming = False

    def _heartbeat(self, data: dict[str, Any]) -> Items:
        self._count(data)
        self._report.succeeded()
        newest, last = number_of(data, "last_trade_id"), self._trades.last  # it was 0 for a time: no number
        if newest is not None and last is not None:
            if newest > last:
                yield from self._trades.fetch(newest + 1)
            self._resuming = False

    def _count(self, data: dict[str, Any]) -> None:
        """Count the numbers of the product's sequence that no message of ours had, those of other channels too."""
        sequence = number_of(data, "sequence")
        if sequence is None:
            return
        if self._sequence is not None and sequence > self._sequence + 1:
            self._report.gap("sequence", sequence - self._sequence - 1)
        self._sequence = max(sequence, self._sequence or 0)

    def _of_stream(self, data: dict[str, Any], number: int) -> Message:
        if data.get("product_id") != self._settings.product:
            raise RefusedError(f"product_id: a ticker of {data.get('product_id')!r}, not of {self._settings.product}")
        return self._message(number, data, quantity="last_size", side=data.get("side"))

    def _message(self, number: int, data: dict[str, Any], *, quantity: str, side: Any) -> Message:
        return {
            "schema_version": 1,
            "event_id": self._trades.event_id(number),
            "event_type": "ticker",
            "event_time": taken(data, "time", as_time),
            "source": SOURCE,
            "symbol": self._settings.symbol,
            "price": taken(data, "price", as_number),
            "quantity": taken(data, quantity, as_number),
            "side": side,
        }

    def missed(self, http: Http, first: int, before: int) -> Missed:
        """Yield trades of `GET /products/<product>/trades`, which gives them newest first, before a cursor.

        All of them are held before the first is given: at most `max_trades`, and one page.
        """
        refill, found = self._settings.refill, deque[tuple[int, Item]]()
        cursor = str(before)
        while cursor:
            query = (("limit", str(refill.page_size)), ("after", cursor))
            page = yield from http.get(
                Place(f"{refill.url.rstrip('/')}/products/{self._settings.product}/trades", query)
            )
            entries = in_order([self._of_page(entry) for entry in page.body]) if isinstance(page.body, list) else []
            wanted = [entry for entry in entries if first <= entry[0] < before]
            found.extendleft(reversed(wanted))
            if not wanted or entries[0][0] <= first or page.after == cursor:
                break
            cursor = page.after
        yield from found

    def _of_page(self, entry: Any) -> tuple[int, Item]:
        number = number_of(entry, "trade_id") if isinstance(entry, dict) else None
        if number is None:
            raise SourceError("malformed", "Coinbase answers trades without a trade_id.")
        # Here the side is that of who made the offer; in the ticker and in the contract, of who took it.
        side = _OTHER_SIDE.get(str(entry.get("side")))
        return number, mapped(orjson.dumps(entry), partial(self._message, number, entry, quantity="size", side=side))
