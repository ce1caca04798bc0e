"""The check of windows and alerts against an independent computation, and the page that shows the alerts."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingest import contracts, simulate
from millrace import records
from millrace.air_quality import Findings, Places, by_location, read_alerts, verify
from millrace.air_quality_steps import render
from millrace.errors import MillraceError

LENGTH, SLIDE, LIMIT = timedelta(minutes=5), timedelta(minutes=1), 20.0
MEASURED = ("pm25", "pm10", "temperature", "humidity")
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What a Kafka consumer returns, as far as it is used."""

    position: int
    name: bytes
    content: bytes | None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.position

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes | None:
        return self.content


def records_of(pairs: list[tuple[bytes, bytes | None]]) -> list[Record]:
    return [Record(offset, key, value) for offset, (key, value) in enumerate(pairs)]


READINGS = list(simulate.air_quality(simulate.SimulationSettings(seed=2, rate=0.6, count=600)))
HEARTBEAT = {**READINGS[0], "event_id": "h", "event_type": "heartbeat"}


def input_records() -> list[Record]:
    """All readings, some of them again, a heartbeat, and records that break the contract."""
    contract = contracts.load("air-quality")
    values = [json.dumps(each).encode() for each in [*READINGS, *READINGS[100:120], HEARTBEAT]]
    pairs: list[tuple[bytes, bytes | None]] = [(contract.key(READINGS[0]), value) for value in values]
    return records_of([*pairs, (b"k", b'{"event_type'), (b"\xff", b"\xff\xfe"), (b"k", None)])


def windows() -> list[Row]:
    """The windows in plain Python."""
    found: dict[tuple[datetime, str], list[Row]] = defaultdict(list)
    for reading in READINGS:
        moment = datetime.fromisoformat(reading["event_time"])
        newest = moment.replace(second=0, microsecond=0)
        for back in range(5):
            found[newest - timedelta(minutes=back), reading["location"]].append(reading)
    rows = []
    for (start, location), readings in sorted(found.items()):
        means: Row = {}
        for name in MEASURED:
            values = [round(reading[name] * 10) for reading in readings if reading[name] is not None]
            means[f"avg_{name}"] = sum(values) / len(values) / 10 if values else None
        times = {"window_start": start, "window_end": start + LENGTH}
        rows.append({**times, "location": location, "readings": len(readings), **means})
    return rows


def text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def alert_records(rows: list[Row]) -> list[Record]:
    """Every alert twice, as after a batch that was run again; the first copy with another figure."""
    pairs: list[tuple[bytes, bytes | None]] = []
    for row in rows:
        if row["avg_pm25"] is not None and row["avg_pm25"] > LIMIT:
            alert = {
                "location": row["location"],
                "window_start": text(row["window_start"]),
                "window_end": text(row["window_end"]),
                "pm25": row["avg_pm25"],
                "limit": LIMIT,
                "readings": row["readings"],
            }
            key = f"pm25/{row['location']}/{alert['window_start']}".encode()
            pairs.append((key, json.dumps({**alert, "pm25": 1.0}).encode()))
            pairs.append((key, json.dumps(alert).encode()))
    return records_of(pairs)


def write_table(folder: Path, rows: list[Row]) -> str:
    from arro3.core import Table
    from deltalake import write_deltalake

    (folder / "rows.json").write_text(json.dumps(rows, default=str))
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        relation = database.sql(
            "SELECT window_start::TIMESTAMPTZ AS window_start, window_end::TIMESTAMPTZ AS window_end, location, "
            "readings::BIGINT AS readings, avg_pm25::DOUBLE AS avg_pm25, avg_pm10::DOUBLE AS avg_pm10, "
            "avg_temperature::DOUBLE AS avg_temperature, avg_humidity::DOUBLE AS avg_humidity "
            f"FROM read_json('{folder}/rows.json')"
        )
        write_deltalake(f"file://{folder}/table", Table.from_arrow(relation))
    return f"file://{folder}/table"


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Record]]:
    """What the topics hold, instead of a broker."""
    held = {"in": input_records(), "out": alert_records(windows())}

    def read(_: Any, topic: str) -> Iterator[Record]:
        return iter(held[topic])

    monkeypatch.setattr(records, "read_topic", read)
    return held


def check(url: str) -> Findings:
    return verify(Places("in", "out", url, LIMIT, LENGTH, SLIDE), {})


