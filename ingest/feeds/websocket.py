"""A WebSocket to a source: connect, subscribe, give frames, notice silence, renew before the source cuts it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from ingest.feeds.interface import IDLE_SECONDS, SourceError

_CLOSE_SECONDS = 1.0
# A frame is read whole before its size is known to be too large for a record: this bounds memory only.
_FRAME_BYTES = 4 * 1024 * 1024
_TOO_BIG = 1009


@dataclass(frozen=True)
class WebSocketSettings:
    """A WebSocket; `ingest/feeds/schema.json` describes each setting."""

    url: str
    open_timeout_seconds: float = 10.0
    silence_seconds: float = 60.0
    renew_after_seconds: float = 86_000.0
    ping_seconds: float = 20.0


def frames(settings: WebSocketSettings, subscribe: Sequence[str]) -> Iterator[bytes | None]:
    """Connect, send the subscriptions and yield each frame, and None every IDLE_SECONDS without one.

    Pings are answered by the library, in a thread of its own. Ends when it is time for a new connection. Raises
    SourceError if the source can't be reached, closes the connection or is silent for too long.
    """
    try:
        connection = connect(
            settings.url,
            open_timeout=settings.open_timeout_seconds,
            close_timeout=_CLOSE_SECONDS,
            ping_interval=settings.ping_seconds,
            ping_timeout=settings.ping_seconds,
            max_size=_FRAME_BYTES,
            user_agent_header="millrace-ingest",
        )
    except InvalidURI as error:
        raise SourceError("connection", f"{settings.url} is no address of a WebSocket: {error}.") from error
    except (OSError, EOFError, WebSocketException) as error:
        raise SourceError("connection", f"{settings.url} can't be reached: {error or type(error).__name__}.") from error
    try:
        with connection:
            for text in subscribe:
                connection.send(text)
            yield from _receive(connection, settings)
    except ConnectionClosed as error:
        kind = "oversized" if error.sent is not None and error.sent.code == _TOO_BIG else "disconnected"
        raise SourceError(kind, f"{settings.url} closed the connection: {error}.") from error


def _receive(connection: ClientConnection, settings: WebSocketSettings) -> Iterator[bytes | None]:
    began = heard = time.monotonic()
    while (now := time.monotonic()) - began < settings.renew_after_seconds:
        try:
            frame = connection.recv(timeout=IDLE_SECONDS, decode=False)
        except TimeoutError:
            if now - heard > settings.silence_seconds:
                raise SourceError(
                    "silent", f"{settings.url} has sent nothing for {settings.silence_seconds:g} s."
                ) from None
            yield None
            continue
        heard = time.monotonic()
        yield frame if isinstance(frame, bytes) else frame.encode()
