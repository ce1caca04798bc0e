"""The batch layer on windows computed from recorded flights: nothing is lost, nothing counts twice."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from millrace import assets, batch, batch_report, batch_steps, forecast, storage, tables
from millrace.batch import InputRange, aggregate, serve
from millrace.errors import MillraceError
from millrace.verification import Windows, connection, load_expected

FIRST = InputRange(date(2013, 1, 1), 3)
NEXT = InputRange(date(2013, 1, 4), 2)
MINUTES = timedelta(minutes=1)


def computed(days: InputRange) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The windows of a range as the stream writes them, and the events themselves by hour."""
    with connection() as database:
        load_expected(database, Windows(days.first, days.days, 5 * MINUTES, MINUTES))
        windows = pl.DataFrame(
            database.sql(
                "SELECT make_timestamptz(start_s * 1000000) AS window_start, "
                "make_timestamptz(end_s * 1000000) AS window_end, event_type, events FROM expected"
            )
        )
        events = pl.DataFrame(
            database.sql(
                "SELECT date_trunc('hour', event_time) AT TIME ZONE 'UTC' AS hour, event_type, count(*) AS events "
                "FROM events GROUP BY ALL"
            )
        )
    return windows, events


@pytest.fixture(scope="module")
def flights() -> dict[InputRange, tuple[pl.DataFrame, pl.DataFrame]]:
    return {days: computed(days) for days in (FIRST, NEXT)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    return tmp_path


def stream(windows: pl.DataFrame, days: InputRange) -> None:
    """What a run of the stream leaves: its range, and its windows instead of the last run's."""
    storage.delete_tree("tables", batch.WINDOWS)
    storage.write_json({"from": str(days.first), "days": str(days.days)}, "ranges", "events.json")
    tables.append(batch.WINDOWS, windows)


def same(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    keys = ["hour", "event_type"]
    columns = [*keys, pl.col("events").cast(pl.Int64)]
    return (
        left.select(columns)
        .sort(keys)
        .equals(right.group_by(keys).agg(pl.col("events").sum()).select(columns).sort(keys))
    )


def test_hours_are_those_of_the_events_themselves(flights: Any) -> None:
    windows, events = flights[FIRST]
    stream(windows, FIRST)
    done = aggregate(FIRST)
    assert done["events"] == events["events"].sum()
    assert same(batch.history(), events)


def test_ranges_add_up_where_they_share_an_hour(flights: Any) -> None:
    for days in (FIRST, NEXT):
        stream(flights[days][0], days)
        assert aggregate(days)["replaced"] == []
    both = pl.concat([flights[FIRST][1], flights[NEXT][1]])
    shared = flights[FIRST][1].join(flights[NEXT][1], on=["hour", "event_type"], how="semi")
    assert shared.height > 0  # Flights of the third of January that arrived on the fourth, in UTC.
    assert same(batch.history(), both)
    assert batch.known_ranges() == [FIRST, NEXT]


def test_a_range_again_takes_its_own_place(flights: Any) -> None:
    windows, events = flights[FIRST]
    stream(windows.head(1000), FIRST)
    aggregate(FIRST)
    stream(windows, FIRST)
    aggregate(FIRST)
    aggregate(FIRST)
    assert same(batch.history(), events)


def test_a_range_that_overlaps_takes_the_place_of_the_older(flights: Any) -> None:
    stream(flights[FIRST][0], FIRST)
    aggregate(InputRange(date(2013, 1, 2), 31))
    assert aggregate(FIRST)["replaced"] == ["2013-01-02+31"]
    assert same(batch.history(), flights[FIRST][1])


def test_readers_see_history_and_stream_as_one(flights: Any) -> None:
    windows, events = flights[FIRST]
    stream(windows, FIRST)
    assert same(serve(), events)  # The stream alone.
    older = windows.filter(pl.col("window_end") <= datetime(2013, 1, 2, 17, 25, tzinfo=UTC))
    stream(older, FIRST)
    aggregate(FIRST)
    stream(windows, FIRST)
    assert not same(batch.history(), events)
    assert same(serve(), events)  # Both, cut in the middle of an hour.
    stream(flights[NEXT][0], NEXT)
    first, end = datetime(2013, 1, 4, 12, tzinfo=UTC), datetime(2013, 1, 4, 18, tzinfo=UTC)
    wanted = flights[NEXT][1].filter(pl.col("hour").is_between(first, end, closed="left"))
    assert same(serve(first, end), wanted)


def test_what_the_stream_computes_anew_is_not_read_from_the_history(flights: Any) -> None:
    windows, events = flights[FIRST]
    stream(windows, FIRST)
    aggregate(InputRange(date(2013, 1, 3), 10))
    assert same(serve(), events)


def test_nothing_to_read_is_said() -> None:
    with pytest.raises(MillraceError, match="run streaming_pipeline first"):
        serve()
    with pytest.raises(MillraceError, match="run streaming_pipeline first"):
        batch.current_range()
    storage.write_json({"from": "2013-01-01", "days": "3"}, "ranges", "events.json")
    with pytest.raises(MillraceError, match="There is no Delta table at .*event_windows"):
        aggregate(FIRST)


def context(**more: Any) -> dict[str, Any]:
    return {"dag": SimpleNamespace(dag_id="batch_layer"), "run_id": "r", **more}


def test_another_range_than_that_handed_over_is_not_taken(flights: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    stream(flights[NEXT][0], NEXT)
    events = {assets.EVENT_WINDOWS: [SimpleNamespace(extra={"range": FIRST.key})]}
    with pytest.raises(
        AirflowFailException, match=r"2013-01-01\+3 were handed over, but the stream is at 2013-01-04\+2"
    ):
        batch_steps.aggregate_windows(assets.EVENT_WINDOWS, context(triggering_asset_events=events))
    assert not tables.exists(batch.HOURS)
    events = {assets.EVENT_WINDOWS: [SimpleNamespace(extra={"range": NEXT.key})]}
    assert (
        batch_steps.aggregate_windows(assets.EVENT_WINDOWS, context(triggering_asset_events=events))["range"]
        == NEXT.key
    )


def test_too_short_a_history_is_skipped_and_reported(flights: Any, folder: Path) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    stream(flights[FIRST][0], FIRST)
    aggregated = batch_steps.aggregate_windows(assets.EVENT_WINDOWS, context())
    with pytest.raises(AirflowSkipException, match="a forecast needs 14"):
        batch_steps.train_forecast(context())
    batch_steps.write_reports(aggregated, None, context())
    page = (folder / "reports/batch_layer/r/report.html").read_text()
    assert "history too short" in page and "plotly" in page
    assert "<script src" not in page


@pytest.fixture(scope="module")
def month() -> pl.DataFrame:
    return computed(InputRange(date(2013, 1, 1), 31))[1]


def test_the_forecast_beats_the_naive_ones_on_what_it_has_not_seen(month: pl.DataFrame) -> None:
    found = forecast.train(month)
    assert found.useful
    assert found.error < found.same_as_last_week < found.same_as_yesterday
    held = found.hold_out
    assert found.error == pytest.approx((held["events"] - held["forecast"]).abs().mean())
    page = batch_report.render(month, held, {"a": "<b>"}, "batch_layer", "r")
    assert "&lt;b&gt;" in page and "arrived, forecast" in page


def test_a_forecast_knows_nothing_younger_than_a_day(month: pl.DataFrame) -> None:
    cut = datetime(2013, 1, 20, 12, tzinfo=UTC)
    rows = forecast.inputs(month)
    # All that came in the day before an hour, changed: its inputs stay.
    spoilt = month.with_columns(
        events=pl.when(pl.col("hour") > cut - timedelta(hours=24))
        .then(pl.col("events") + 1000)
        .otherwise(pl.col("events"))
    )
    wanted = pl.col("hour") == cut
    inputs = ["event_type", *forecast.INPUTS]
    assert rows.filter(wanted).select(inputs).equals(forecast.inputs(spoilt).filter(wanted).select(inputs))


def test_noise_is_no_reason_to_deploy() -> None:
    hours = pl.datetime_range(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 29, tzinfo=UTC), "1h", eager=True)
    # The same every week, exactly: nothing can beat "as a week ago".
    weekly = pl.DataFrame({"hour": hours, "event_type": ["x"] * len(hours)}).with_columns(
        events=pl.col("hour").dt.hour().cast(pl.Int64) * pl.col("hour").dt.weekday()
    )
    found = forecast.train(weekly)
    assert found.same_as_last_week == 0
    assert not found.useful