def test_right_windows_and_alerts_pass(tmp_path: Path, topics: dict[str, list[Record]]) -> None:
    found = check(write_table(tmp_path, windows()))
    assert found.failure() == ""
    assert found.passed
    assert found.facts()["passed"] is True
    assert found.readings == len(READINGS)
    assert found.windows == len(windows()) > 100
    assert 0 < found.alerts == len(topics["out"]) / 2 < found.windows


def changed(**changes: Any) -> list[Row]:
    rows = windows()
    rows[50] = rows[50] | changes
    return rows


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (changed(avg_pm25=0.0), "has other means than expected"),
        (changed(avg_humidity=None), "has other means than expected"),
        (changed(avg_temperature=windows()[50]["avg_temperature"] + 0.001), "has other means than expected"),
        (changed(readings=1), "has 1 readings (expected"),
        (changed(window_end=windows()[50]["window_start"]), "ends at another time"),
        (windows()[:50] + windows()[51:], "is missing"),
        ([*windows(), windows()[50]], "is there 2 times"),
    ],
)
def test_one_wrong_window_is_named(tmp_path: Path, topics: Any, rows: list[Row], problem: str) -> None:
    found = check(write_table(tmp_path, rows))
    assert (found.passed, found.differing_windows, found.differing_alerts) == (False, 1, 0)
    wrong = windows()[50]
    assert f"the window of {wrong['location']} at {text(wrong['window_start'])} {problem}" in found.failure()


def test_a_window_that_should_not_exist_is_named(tmp_path: Path, topics: Any) -> None:
    extra = windows()[0] | {"window_start": datetime(1970, 1, 1, tzinfo=UTC)}
    found = check(write_table(tmp_path, [*windows(), extra]))
    assert f"the window of {extra['location']} at 1970-01-01T00:00:00Z should not exist" in found.failure()


def test_a_missing_a_superfluous_and_a_wrong_alert_are_named(tmp_path: Path, topics: dict[str, list[Record]]) -> None:
    url = write_table(tmp_path, windows())
    right = alert_records(windows())
    topics["out"] = right[2:]
    assert "is missing" in check(url).failure()
    low = next(row for row in windows() if row["avg_pm25"] < LIMIT)
    topics["out"] = [*right, *alert_records([low | {"avg_pm25": LIMIT + 1}])]
    assert f"the alert of {low['location']} at {text(low['window_start'])} should not exist" in check(url).failure()
    topics["out"] = right[:-1]
    found = check(url)
    assert (found.differing_windows, found.differing_alerts) == (0, 1)
    assert "says other figures than expected" in found.failure()


def test_no_readings_do_not_pass(tmp_path: Path, topics: dict[str, list[Record]]) -> None:
    url = write_table(tmp_path, windows())
    topics["in"] = []
    assert "holds no reading" in check(url).failure()


def test_a_record_that_is_no_alert_is_one_sentence(topics: dict[str, list[Record]]) -> None:
    topics["out"] = records_of([(b"k", b"no JSON")])
    with pytest.raises(MillraceError, match="Topic out holds a record that is not") as caught:
        read_alerts("out", {})
    assert "\n" not in str(caught.value)


def test_the_page_shows_each_alert_once_and_the_worst_first(topics: dict[str, list[Record]]) -> None:
    alerts = read_alerts("out", {})
    expected = [row for row in windows() if row["avg_pm25"] > LIMIT]
    assert [(alert["window_start"], alert["location"]) for alert in alerts] == [
        (text(row["window_start"]), row["location"]) for row in expected
    ]
    places = by_location(alerts)
    assert [place["worst_pm25"] for place in places] == sorted((p["worst_pm25"] for p in places), reverse=True)
    assert sum(place["alerts"] for place in places) == len(alerts)
    passed = {"passed": True, "windows": 1234, "alerts": len(alerts)}
    page = render("air_quality: <run>", alerts, places, passed, 0)
    assert "air_quality: &lt;run&gt;" in page
    assert "Verified: all 1,234 windows" in page
    assert all(place["location"] in page for place in places)
    assert page.count("<tr>") == 2 + len(places) + min(50, len(alerts))
    assert "Not verified: a &lt; b" in render("t", [], [], {"passed": False, "failure": "a < b"}, 3)
