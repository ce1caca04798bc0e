"""The report and the summary of a run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from millrace import report
from millrace.report import RunFacts, summarise


def entry(number: int, query: str = "windows", rows: int = 100, late: int = 0) -> dict[str, Any]:
    return {
        "query": query,
        "run_id": "r",
        "batch_id": number,
        "time": f"2026-01-01T00:00:0{number}.000Z",
        "rows": rows,
        "rows_per_second": 50.0,
        "batch_ms": 1000 * number,
        "phases_ms": {"addBatch": 900, "walCommit": 30},
        "watermark": "2013-01-01T00:00:00.000Z" if number else "1970-01-01T00:00:00.000Z",
        "newest_event": "2013-01-01T00:02:00.000Z",
        "lag": 10,
        "state_rows": 3,
        "late_rows": late,
    }


def facts(**changes: Any) -> RunFacts:
    verified = {
        "passed": True,
        "failure": "",
        "expected_windows": 1234,
        "expected_events": {"departed": 200, "arrived": 100},
        "comparisons": [
            {"sink": "the Delta table t", "rows": 1234, "records": 1234, "differing": 0, "differences": []}
        ],
        "by_hour": [{"hour": 7, "event_type": "departed", "windows": 5, "mean_events": 2.5}],
    }
    given: dict[str, Any] = {
        "dag_id": "dag",
        "run_id": "manual <1>",
        "params": {"days": 2},
        "job": {"sent": 306, "already_there": 0, "seconds": 0.5},
        "verification": verified,
        "batches": [entry(1), entry(2, late=4), entry(3, rows=0), entry(2, query="dead-letters", rows=1)],
        "query": "windows",
        "tasks": [{"task_id": "check_kafka", "state": "success", "duration": 0.25}],
        "driver_tries": 2,
        "dead_letters": 3,
        "run_seconds": 60.5,
        "logs": {"driver": "/logs/driver-1.log"},
    }
    return RunFacts(**{**given, **changes})


def test_figures_are_those_of_the_streams_own_query() -> None:
    summary = summarise(facts())
    assert summary["records_processed"] == 200
    assert summary["batches"] == 3
    assert summary["processing_seconds"] == 3.0
    assert summary["records_per_second"] == 67
    assert (summary["batch_ms_median"], summary["batch_ms_max"]) == (1000, 2000)
    assert (summary["late_rows"], summary["dead_letters"], summary["driver_tries"]) == (4, 3, 2)
    assert (summary["windows"], summary["events"]) == (1234, 300)
    assert summary["verification_passed"] is True
    json.dumps(summary)


def test_run_without_batches_has_figures_too() -> None:
    summary = summarise(facts(batches=[], job={}))
    assert summary["records_per_second"] is None
    assert "unknown" in report.render(facts(batches=[], job={}), summary)


def test_report_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    places = report.write(facts())
    page = Path(places["report"]).read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="', page)
    assert page.count("Plotly.newPlot(") == 6
    assert "all 1,234 windows are exactly right" in page
    assert "manual &lt;1&gt;" in page
    assert "/logs/driver-1.log" in page
    assert json.loads(Path(places["summary"]).read_text())["report"] == places["report"]
    assert Path(places["report"]).parent.name == "manual__1_"


def test_failed_verification_is_what_the_report_says_first() -> None:
    failed = {**facts().verification, "passed": False, "failure": "window <x> is missing"}
    given = facts(verification=failed)
    page = report.render(given, summarise(given))
    assert "Verification failed" in page
    assert "window &lt;x&gt; is missing" in page
    assert "exactly right" not in page
