"""Local servers that speak what the sources document: Binance's and Coinbase's WebSockets and any REST interface."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from ingest.contracts import Message
from ingest.feeds.breaker import Retry, RetrySettings
from ingest.feeds.interface import Feed, Item, SourceError
from ingest.feeds.report import FeedMetrics, Report
from ingest.progress import Metrics

PATIENCE = 30.0


@dataclass
class Request:
    """A request as a server saw it."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float


@dataclass
class Answer:
    """What a server answers."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds_a_byte: float = 0.0


class RestServer:
    """Answers GET requests by a function, and keeps them."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(parts.path, dict(parse_qsl(parts.query)), headers, time.monotonic())
                outer.requests.append(request)
                found = answer(request)
                body = found.body if isinstance(found.body, bytes) else json.dumps(found.body).encode()
                body = b"" if found.status == 304 else body
                self.send_response(found.status)
                for name, value in ({"Content-Length": str(len(body))} | found.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):  # the client has what it wants
                    if not found.seconds_a_byte:
                        self.wfile.write(body)
                        return
                    for each in body:
                        self.wfile.write(bytes([each]))
                        time.sleep(found.seconds_a_byte)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def rest(answer: Callable[[Request], Answer]) -> Iterator[RestServer]:
    server = RestServer(answer)
    try:
        yield server
    finally:
        server.close()


Script = Callable[[ServerConnection, dict[str, Any]], None]
"""What a server does with one connection once it has read the subscription."""


class Stream:
    """A WebSocket server: each connection runs the next script, the last one again and again."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self.subscriptions: list[dict[str, Any]] = []
        self.failures: list[BaseException] = []
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self._server = serve(self._connected, "127.0.0.1", 0, ping_interval=None, close_timeout=1)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/ws"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _connected(self, connection: ServerConnection) -> None:
        try:
            subscription = json.loads(connection.recv(timeout=5))
            with self._lock:
                number = len(self.subscriptions)
                self.subscriptions.append(subscription)
            self._scripts[min(number, len(self._scripts) - 1)](connection, subscription)
        except ConnectionClosed:
            pass  # the client has what it wants
        except BaseException as error:
            self.failures.append(error)
            raise

    def close(self) -> None:
        self._server.shutdown()


@contextmanager
def stream(*scripts: Script) -> Iterator[Stream]:
    server = Stream(scripts)
    try:
        yield server
        assert not server.failures
    finally:
        server.close()


def stay(connection: ServerConnection) -> None:
    """Keep a connection open, saying nothing, until the client closes it."""
    connection.recv(timeout=PATIENCE)


def break_off(connection: ServerConnection) -> None:
    """Cut a connection as a crash does: no closing handshake."""
    connection.socket.shutdown(2)


def binance_trade(number: int, **changes: Any) -> dict[str, Any]:
    """A message of the stream `btcusdt@trade`, as Binance documents it."""
    moment = 1_700_000_000_000 + number * 250
    return {
        "e": "trade", "E": moment + 3, "s": "BTCUSDT", "t": number, "p": f"{60_000 + number}.50000000",
        "q": "0.00100000", "T": moment, "m": number % 2 == 0, "M": True,
    } | changes  # fmt: skip


def historical_trade(number: int) -> dict[str, Any]:
    """The same trade as `GET /api/v3/historicalTrades` gives it."""
    trade = binance_trade(number)
    return {
        "id": number, "price": trade["p"], "qty": trade["q"], "quoteQty": "60.0", "time": trade["T"],
        "isBuyerMaker": trade["m"], "isBestMatch": True,
    }  # fmt: skip


def historical_trades(newest: int) -> Callable[[Request], Answer]:
    """Binance's REST interface, holding the trades 1 to `newest`."""

    def answer(request: Request) -> Answer:
        assert request.path == "/api/v3/historicalTrades"
        assert request.query["symbol"] == "BTCUSDT"
        first, limit = int(request.query["fromId"]), int(request.query["limit"])
        return Answer([historical_trade(number) for number in range(first, min(first + limit, newest + 1))])

    return answer


