"""`covid_etl` on a local server that answers as the public API does, and on a table in a folder."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import polars as pl
import pytest

from ingest import contracts as ingest_contracts
from millrace import covid, covid_steps, kafka, records, storage, tables
from millrace.covid_api import Api, base_url
from millrace.errors import MillraceError
from tests.covid_server import CASES, DEATHS, Dashboard, covid_server

Sent = list[tuple[str, dict[str, Any], dict[str, str]]]


@pytest.fixture(scope="module")
def server() -> Iterator[Dashboard]:
    with covid_server() as found:
        yield found


@pytest.fixture
def dashboard(server: Dashboard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dashboard:
    server.values = {
        (area, metric): {f"2026-01-{day:02}": 100.0 * day for day in range(1, 32)} | {"2025-12-31": 7.0}
        for area in ("England", "London")
        for metric in (CASES, DEATHS)
    }
    server.extra, server.failures, server.page_size = {}, [], 365
    server.requests.clear()
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW_CONN_COVID_API", json.dumps({"conn_type": "http", "host": server.url}))
    monkeypatch.setattr("millrace.covid_api.FIRST_WAIT", 0.01)
    return server


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was sent: topic, message, headers. A record must keep the contract by which ingest reads it."""
    taken: Sent = []

    def send_all(_: Any, topic: str, messages: Any) -> int:
        made = list(messages)
        for key, value, headers in made:
            if topic == covid.TOPIC:
                message = ingest_contracts.read(topic, value, as_version=1)
                assert ingest_contracts.load(topic).key(message) == key.encode()
            taken.append((topic, json.loads(value), {name: text.decode() for name, text in headers}))
        return len(made)

    monkeypatch.setattr(records, "send_all", send_all)
    monkeypatch.setattr(kafka, "connection_config", lambda: {})
    return taken


def context(day: int, revision_days: int = 3, month: int = 1, **params: Any) -> dict[str, Any]:
    end = pendulum.datetime(2026, month, day, 6)  # as Airflow hands them out
    return {
        "run_id": f"scheduled__{end.isoformat()}",
        "data_interval_start": end - timedelta(days=1),
        "data_interval_end": end,
        "params": {
            "geography_types": ["Nation", "Region"],
            "metrics": [CASES, DEATHS],
            "revision_days": revision_days,
            **params,
        },
    }


def run(day: int, **options: Any) -> dict[str, Any]:
    """All tasks of one run, one after the other."""
    of_run = context(day, **options)
    extracted = covid_steps.extract(of_run)
    transformed = covid_steps.transform(of_run)
    loaded = covid_steps.load(of_run)
    return {**extracted, **transformed, **loaded, **covid_steps.validate(loaded, of_run)}


