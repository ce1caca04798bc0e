"""The tasks of `market_data`; prices and bars go from one to the next as files of the run's own in the storage."""

import io
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from millrace.intervals import interval_of

if TYPE_CHECKING:
    import polars as pl

STAGING = ("staging", "market_data")

log = logging.getLogger(__name__)


def market_hours(context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say which venues were open in the run's interval."""
    from millrace import market
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        found = market.as_json(_hours(context))
    for venue in found:
        until = f"closed; opens {venue['next_open']}" if not venue["was_open"] else "open"
        log.info("%s (%s): %s", venue["venue"], venue["calendar"], until)
    return found


def check_freshness(grace: timedelta, context: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return which offsets hold the interval's records; a retry of what follows reads the same.

    Fails if a venue is open and nothing came lately; skips what follows if none was open and nothing came.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from millrace import kafka, market
    from millrace.config import load_settings
    from millrace.operators.base import one_sentence

    start, end = interval_of(context)
    with one_sentence(log):
        market.check_retention(load_settings().root / "contracts" / "topics.yaml", start, datetime.now(UTC))
        config, venues = kafka.connection_config(), _hours(context)
        ranges = market.offsets(config, start, end, grace)
        most = timedelta(minutes=context["params"]["freshness_minutes"])
        market.check_freshness(config, venues, end, grace, most)
    if not ranges and not any(venue.was_open for venue in venues):
        raise AirflowSkipException("No venue was open, and no record came: there is nothing to do.")
    return {str(number): [first, last] for number, (first, last) in ranges.items()}


def process(ranges: Mapping[str, list[int]], context: Mapping[str, Any]) -> dict[str, Any]:
    """Read and clean the interval's prices; return what was read and left out, and which open venues are silent."""
    from millrace import kafka, market, records
    from millrace.operators.base import one_sentence

    start, end = interval_of(context)
    with one_sentence(log):
        offsets = {int(number): (first, last) for number, (first, last) in ranges.items()}
        found = market.prices(records.read_topic(kafka.connection_config(), market.TOPIC, offsets), start, end)
        silent = market.silent(found.frame, _hours(context))
        _write(found.frame, context, "prices.parquet")
    if silent:
        log.warning("Open, but without a price: %s", ", ".join(silent))
    return {**found.counts, "silent": silent}


def aggregate(context: Mapping[str, Any]) -> int:
    """Make bars of the prices; return how many."""
    from millrace import market, venues
    from millrace.operators.base import one_sentence

    start, end = interval_of(context)
    with one_sentence(log):
        prices = _read(context, "prices.parquet")
        heard = prices["source"].unique().to_list()
        made = market.bars(prices, bar_length(context), venues.hours(venues.load(), heard, start, end))
        _write(made, context, "bars.parquet")
    return made.height


def store(context: Mapping[str, Any]) -> dict[str, Any]:
    """Put the bars in the place of the interval's; after a day's last interval, join the day's small files."""
    from millrace import market, storage, tables
    from millrace.operators.base import one_sentence

    start, end = interval_of(context)
    with one_sentence(log):
        made = _read(context, "bars.parquet")
        which = market.condition(start, end, bar_length(context))
        tables.replace(market.TABLE, made, which, partition_by=["day"])
        removed = None
        if end.time() == time(0):
            removed = tables.maintain(market.TABLE, partitions=[("day", "=", str(start.date()))])
        storage.delete_tree(*_place(context))
    return {"bars": made.height, "files_removed": removed}


def bar_length(context: Mapping[str, Any]) -> timedelta:
    """Return how long a bar is."""
    return timedelta(minutes=context["params"]["bar_minutes"])


def _hours(context: Mapping[str, Any]) -> list[Any]:
    from millrace import venues

    known = venues.load()
    return venues.hours(known, known.calendars, *interval_of(context))


def _place(context: Mapping[str, Any], *file: str) -> tuple[str, ...]:
    from millrace import storage

    return (*STAGING, storage.run_folder(context["run_id"]), *file)


def _write(frame: "pl.DataFrame", context: Mapping[str, Any], file: str) -> None:
    from millrace import storage

    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    storage.write_bytes(buffer.getvalue(), *_place(context, file))


def _read(context: Mapping[str, Any], file: str) -> "pl.DataFrame":
    import polars as pl

    from millrace import storage

    return pl.read_parquet(io.BytesIO(storage.read_bytes(*_place(context, file))))
