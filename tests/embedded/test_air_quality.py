"""air-quality on a real broker, with the DAG's own generator, goal and verification; one driver for all tests."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from embedded.broker import Broker
from embedded.paths import REPOSITORY
from ingest import contracts
from millrace.air_quality import Findings, Places, read_alerts, verify
from millrace.progress import parse_time, shortfall
from millrace.targets.base import JobState, JobStatus
from millrace.triggers.stream import goal_of
from streamkit.checkpoint import inspect, local_listing
from tests.embedded.generated import Progress, bad_records, letters_of, read_rows, simulate, total
from tests.embedded.spark_driver import PARTITIONS, Driver, Topics

pytestmark = pytest.mark.embedded

HOURS, PER_HOUR = 2, 2160
READINGS = HOURS * PER_HOUR
LENGTH, SLIDE = timedelta(minutes=5), timedelta(minutes=1)
BAD: list[tuple[bytes | None, bytes]] = [
    (b"k", b'{"schema_version": 1,'),
    (b"k", b'{"schema_version": 9}'),
    (b"k", b""),
]


@dataclass
class Run:
    """What the generator and the driver said; `found` is of before late readings were sent."""

    app: Driver
    topics: Topics
    summary: dict[str, Any]
    caught_up: str
    found: Findings
    alerts: list[dict[str, Any]]
    progress: Progress
    late: int
    status: int


@pytest.fixture(scope="module")
def run(
    broker: Broker, spark_jars: Path, java_home: Path, submit_options: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    topics = Topics(broker)
    app = Driver(
        topics,
        spark_jars,
        java_home,
        submit_options,
        tmp_path_factory.mktemp("air") / "storage",
        overrides=(f"dead_letter.topic={topics.dead}",),
        app=REPOSITORY / "spark-apps/air-quality",
        name="air-quality",
    )
    try:
        yield driven(app, topics)
    finally:
        app.kill()
        topics.close()


def driven(app: Driver, topics: Topics) -> Run:
    arguments = ("simulate-air-quality", "--rate=0.6", f"--count={READINGS}", "--seed=3")
    for key, value in BAD:
        topics.send(2, [value], key)
    topics.producer.flush()
    # As after a try of the generator that was killed: all of it comes again.
    simulate(topics, *arguments)
    summary = simulate(topics, *arguments, "--close-after-minutes=20")
    app.start()
    goal = goal_of(
        JobStatus("simulate-air-quality", JobState.SUCCEEDED, result=json.loads(json.dumps(summary))),
        topics.events,
        "air-quality",
        int(LENGTH.total_seconds()),
        int(SLIDE.total_seconds()),
    )
    assert goal.watermark is not None
    app.wait_for_watermark(goal.watermark.replace(tzinfo=None))
    with urllib.request.urlopen(f"http://127.0.0.1:{app.port}/progress", timeout=10) as answer:
        caught_up = shortfall(json.load(answer), goal)
    config = {"bootstrap.servers": topics.servers}
    table = f"file://{app.storage}/tables/air_quality"
    places = Places(topics.events, topics.windows, table, 35.4, LENGTH, SLIDE)
    found, alerts = verify(places, config), read_alerts(topics.windows, config)

    # Behind the watermark: readings that nobody has sent before.
    sent = [record for record in topics.read(topics.events) if b'"reading"' in (record.value() or b"")][:5]
    read_before = read_rows(app.progress())
    for record in sent:
        message = json.loads(record.value())
        value = json.dumps({**message, "event_id": "late/" + message["event_id"], "pm25": 99_999}).encode()
        topics.send(record.partition(), [value], record.key())
    topics.producer.flush()
    progress = app.wait_for("late readings", lambda seen: read_rows(seen) == read_before + len(sent))
    return Run(app, topics, summary, caught_up, found, alerts, progress, len(sent), app.stop())


def test_every_window_and_alert_is_what_duckdb_computes(run: Run) -> None:
    assert run.found.failure() == ""
    assert run.found.readings == READINGS
    assert run.found.windows == 6 * (HOURS * 60 + 4)  # stations, and minutes at which a window begins
    assert 0 < run.found.alerts == len(run.alerts) < run.found.windows


def test_the_generator_says_where_the_stream_is_caught_up(run: Run) -> None:
    assert run.caught_up == ""
    ends = {int(partition): end for partition, end in run.summary["end_offsets"].items()}
    assert sum(ends.values()) == 2 * READINGS + PARTITIONS + len(BAD)
    assert run.summary["sent"] == READINGS + PARTITIONS
    closed = parse_time(run.summary["heartbeat_time"]) - parse_time(run.summary["last_event_time"])
    assert closed == timedelta(minutes=20)


def test_every_alert_keeps_its_contract_and_has_its_id_as_key(run: Run) -> None:
    contract = contracts.load("air-quality-alerts")
    records = run.topics.read(run.topics.windows)
    for record in records:
        message = contracts.read("air-quality-alerts", record.value(), as_version=1)
        assert record.key() == contract.key(message) == message["event_id"].encode()
        assert message["pm25"] > message["limit"] == 35.4
    assert len({record.key() for record in records}) == len(run.alerts)


def test_repeated_late_and_bad_records_are_counted(run: Run) -> None:
    assert total(run.progress, "numDroppedDuplicateRows") == READINGS
    assert total(run.progress, "numRowsDroppedByWatermark") == run.late
    assert bad_records(run.progress) == len(BAD)
    assert sorted(letters_of(run.topics)) == [(2, offset) for offset in range(len(BAD))]


def test_late_readings_change_nothing(run: Run) -> None:
    config = {"bootstrap.servers": run.topics.servers}
    assert read_alerts(run.topics.windows, config) == run.alerts


def test_it_ends_well_and_its_checkpoint_is_clean(run: Run) -> None:
    assert run.status == 0
    assert run.app.messages("ERROR") == []
    assert inspect(str(run.app.checkpoint / "air-quality"), local_listing).clean