def held() -> dict[tuple[str, str, str], float]:
    """The table by area, metric and day; fails if a figure is there twice."""
    rows = tables.read(covid.TABLE).rows(named=True)
    found = {(row["geography"], row["metric"], row["date"].isoformat()): row["value"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_run_loads_the_day_that_ended_and_those_that_may_be_corrected(dashboard: Dashboard, sent: Sent) -> None:
    found = run(10)
    assert {day for _, _, day in held()} == {"2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"}
    assert held()["London", CASES, "2026-01-09"] == 900
    assert (found["rows"], found["sent"], found["missing"]) == (16, 16, [])
    assert {message["event_type"] for _, message, _ in sent} == {"new"}
    assert not storage.exists("staging", "covid_etl", storage.run_folder(context(10)["run_id"]))


def test_runs_repeated_runs_and_a_backfill_leave_each_figure_once(dashboard: Dashboard, sent: Sent) -> None:
    for day in (20, 21, 21):
        run(day)
    assert run(21)["sent"] == 0
    for day in range(8, 22):  # A backfill of two weeks, over days that are there already.
        run(day)
    expected = {f"2026-01-{day:02}" for day in range(4, 21)}
    assert {day for _, _, day in held()} == expected
    assert len(held()) == len(expected) * 4
    assert len({message["event_id"] for _, message, _ in sent}) == len(sent) == len(held())


def test_a_correction_replaces_the_figure_and_is_sent_with_what_it_was(dashboard: Dashboard, sent: Sent) -> None:
    run(10)
    sent.clear()
    dashboard.values["England", CASES]["2026-01-08"] = 801
    run(11)
    assert held()["England", CASES, "2026-01-08"] == 801
    corrected = [message for _, message, _ in sent if message["event_type"] == "corrected"]
    assert [(m["geography"], m["date"], m["value"], m["previous_value"]) for m in corrected] == [
        ("England", "2026-01-08", 801.0, 800.0)
    ]
    assert corrected[0]["event_time"] == "2026-01-11T06:00:00Z"


def test_a_figure_that_is_withdrawn_leaves_the_table(dashboard: Dashboard, sent: Sent) -> None:
    run(10)
    del dashboard.values["England", CASES]["2026-01-08"]
    run(10)
    assert ("England", CASES, "2026-01-08") not in held()
    assert ("England", DEATHS, "2026-01-08") in held()


def test_a_region_that_is_missing_keeps_what_it_had_and_is_named(dashboard: Dashboard, sent: Sent) -> None:
    run(10)
    del dashboard.values["London", DEATHS]
    found = run(11)
    assert found["missing"] == [f"London/{DEATHS}"]
    assert held()["London", DEATHS, "2026-01-09"] == 900
    assert ("London", DEATHS, "2026-01-10") not in held()
    assert held()["London", CASES, "2026-01-10"] == 1000


def test_errors_and_limits_of_the_server_are_waited_out(dashboard: Dashboard, sent: Sent) -> None:
    dashboard.failures = [(500, {}), (503, {}), (429, {"Retry-After": "0"}), (502, {})]
    assert run(10)["rows"] == 16
    assert dashboard.requests[0] == dashboard.requests[4]


def test_the_server_is_asked_again_only_after_the_time_that_it_asks_for(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    # Tenacity's own name for the module: other threads of this process still sleep.
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waits.append))
    dashboard.failures = [(429, {"Retry-After": "17"}), (429, {"Retry-After": "4000"}), (500, {})]
    with Api(base_url(), first_wait=2.0) as api:
        assert api.areas("Nation") == ["England"]
    assert waits == [17, 60, 8]


def test_a_server_that_stays_broken_fails_the_task_in_one_sentence_and_changes_nothing(
    dashboard: Dashboard, sent: Sent
) -> None:
    run(10)
    before = held()
    dashboard.failures = [(500, {})] * 5
    with pytest.raises(Exception, match="gives no answer that can be used [(]HTTP status 500[)].*covid_api"):
        covid_steps.extract(context(11))
    assert held() == before


@pytest.mark.parametrize("answer", [{"results": None}, ["no", "pages"], {"count": 0}])
def test_an_answer_of_another_shape_is_named(
    dashboard: Dashboard, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "answer", lambda path, _: [{"name": "England"}] if "metrics" not in path else answer)
    with pytest.raises(Exception, match="in another way than its documentation says"):
        covid_steps.extract(context(11))


def test_an_unknown_metric_is_a_mistake_of_the_parameters(dashboard: Dashboard) -> None:
    with pytest.raises(Exception, match="none of nonsense .* correct the parameters"):
        covid_steps.extract(context(10, metrics=["nonsense"]))


def test_pages_and_the_turn_of_the_year_are_followed(dashboard: Dashboard, sent: Sent) -> None:
    dashboard.page_size = 2
    run(3)
    assert {day for _, _, day in held()} == {"2025-12-30", "2025-12-31", "2026-01-01", "2026-01-02"} - {"2025-12-30"}
    assert any("year=2025" in path for path in dashboard.requests)
    assert any("page=2" in path for path in dashboard.requests)


def test_figures_that_cannot_be_used_are_dead_letters_with_their_reason(dashboard: Dashboard, sent: Sent) -> None:
    key = ("England", CASES)
    dashboard.extra[key] = [dashboard.figure(*key, "2026-01-09", None)]
    assert run(10, revision_days=10)["dead_letters"] == 1
    dead = [(message, headers) for topic, message, headers in sent if topic == covid.DEAD_LETTER_TOPIC]
    assert dead[0][0]["metric_value"] is None
    assert dead[0][1]["reason"] == "metric_value is None"
    assert held()["England", CASES, "2026-01-09"] == 900


def test_too_many_of_them_fail_the_run_before_anything_is_written(dashboard: Dashboard, sent: Sent) -> None:
    dashboard.values["England", CASES] = dict.fromkeys(dashboard.values["England", CASES], "n/a")
    with pytest.raises(Exception, match=r"4 of 16 figures can't be used \(metric_value is 'n/a' \(4x\)\)"):
        run(10)
    assert not tables.exists(covid.TABLE)
    assert sent == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"date": "2026-13-01"}, "date is '2026-13-01'"),
        ({"date": None}, "date is missing"),
        ({"metric_value": -1}, "metric_value is -1.0"),
        ({"metric_value": float("nan")}, "metric_value is nan"),
        ({"geography_code": ""}, "geography_code is missing"),
        ({"geography_code": "a' OR 1=1"}, "geography_code is"),
        ({"age": "65+"}, "age is '65+', not the total"),
    ],
)
def test_what_makes_a_figure_unusable(change: dict[str, Any], reason: str) -> None:
    figure = Dashboard().figure("England", CASES, "2026-01-01", 1) | change
    ((rejected),) = covid.transform([figure])["rejected"]
    assert rejected["reason"].startswith(reason)


