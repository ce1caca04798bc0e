"""Data sets, the cut, and models that must be right about what they haven't seen."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from millrace import datasets, tables, training
from millrace.datasets import LABEL, DataSet, download
from millrace.errors import MillraceError
from millrace.features import FEATURE_SETS
from millrace.flight_features import Days, compute, extract
from millrace.training import MODELS, accuracy, baseline, fit, preprocess
from millrace.verification import connection, source_files

DAYS = Days(date(2013, 1, 3), 4)


def rows(number: int) -> pl.DataFrame:
    return pl.DataFrame({"value": range(number), "same": [1] * number, LABEL: [n % 2 for n in range(number)]})


@pytest.fixture(scope="module")
def parts() -> training.Parts:
    return preprocess(download(datasets.BREAST_CANCER), 0.25)


def test_the_hold_out_has_the_same_labels_and_none_of_the_training_rows(parts: training.Parts) -> None:
    assert parts.train.height + parts.hold_out.height == 569
    assert parts.train.join(parts.hold_out, on=parts.train.columns, how="semi").is_empty()
    assert parts.train[LABEL].mean() == pytest.approx(parts.hold_out[LABEL].mean(), abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_finds_more_than_the_threshold_of_what_it_has_not_seen(parts: training.Parts, model: str) -> None:
    fitted, score = fit(model, parts.train, in_time=False)
    assert score > 0.88
    assert accuracy(fitted, parts.hold_out) > 0.88 > baseline(parts.train, parts.hold_out) + 0.2
    # A model that was told nonsense finds nothing: the figure comes from the labels.
    nonsense = parts.hold_out.with_columns((1 - pl.col(LABEL)).alias(LABEL))
    assert accuracy(fitted, nonsense) < 0.12


def test_missing_values_are_no_obstacle(parts: training.Parts) -> None:
    holed = parts.train.with_columns(
        pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.col("mean_radius")).alias("mean_radius")
    )
    for model in MODELS[:2]:
        assert fit(model, holed, in_time=False)[1] > 0.88


def test_what_says_nothing_is_left_out() -> None:
    twice = pl.concat([rows(200), rows(200).head(10), rows(3).with_columns(pl.lit(None, pl.Int64).alias(LABEL))])
    parts = preprocess(DataSet(twice, in_time=False), 0.2)
    assert parts.dropped_columns == ("same",)
    assert parts.dropped_rows == 13
    assert (parts.train.height, parts.hold_out.height) == (160, 40)


def test_what_is_in_time_is_judged_by_what_came_later() -> None:
    parts = preprocess(DataSet(rows(200), in_time=True), 0.2)
    assert parts.train["value"].to_list() == list(range(160))
    assert parts.hold_out["value"].to_list() == list(range(160, 200))


@pytest.mark.parametrize("frame", [rows(50), rows(200).with_columns(pl.lit(1).alias(LABEL))])
def test_too_little_is_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(MillraceError, match="too few to train a model"):
        preprocess(DataSet(frame, in_time=True), 0.2)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(MillraceError, match="no data set cats"):
        download("cats")
    with pytest.raises(MillraceError, match="no model oracle"):
        training.estimator("oracle")


def test_flights_come_with_what_was_known_when_they_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    with pytest.raises(MillraceError, match="has 0 of the 4 days .* run feature_engineering with from_date 2013-01-03"):
        download(datasets.FLIGHTS, DAYS)
    with connection() as database:
        extract(database, DAYS)
        for feature_set in FEATURE_SETS:
            frame = pl.DataFrame(compute(database, feature_set, DAYS))
            tables.replace(feature_set.table, frame, DAYS.predicate(), ["day"])
    found = download(datasets.FLIGHTS, DAYS)
    assert found.in_time
    # The whole package by Polars instead: flights of these days in UTC that arrived, and the share that was late.
    with source_files() as (file, _):
        all_flights = pl.read_csv(file, null_values="NA", n_rows=10_000)
    minute = pl.col("time_hour").str.to_datetime(time_zone="UTC") + pl.duration(minutes="minute")
    mine = all_flights.filter(
        minute >= pl.datetime(2013, 1, 3, time_zone="UTC"),
        minute < pl.datetime(2013, 1, 7, time_zone="UTC"),
        pl.col("arr_delay").is_not_null(),
    )
    assert found.frame.height == mine.height > 3000
    assert found.frame[LABEL].sum() == (mine["arr_delay"] > 15).sum()
    # Who was due just after midnight and left just before it knew nothing of a store that begins at midnight.
    assert 0 < found.frame["departures_3h"].null_count() < 20
    parts = preprocess(found, 0.25)
    fitted, _ = fit("logistic-regression", parts.train, in_time=True)
    assert accuracy(fitted, parts.hold_out) > baseline(parts.train, parts.hold_out) + 0.05
