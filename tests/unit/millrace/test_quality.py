"""Each rule of data quality, with data that keeps it and data that breaks it."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import polars as pl
import pytest

from ingest import contracts as ingest_contracts
from millrace import kafka, notifications, quality, quality_steps, records, storage, tables
from millrace.errors import MillraceError
from millrace.notifications import Notice

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
RULES = quality.load_rules("market_data")
BARS = 200


def bars() -> pl.DataFrame:
    """Good data: two symbols, a bar each five minutes, prices that wander a little."""
    rows = []
    for symbol, base in (("BTC/USDT", 60000.0), ("ETH/USD", 3000.0)):
        for number in range(BARS // 2):
            price = base * (1 + 0.001 * (number % 7))
            rows.append(
                {
                    "source": "simulated",
                    "symbol": symbol,
                    "bar_start": NOW - timedelta(minutes=5 * (number + 1)),
                    "bar_seconds": 300,
                    "open": price,
                    "high": price * 1.001,
                    "low": price * 0.999,
                    "close": price,
                    "volume": 1.5,
                    "vwap": price,
                    "trades": 10,
                }
            )
    return pl.DataFrame(rows, schema_overrides={"bar_start": pl.Datetime("us", "UTC")})


@pytest.fixture(autouse=True)
def own_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")


def check(rows: pl.DataFrame, now: datetime = NOW) -> tuple[list[quality.Finding], Any]:
    tables.append("market_data", rows)
    return quality.interrogate(RULES, quality.read_window(RULES, now), quality.age(RULES, now), now)


def broken(rows: pl.DataFrame, now: datetime = NOW) -> list[tuple[str, float | None]]:
    return [(finding.dimension, finding.measured) for finding in check(rows, now)[0] if finding.broken]


def first(share: float, column: str, value: Any) -> pl.Expr:
    """That column with another value in the first rows, which are a share of all."""
    return pl.when(pl.int_range(pl.len()) < share * BARS).then(value).otherwise(pl.col(column)).alias(column)


def test_good_data_breaks_nothing_and_every_dimension_is_checked() -> None:
    findings, _ = check(bars())
    assert [finding.rule for finding in findings if finding.broken] == []
    assert {finding.dimension for finding in findings} == {
        "completeness", "accuracy", "timeliness", "validity", "uniqueness", "outliers",
    }  # fmt: skip


def test_just_as_much_as_is_allowed_breaks_nothing() -> None:
    rows = bars().with_columns(first(0.05, "trades", None))
    assert broken(pl.concat([rows, rows.head(10)]).tail(BARS)) == []


def test_incomplete_rows_and_null_columns() -> None:
    """Few nulls in each column, but in different rows: the rows are too often incomplete."""
    rows = bars().with_columns(first(0.04, "trades", None))
    rows = rows.with_columns(
        pl.when(pl.int_range(pl.len()).is_between(100, 107)).then(None).otherwise(pl.col("close")).alias("close")
    )
    assert broken(rows) == [("completeness", 0.08)]


def test_a_column_with_too_many_nulls() -> None:
    found = check(bars().with_columns(first(0.06, "high", None)))[0]
    rules = [finding.rule for finding in found if finding.broken]
    assert [rule.partition(" ")[0] for rule in rules] == ["a", "high"]


def test_prices_that_contradict_each_other() -> None:
    assert broken(bars().with_columns(first(0.01, "low", 1e6))) == [("accuracy", 0.01), ("accuracy", 0.01)]


def test_prices_and_volumes_below_zero() -> None:
    assert broken(bars().with_columns(first(0.005, "volume", -1.0))) == [("accuracy", 0.005)]


def test_duplicates() -> None:
    rows = bars()
    assert broken(pl.concat([rows, rows.head(20)])) == [("uniqueness", round(20 / 220, 6))]


def test_outliers_of_a_group_and_not_what_is_far_from_another_group() -> None:
    spiked = bars().with_columns(
        [pl.when(pl.int_range(pl.len()) < 12).then(pl.col(name) * 5).otherwise(pl.col(name)).alias(name)
         for name in ("open", "high", "low", "close", "vwap")]
    )  # fmt: skip
    assert broken(spiked) == [("outliers", 0.06)]


def test_one_deviating_value_among_equal_ones_is_an_outlier() -> None:
    outlier = {"column": "close", "by": ["symbol"], "deviations": 10}
    rows = pl.DataFrame({"symbol": ["a"] * 100, "close": [1.0] * 99 + [50.0]})
    assert rows.select(quality._is_outlier(outlier)).to_series().sum() == 1
    assert rows.head(99).select(quality._is_outlier(outlier)).to_series().sum() == 0


def test_a_column_of_another_type_and_one_that_is_missing() -> None:
    found = check(bars().with_columns(pl.col("trades").cast(pl.Float64)))[0]
    assert [(one.dimension, one.rule) for one in found if one.broken] == [
        ("validity", "columns and types are as agreed (trades is Float64, not Int64)")
    ]


def test_a_missing_column_breaks_the_rules_about_it_and_hides_no_other() -> None:
    found = check(bars().drop("close"))[0]
    assert {one.dimension for one in found if one.broken} == {"validity", "completeness", "outliers", "accuracy"}
    assert all(one.measured is None for one in found if one.rule.endswith("can't be checked"))
    (unique,) = [one for one in found if one.dimension == "uniqueness"]
    assert not unique.broken


def test_stale_data() -> None:
    tables.append("market_data", bars())
    at = NOW + timedelta(hours=24) - timedelta(minutes=5)
    almost, stale = quality.age(RULES, at - timedelta(seconds=1)), quality.age(RULES, at)
    assert (almost.fresh, stale.fresh) == (True, False)
    finding = quality.age_finding(RULES, stale)
    assert (finding.dimension, finding.broken, finding.measured, finding.limit) == ("timeliness", True, 24, 24)


def test_rows_after_the_interval_make_nothing_fresh() -> None:
    tables.append("market_data", bars().with_columns(pl.col("bar_start") + timedelta(days=9)))
    assert quality.age(RULES, NOW) == quality.Age(None, None, fresh=False)


def test_no_table_is_stale() -> None:
    assert quality.age(RULES, NOW) == quality.Age(None, None, fresh=False)


def test_only_window_and_columns_are_read() -> None:
    old = bars().with_columns(pl.col("bar_start") - timedelta(days=3), pl.lit(-1.0).alias("volume"))
    tables.append("market_data", bars().with_columns(pl.lit("x").alias("comment")))
    tables.append("market_data", old.with_columns(pl.lit("x").alias("comment")))
    rows = quality.read_window(RULES, NOW)
    assert rows.columns == list(RULES.columns)
    assert rows.height == BARS


def test_more_rows_than_fit_into_memory_are_refused() -> None:
    tables.append("market_data", bars())
    narrow = quality.Rules(**{**vars(RULES), "max_rows": BARS - 1})
    with pytest.raises(MillraceError, match=f"has {BARS} rows .* more than max_rows"):
        quality.read_window(narrow, NOW)


def test_a_table_without_the_column_of_time_is_one_sentence() -> None:
    tables.append("market_data", bars().drop("bar_start"))
    for read in (quality.age, quality.read_window):
        with pytest.raises(MillraceError, match="can't be read as its rules say .*bar_start"):
            read(RULES, NOW)


def test_rules_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(MillraceError, match="There are no rules .*nothing.yaml .there are: market_data"):
        quality.load_rules("nothing")
    (tmp_path / "half.yaml").write_text("table: half\nkey: [a]\n")
    with pytest.raises(MillraceError, match="half.yaml doesn't describe a table's rules"):
        quality.load_rules("half", tmp_path)


CONTEXT = {
    "run_id": "scheduled__2026-03-02T12:00:00+00:00",
    # As Airflow hands them out.
    "data_interval_start": pendulum.instance(NOW - timedelta(hours=1)),
    "data_interval_end": pendulum.instance(NOW),
    "params": {"rules": "market_data"},
}


@pytest.fixture
def alerts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What reached the topic; it must keep the contract by which others read it."""
    taken: list[dict[str, Any]] = []

    def send_all(_: Any, topic: str, messages: Any) -> int:
        taken.extend(ingest_contracts.read(topic, value, as_version=1) for _, value, _ in messages)
        return len(taken)

    monkeypatch.setattr(records, "send_all", send_all)
    monkeypatch.setattr(kafka, "connection_config", lambda: {})
    return taken


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    taken: list[Notice] = []
    monkeypatch.setattr(notifications, "notify", taken.append)
    return taken