def test_the_last_of_two_figures_of_a_day_counts_and_the_other_is_counted() -> None:
    figures = [Dashboard().figure("England", CASES, "2026-01-01", value) for value in (1, 2)]
    found = covid.transform(figures)
    assert [row["value"] for row in found["rows"]] == [2.0]
    assert [row["value"] for row in found["duplicates"]] == [1.0]


def test_validation_finds_what_is_there_twice(dashboard: Dashboard, sent: Sent) -> None:
    run(10)
    tables.append(covid.TABLE, tables.read(covid.TABLE, predicate=pl.col("date") == date(2026, 1, 9)))
    days = covid.Days(date(2026, 1, 6), date(2026, 1, 10))
    with pytest.raises(MillraceError, match="4 figures are there more than once"):
        covid.validate(days, 16)
    with pytest.raises(MillraceError, match="fewer than the 99 loaded"):
        covid.validate(days, 99)


def test_cut_short_between_sending_and_writing_a_retry_sends_the_same_ids(
    dashboard: Dashboard, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MillraceError("the storage is away")

    of_run = context(10)
    covid_steps.extract(of_run)
    covid_steps.transform(of_run)
    with monkeypatch.context() as broken:
        broken.setattr(tables, "replace", fail)
        with pytest.raises(Exception, match="the storage is away"):
            covid_steps.load(of_run)
    first = [message["event_id"] for _, message, _ in sent]
    sent.clear()
    covid_steps.load(of_run)
    assert [message["event_id"] for _, message, _ in sent] == first
    assert len(held()) == 16


def test_the_address_comes_from_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_COVID_API", raising=False)
    assert base_url() == "https://api.ukhsa-dashboard.data.gov.uk"
    connection = {"conn_type": "http", "host": "proxy.example.org", "schema": "http", "port": 8080}
    monkeypatch.setenv("AIRFLOW_CONN_COVID_API", json.dumps(connection))
    assert base_url() == "http://proxy.example.org:8080"
    monkeypatch.setenv("AIRFLOW_CONN_COVID_API", json.dumps({"conn_type": "http"}))
    with pytest.raises(MillraceError, match="has no host"):
        base_url()
