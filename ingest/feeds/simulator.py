"""The simulated market as a feed: a seeded random walk at a set rate (`ingest.simulate`)."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from ingest import simulate
from ingest.contracts import Message
from ingest.errors import BadInputError
from ingest.feeds.interface import Item, Items, pause
from ingest.feeds.report import Report
from ingest.simulate import SimulationSettings


def start_of(text: str, where: str) -> float:
    """Return seconds since 1970 of an ISO 8601 instant or `now`; raises BadInputError."""
    try:
        moment = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"{where}: {text!r} isn't an instant such as 2024-01-01T00:00:00Z, or now.") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 3)


class SimulatedMarket:
    """Trades of a random walk; with a start time of its own it continues where the topic ends."""

    def __init__(self, settings: SimulationSettings, report: Report) -> None:
        self._settings, self._report = settings, report
        self._sent: dict[str, int] = {}  # newest number of each symbol: each has a partition of its own

    def restore(self, sent: Sequence[Message]) -> None:
        """Continue behind the last message of the same seed, rate and start; see `Feed`."""
        for message in sent:
            number = str(message.get("event_id", "")).rpartition("/")[2]
            if number.isdecimal() and message["event_id"] == self._settings.identity(int(number)):
                self._sent[message["symbol"]] = max(self._sent.get(message["symbol"], -1), int(number))

    def session(self) -> Items:
        """Yield messages at their rate, for ever."""
        self._report.accepted()
        began = 0.0
        for number, message in enumerate(simulate.market(self._settings)):
            if number <= self._sent.get(message["symbol"], -1):  # the walk has to be walked
                continue
            began = began or time.monotonic() - number / self._settings.rate
            yield from pause(began + number / self._settings.rate)
            yield Item(orjson.dumps(message), message)
            self._sent[message["symbol"]] = number