def test_broken_rules_reach_the_topic_and_people_and_are_in_the_report(
    alerts: list[dict[str, Any]], told: list[Notice]
) -> None:
    rows = bars().with_columns(first(0.01, "low", 1e6))
    tables.append("market_data", pl.concat([rows, rows.tail(20)]))
    measured = quality_steps.measure_age(CONTEXT)
    assert measured["fresh"]
    outcome = json.loads(json.dumps(quality_steps.check_rules(measured, CONTEXT)))
    assert quality_steps.alert(outcome, CONTEXT)["broken"] == 3
    assert [alert["dimension"] for alert in alerts] == ["uniqueness", "accuracy", "accuracy"]
    assert (alerts[0]["measured"], alerts[0]["limit"], alerts[0]["rows"]) == (round(20 / 220, 6), 0.05, 220)
    (notice,) = told
    assert notice.subject == "market_data breaks 3 of 13 rules of data quality"
    assert notice.facts["1. uniqueness"] == "at most 5% are duplicates: measured 9.09%"
    report = Path(outcome["report"]).read_text()
    assert report.startswith("<!doctype html>")
    assert "A row has open, high, low, close, trades" in report
    # It fetches nothing from anywhere.
    addresses = set(re.findall(r"https?://[^\"' )]+", report))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    folder = storage.run_folder(str(CONTEXT["run_id"]))
    assert storage.read_json("reports", "data_quality", folder, "findings.json") == outcome
    first_ids = [alert["event_id"] for alert in alerts]
    alerts.clear()
    quality_steps.alert(outcome, CONTEXT)
    assert [alert["event_id"] for alert in alerts] == first_ids


def test_good_data_disturbs_nobody(alerts: list[dict[str, Any]], told: list[Notice]) -> None:
    findings, _ = check(bars())
    outcome = {"table": "market_data", "rows": BARS, "report": None, "findings": [vars(one) for one in findings]}
    assert quality_steps.alert(outcome, CONTEXT) == {"checked": 13, "broken": 0}
    assert (alerts, told) == ([], [])


@pytest.mark.parametrize("old", [True, False])
def test_stale_data_is_all_that_is_said(old: bool, alerts: list[dict[str, Any]], told: list[Notice]) -> None:
    if old:
        tables.append("market_data", bars().with_columns(pl.col("bar_start") - timedelta(hours=30)))
    measured = quality_steps.measure_age(CONTEXT)
    assert not measured["fresh"]
    outcome = quality_steps.describe_stale(measured, CONTEXT)
    assert quality_steps.alert(outcome, CONTEXT) == {"checked": 1, "broken": 1}
    ((alert,), (notice,)) = alerts, told
    assert (alert["dimension"], alert["measured"], alert["unit"]) == ("timeliness", 30.083 if old else None, "hours")
    words = "measured 30.083 hours" if old else "there is no row"
    assert words in notice.facts["1. timeliness"]