def binance(*frames: Any, then: Callable[[ServerConnection], None] = stay) -> Script:
    """A connection that accepts the subscription and sends frames: an object as JSON, bytes and text as they are."""

    def script(connection: ServerConnection, subscription: dict[str, Any]) -> None:
        assert subscription == {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}
        connection.send(json.dumps({"result": None, "id": subscription["id"]}))
        _send(connection, frames)
        then(connection)

    return script


def coinbase_ticker(number: int, sequence: int, **changes: Any) -> dict[str, Any]:
    """A message of the channel `ticker`, as Coinbase documents it."""
    return {
        "type": "ticker", "sequence": sequence, "product_id": "ETH-USD", "price": f"{3000 + number}.26",
        "open_24h": "3010.26", "volume_24h": "0.43526841", "low_24h": "2990.26", "high_24h": "3062.06",
        "volume_30d": "160.65999711", "best_bid": "3000.26", "best_ask": "3001.84", "side": "sell",
        "time": f"2022-03-16T18:42:{number % 60:02}.145773Z", "trade_id": number, "last_size": "0.5",
    } | changes  # fmt: skip


def coinbase_heartbeat(newest: int, sequence: int) -> dict[str, Any]:
    return {
        "type": "heartbeat", "sequence": sequence, "last_trade_id": newest, "product_id": "ETH-USD",
        "time": "2022-03-16T18:43:00.464459Z",
    }  # fmt: skip


def coinbase_trades(newest: int) -> Callable[[Request], Answer]:
    """Coinbase's REST interface, holding the trades 1 to `newest`; newest first, older ones after a cursor."""

    def answer(request: Request) -> Answer:
        assert request.path == "/products/ETH-USD/trades"
        last, limit = int(request.query["after"]) - 1, int(request.query["limit"])
        numbers = range(min(last, newest), max(0, last - limit), -1)
        tickers = [coinbase_ticker(number, 0) for number in numbers]
        found = [
            {"trade_id": each["trade_id"], "price": each["price"], "size": "0.5", "time": each["time"], "side": "buy"}
            for each in tickers
        ]
        return Answer(found, headers={"CB-AFTER": str(found[-1]["trade_id"])} if found else {})

    return answer


def coinbase(*frames: Any, then: Callable[[ServerConnection], None] = stay) -> Script:
    """A connection that accepts the subscription and sends frames."""

    def script(connection: ServerConnection, subscription: dict[str, Any]) -> None:
        channels = ["ticker", "heartbeat"]
        assert subscription == {"type": "subscribe", "product_ids": ["ETH-USD"], "channels": channels}
        accepted = [{"name": name, "product_ids": ["ETH-USD"]} for name in channels]
        connection.send(json.dumps({"type": "subscriptions", "channels": accepted}))
        _send(connection, frames)
        then(connection)

    return script


def _send(connection: ServerConnection, frames: Sequence[Any]) -> None:
    for frame in frames:
        connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))


def new_report(**retry: Any) -> Report:
    return Report("feed", "market-data", FeedMetrics(Metrics()), Retry(RetrySettings(**retry)))


def taken(feed: Feed, number: int, sessions: int = 10) -> list[Item]:
    """The first items of a feed, over as many sessions as it takes; what a source does wrong is passed over."""
    found: list[Item] = []
    deadline = time.monotonic() + PATIENCE
    for _ in range(sessions):
        try:
            session = feed.session()
            for item in session:
                assert time.monotonic() < deadline, f"only {len(found)} of {number} items came"
                if item is not None:
                    found.append(item)
                if len(found) == number:
                    session.close()
                    return found
        except SourceError:
            continue
    raise AssertionError(f"only {len(found)} of {number} items came in {sessions} sessions")


def message(item: Item) -> Message:
    """The message of an item that is one."""
    assert item.message is not None, item.reason
    return item.message


def numbers(items: Sequence[Item]) -> list[int]:
    """The numbers at the end of the ids of items that are messages."""
    return [int(item.message["event_id"].rpartition(":")[2]) for item in items if item.message]
