"""`covid_etl`, `market_data` and `data_quality` as Airflow runs them, on a real broker and tables in a folder."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from embedded.broker import Broker
from ingest import contracts
from millrace import kafka, records, tables
from tests.covid_server import CASES, DEATHS, covid_server
from tests.dags.conftest import REPOSITORY, airflow_database, run_python
from tests.notification_servers import Servers, notification_servers
from tests.trades import send_trades

__all__ = ["airflow_database"]  # a fixture of another folder
pytestmark = pytest.mark.embedded

TOPICS = ("market-data", "covid-updates", "covid-updates-dead-letter", "data-quality-alerts", "system-metrics")
DAGS = ("covid_etl", "market_data", "data_quality")
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
CODE = """
import importlib, json
from datetime import datetime
for name, time, parameters in json.loads(%r):
    at = datetime.fromisoformat(time)
    # As `airflow dags trigger` and the REST API do, without a logical date and so without an interval.
    bare = parameters.pop("bare", False)
    dag = importlib.import_module(name).dag
    dag.deadline = None  # dag.test() can't do with one
    run = dag.test(logical_date=None if bare else at, run_after=at, run_conf=parameters)
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    print(json.dumps({"dag": name, "state": run.state, "tasks": states}))
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with notification_servers(tmp_path_factory.mktemp("people") / "authority") as found:
        yield found


@pytest.fixture(scope="module")
def place(
    broker: Broker, servers: Servers, airflow_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The environment of the runs and the settings of the broker, on topics that are new."""
    config = {"bootstrap.servers": broker.bootstrap_servers}
    contract = kafka.load_topics(REPOSITORY / "contracts" / "topics.yaml")
    kafka.delete_topics(config, TOPICS)
    kafka.create_topics(config, [contract[name] for name in TOPICS])
    folder = tmp_path_factory.mktemp("dags")
    for name in DAGS:
        shutil.copy(REPOSITORY / "dags" / f"{name}.py", folder)
    environment = airflow_database | servers.environment()
    environment |= {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps({"conn_type": "kafka", "extra": config}),
        "MILLRACE_STORAGE": f"file://{tmp_path_factory.mktemp('storage')}",
        "MILLRACE_RETRY_DELAY_SECONDS": "0.1",
    }
    yield environment, config
    kafka.delete_topics(config, TOPICS)


def run(environment: dict[str, str], *runs: tuple[str, datetime, dict[str, Any]]) -> list[dict[str, Any]]:
    """Run DAGs one after the other; return the state of each run and of its tasks."""
    given = json.dumps([(name, at.isoformat(), parameters) for name, at, parameters in runs])
    return [
        json.loads(line) for line in run_python(CODE % given, environment).splitlines() if line.startswith('{"dag"')
    ]


def messages(config: dict[str, Any], topic: str) -> list[dict[str, Any]]:
    return [contracts.read(topic, record.value(), as_version=1) for record in records.read_topic(config, topic)]


def test_prices_become_bars_and_their_quality_is_checked(
    place: tuple[dict[str, str], dict[str, Any]], servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, config = place
    monkeypatch.setenv("MILLRACE_STORAGE", environment["MILLRACE_STORAGE"])
    # A trade each second of the quarter before the hour; the first one twice.
    assert send_trades(config, HOUR - timedelta(minutes=15), [0, *range(900)]) == []
    # The last run is a day later: what was fresh is stale by then.
    found = run(
        environment,
        ("market_data", HOUR, {}),
        ("market_data", HOUR + timedelta(minutes=5), {"bare": True}),  # the same interval
        ("data_quality", HOUR, {"bare": True}),
        ("data_quality", HOUR + timedelta(days=1), {}),
    )
    assert [one["state"] for one in found] == ["success"] * 4
    assert found[2]["tasks"]["stale_data"] == found[3]["tasks"]["check_rules"] == "skipped"
    bars = tables.read("market_data").sort("bar_start")
    assert (
        bars.select("open", "high", "low", "close", "volume", "trades").rows() == [(100, 399, 100, 399, 600, 300)] * 3
    )
    (alert,) = messages(config, "data-quality-alerts")
    assert (alert["dimension"], alert["table"], alert["limit"]) == ("timeliness", "market_data", 24)
    assert [event["payload"]["summary"] for event in servers.events] == [
        "market_data breaks 1 of 1 rules of data quality"
    ]
    storage = Path(environment["MILLRACE_STORAGE"].removeprefix("file://"))
    (report,) = storage.glob("reports/data_quality/*/report.html")
    assert "<!doctype html>" in report.read_text()
    assert not list((storage / "staging").rglob("*.parquet"))


def test_figures_are_loaded_corrected_and_backfilled_without_duplicates(
    place: tuple[dict[str, str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment, config = place
    monkeypatch.setenv("MILLRACE_STORAGE", environment["MILLRACE_STORAGE"])
    parameters = {"revision_days": 3}
    with covid_server() as dashboard:
        days = [f"2026-01-{day:02}" for day in range(1, 20)]
        dashboard.values = {("England", metric): dict.fromkeys(days, 5) for metric in (CASES, DEATHS)}
        dashboard.failures = [(503, {}), (429, {"Retry-After": "0"})]
        environment = environment | {
            "AIRFLOW_CONN_COVID_API": json.dumps({"conn_type": "http", "host": dashboard.url}),
        }
        at = datetime(2026, 1, 10, 6, tzinfo=UTC)
        found = run(environment, ("covid_etl", at, parameters), ("covid_etl", at + timedelta(days=1), parameters))
        dashboard.values["England", CASES]["2026-01-08"] = 6
        found += run(environment, ("covid_etl", at + timedelta(hours=1), {**parameters, "bare": True}))
    assert [one["state"] for one in found] == ["success"] * 3
    held = tables.read("covid")
    assert held.height == held.unique(["geography_code", "metric", "date"]).height == 2 * 5
    assert held.filter(pl.col("value") != 5).select("metric", pl.col("date").cast(pl.String)).rows() == [
        (CASES, "2026-01-08")
    ]
    sent = messages(config, "covid-updates")
    assert len(sent) == len({message["event_id"] for message in sent}) == 2 * 5 + 1
    assert [message["previous_value"] for message in sent if message["event_type"] == "corrected"] == [5]
