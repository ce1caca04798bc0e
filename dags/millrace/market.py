"""Prices of the topic `market-data`, of one interval: read, cleaned, and made into bars (open, high, low, close)."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace import contracts, kafka
from millrace.errors import MillraceError
from millrace.venues import Hours

if TYPE_CHECKING:
    import polars as pl

TOPIC = "market-data"
TABLE = "market_data"
CHUNK = 50_000
"""Records that are Python objects at a time; what is kept of them takes a tenth of the memory."""
SKEW = timedelta(minutes=1)
"""A record may have been sent this much before the instant that it tells of, by the sender's clock."""
SHOWN = 5

log = logging.getLogger(__name__)


@dataclass
class Prices:
    """What was read of an interval. What isn't in `frame` is counted."""

    frame: "pl.DataFrame"
    """source, symbol, event_type, event_time, price, quantity; each event once, in the order of event_time."""
    counts: dict[str, int] = field(default_factory=dict)
    """records read; bad, heartbeats, early (of a later interval), late (of an earlier one), duplicates, used."""


def offsets(config: Mapping[str, Any], start: datetime, end: datetime, grace: timedelta) -> dict[int, tuple[int, int]]:
    """Return from and until which offset the records of an interval lie, by partition; empty ones left out.

    Raises MillraceError if there is no such topic.
    """
    first = kafka.offsets_at(config, TOPIC, start - SKEW)
    last = kafka.offsets_at(config, TOPIC, end + grace)
    if not first:
        raise MillraceError(f"There is no topic {TOPIC}: create the topics of contracts/topics.yaml first.")
    return {number: (first[number], last[number]) for number in first if last[number] > first[number]}


def check_retention(topics_file: Path, start: datetime, now: datetime) -> None:
    """Raise MillraceError if the topic may have deleted records of an interval: its bars would be replaced by fewer."""
    topic = kafka.load_topics(topics_file)[TOPIC]
    kept = timedelta(milliseconds=int(topic.config["retention.ms"]))
    if start < now - kept:
        raise MillraceError(
            f"{TOPIC} keeps records for {kept / timedelta(days=1):g} days, so those from {start:%F %H:%M} UTC on may "
            f"be gone: the bars that the table {TABLE} has of them stay."
        )


def check_freshness(
    config: Mapping[str, Any], opened: Iterable[Hours], end: datetime, grace: timedelta, most: timedelta
) -> None:
    """Raise MillraceError if a venue is open at the interval's end, and no record came in the time `most` before it."""
    expected = sorted(venue.venue for venue in opened if venue.open_at_end)
    since = kafka.offsets_at(config, TOPIC, end - most)
    until = kafka.offsets_at(config, TOPIC, end + grace)
    if expected and not any(until[number] > first for number, first in since.items()):
        raise MillraceError(
            f"No record came to {TOPIC} in the {most / timedelta(minutes=1):g} minutes before {end:%F %H:%M} UTC, "
            f"though {', '.join(expected)} is open: see whether the feeds run (ingest/README.md)."
        )


def prices(records: Iterable[Any], start: datetime, end: datetime) -> Prices:
    """Return the prices whose event time lies from `start` to before `end`."""
    import polars as pl

    counts: Counter[str] = Counter(records=0, bad=0, heartbeats=0)
    frames, chunk = [], []
    for record in records:
        counts["records"] += 1
        row = _row(record, counts)
        if row is not None:
            chunk.append(row)
        if len(chunk) == CHUNK:
            frames.append(_frame(chunk))
            chunk = []
    every = pl.concat([*frames, _frame(chunk)])
    time = pl.col("event_time")
    counts["late"] = every.filter(time < start).height
    counts["early"] = every.filter(time >= end).height
    within = every.filter(time >= start, time < end)
    once = within.unique(["source", "event_id"], keep="first", maintain_order=True)
    counts["duplicates"] = within.height - once.height
    counts["used"] = once.height
    return Prices(once.drop("event_id").sort("event_time", maintain_order=True), dict(counts))


def _row(record: Any, counts: Counter[str]) -> tuple[Any, ...] | None:
    try:
        message = contracts.decode(TOPIC, record.value() or b"")
    except MillraceError as error:
        counts["bad"] += 1
        if counts["bad"] <= SHOWN:
            log.warning("Not used: partition %s, offset %s: %s", record.partition(), record.offset(), error)
        return None
    if message["event_type"] == "heartbeat":
        counts["heartbeats"] += 1
        return None
    names = ("source", "symbol", "event_type", "event_time", "price", "quantity", "event_id")
    return tuple(message.get(name) for name in names)


def _frame(rows: list[tuple[Any, ...]]) -> "pl.DataFrame":
    import polars as pl

    texts = dict.fromkeys(("source", "symbol", "event_type", "event_time"), pl.String)
    schema = {**texts, "price": pl.Float64, "quantity": pl.Float64, "event_id": pl.String}
    time = pl.col("event_time").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC")
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(time)


def bars(frame: "pl.DataFrame", length: timedelta, venues: Iterable[Hours]) -> "pl.DataFrame":
    """Return a bar for each source, symbol and span of time in which it had a price.

    Where a span has trades, they alone make its bar: a ticker repeats the last of them. `vwap` is the mean price
    weighted by quantity, null without one. `in_session` is false for a bar that began while its venue was closed.
    """
    import polars as pl

    seconds = int(length / timedelta(seconds=1))
    span = ["source", "symbol", "bar_start"]
    trade = pl.col("event_type") == "trade"
    spans = frame.with_columns(pl.col("event_time").dt.truncate(f"{seconds}s").alias("bar_start"))
    chosen = spans.filter(trade | ~trade.any().over(span))
    weighted = pl.col("price") * pl.col("quantity")
    made = chosen.group_by(span).agg(
        pl.col("price").first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        pl.col("price").last().alias("close"),
        pl.col("quantity").sum().alias("volume"),
        pl.when(pl.col("quantity").sum() > 0).then(weighted.sum() / pl.col("quantity").sum()).alias("vwap"),
        pl.len().cast(pl.Int64).alias("trades"),
    )
    open_hours = [
        (pl.col("source") == venue.venue) & (pl.col("bar_start") + length > begin) & (pl.col("bar_start") < close)
        for venue in venues
        for begin, close in venue.opened
    ]
    columns = [*span, "bar_seconds", "open", "high", "low", "close", "volume", "vwap", "trades", "in_session", "day"]
    return (
        made.with_columns(
            pl.lit(seconds, pl.Int64).alias("bar_seconds"),
            pl.any_horizontal(pl.lit(value=False), *open_hours).alias("in_session"),
            pl.col("bar_start").dt.date().alias("day"),
        )
        .select(columns)
        .sort(span)
    )


def condition(start: datetime, end: datetime, length: timedelta) -> str:
    """Return which rows of the table are of an interval, in SQL."""
    begin, close = (moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (start, end))
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    return (
        f"day >= '{start.astimezone(UTC).date()}' AND day <= '{last}' AND bar_start >= '{begin}' "
        f"AND bar_start < '{close}' AND bar_seconds = {int(length / timedelta(seconds=1))}"
    )


def silent(frame: "pl.DataFrame", venues: Iterable[Hours]) -> list[str]:
    """Return the venues that were open and had no price."""
    heard = set(frame["source"].unique().to_list())
    return [venue.venue for venue in venues if venue.was_open and venue.venue not in heard]


def as_json(venues: Iterable[Hours]) -> list[dict[str, Any]]:
    """Return hours as plain values, for XCom."""
    return json.loads(json.dumps([{**vars(venue), "was_open": venue.was_open} for venue in venues], default=str))
