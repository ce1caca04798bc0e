"""Binance: each trade of one symbol, from its WebSocket streams; missed ones from its REST interface."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from ingest.contracts import Message
from ingest.feeds.http import Http, Place
from ingest.feeds.interface import Item, Items, RefusedError, SourceError, decoded, mapped
from ingest.feeds.mapping import as_milliseconds, as_number, taken
from ingest.feeds.report import Report
from ingest.feeds.trades import Missed, StreamSettings, Trades, in_order, number_of
from ingest.feeds.websocket import frames

SOURCE = "binance"
_SUBSCRIPTION = 1


class BinanceTrades:
    """The stream `<product>@trade`: one trade a message, numbered by `t`."""

    def __init__(self, settings: StreamSettings, report: Report) -> None:
        self._settings, self._report = settings, report
        self._product = settings.product.upper()
        self._trades = Trades(settings, self, f"{SOURCE}:{self._product}:", report)

    def restore(self, sent: Sequence[Message]) -> None:
        """Continue behind the newest trade sent; see `Feed`."""
        self._trades.restore(sent)

    def session(self) -> Items:
        """Subscribe and yield trades, until the connection is renewed or Binance announces its end."""
        stream = f"{self._product.lower()}@trade"
        subscribe = orjson.dumps({"method": "SUBSCRIBE", "params": [stream], "id": _SUBSCRIPTION}).decode()
        for frame in frames(self._settings.websocket, [subscribe]):
            if frame is None:
                yield None
                continue
            try:
                data = decoded(frame)
            except RefusedError as error:
                yield Item(frame, kind="malformed", reason=f"malformed: {error}")
                continue
            if data.get("e") == "serverShutdown":
                return
            yield from self._items(frame, data)

    def _items(self, frame: bytes, data: dict[str, Any]) -> Items:
        if data.get("e") == "trade":
            number = number_of(data, "t")
            if number is None:
                yield Item(frame, kind="malformed", reason="malformed: t: a trade without its number")
                return
            yield from self._trades.take(number, mapped(frame, partial(self._of_stream, data, number)))
        elif "result" in data and data.get("id") == _SUBSCRIPTION and data["result"] is None:
            self._report.accepted()
        elif {"result", "error", "code"} & data.keys():
            raise SourceError("refused", f"Binance refuses the subscription: {orjson.dumps(data)[:500].decode()}")
        else:
            self._report.skipped("unknown")

    def _of_stream(self, data: dict[str, Any], number: int) -> Message:
        if data.get("s") != self._product:
            raise RefusedError(f"s: a trade of {data.get('s')!r}, not of {self._product}")
        return self._message(number, data, price="p", quantity="q", time="T", maker="m")

    def _message(
        self, number: int, data: dict[str, Any], *, price: str, quantity: str, time: str, maker: str
    ) -> Message:
        maker_buys = data.get(maker)
        if not isinstance(maker_buys, bool):
            raise RefusedError(f"{maker}: {maker_buys!r} is neither true nor false")
        return {
            "schema_version": 1,
            "event_id": self._trades.event_id(number),
            "event_type": "trade",
            "event_time": taken(data, time, as_milliseconds),
            "source": SOURCE,
            "symbol": self._settings.symbol,
            "price": taken(data, price, as_number),
            "quantity": taken(data, quantity, as_number),
            # The side of who took the offer: if the buyer made it, a seller took it.
            "side": "sell" if maker_buys else "buy",
        }

    def missed(self, http: Http, first: int, before: int) -> Missed:
        """Yield trades of `GET /api/v3/historicalTrades`, which gives them from `fromId` on, oldest first."""
        refill = self._settings.refill
        while first < before:
            query = (("symbol", self._product), ("fromId", str(first)), ("limit", str(refill.page_size)))
            page = yield from http.get(Place(f"{refill.url.rstrip('/')}/api/v3/historicalTrades", query))
            found = in_order([self._of_page(entry) for entry in page.body]) if isinstance(page.body, list) else []
            if not found or found[-1][0] < first:
                return
            yield from (entry for entry in found if entry[0] < before)
            first = found[-1][0] + 1

    def _of_page(self, entry: Any) -> tuple[int, Item]:
        number = number_of(entry, "id") if isinstance(entry, dict) else None
        if number is None:
            raise SourceError("malformed", "Binance answers trades without an id.")
        names = {"price": "price", "quantity": "qty", "time": "time", "maker": "isBuyerMaker"}
        return number, mapped(orjson.dumps(entry), partial(self._message, number, entry, **names))
