"""The report of a run: one HTML file that opens without a network, and summary.json with the same figures."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from millrace import plots, storage

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222
} table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem 1rem .25rem 0; text-align:
left; vertical-align: top } .passed { color: #0a6b2d } .failed { color: #a1160f } li { font-family:
ui-monospace, monospace }
"""


@dataclass(frozen=True)
class RunFacts:
    """All that a report shows."""

    dag_id: str
    run_id: str
    params: Mapping[str, Any]
    job: Mapping[str, Any]
    """The replay's summary."""
    verification: Mapping[str, Any]
    """`asdict` of a `Verification`, with `passed` and `failure`."""
    batches: Sequence[dict[str, Any]]
    """What `history` holds: compact batch reports, oldest first."""
    query: str
    """The query whose batches count as the stream's."""
    tasks: Sequence[dict[str, Any]]
    """Finished tasks: task_id, state, duration in seconds."""
    driver_tries: int
    dead_letters: int
    run_seconds: float | None = None
    """From the run's start to the report."""
    logs: Mapping[str, str] = field(default_factory=dict)
    """Title to the place of a log."""


def summarise(facts: RunFacts) -> dict[str, Any]:
    """Return the figures of a run: what summary.json holds."""
    own = [batch for batch in facts.batches if batch["query"] == facts.query]
    working = [batch for batch in own if batch["rows"]]
    seconds = sum(batch["batch_ms"] for batch in working) / 1000
    events = sum(batch["rows"] for batch in own)
    durations = sorted(batch["batch_ms"] for batch in working)
    return {
        "dag_id": facts.dag_id,
        "run_id": facts.run_id,
        "params": dict(facts.params),
        "verification_passed": facts.verification["passed"],
        "verification_failure": facts.verification["failure"],
        "windows": facts.verification["expected_windows"],
        "events": sum(facts.verification["expected_events"].values()),
        "events_by_type": dict(facts.verification["expected_events"]),
        "sinks": [
            {key: value for key, value in comparison.items() if key != "differences"}
            for comparison in facts.verification["comparisons"]
        ],
        "records_sent": facts.job.get("sent"),
        "records_already_there": facts.job.get("already_there"),
        "replay_seconds": facts.job.get("seconds"),
        "records_processed": events,
        "batches": len(own),
        "processing_seconds": round(seconds, 3),
        "records_per_second": round(events / seconds) if seconds else None,
        "batch_ms_median": _quantile(durations, 0.5),
        "batch_ms_max": durations[-1] if durations else None,
        "late_rows": sum(batch["late_rows"] for batch in own),
        "dead_letters": facts.dead_letters,
        "driver_tries": facts.driver_tries,
        "run_seconds": facts.run_seconds,
        "tasks": [dict(task) for task in facts.tasks],
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def render(facts: RunFacts, summary: Mapping[str, Any]) -> str:
    """Return the HTML report; the plots' own script is in it, so it needs nothing else."""
    own = [batch for batch in facts.batches if batch["query"] == facts.query]
    figures = [
        plots.throughput(own),
        plots.batch_duration(own),
        plots.lag(facts.batches),
        plots.watermark(own),
        plots.windows_over_the_day(facts.verification["by_hour"]),
        plots.task_durations(facts.tasks),
    ]
    # The first plot brings the script for all of them.
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False})
        for number, figure in enumerate(figures)
    ]
    title = html.escape(f"{facts.dag_id}: {facts.run_id}")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{title}</title><style>{STYLE}</style></head>",
        f"<body><h1>{html.escape(facts.dag_id)}</h1><p>Run {html.escape(facts.run_id)}</p>",
        _verification(facts.verification),
        _figures_table(summary),
        *drawn,
        _table("Logs", facts.logs) if facts.logs else "",
        "</body></html>",
    ]
    return "\n".join(parts)


def _verification(result: Mapping[str, Any]) -> str:
    if result["passed"]:
        verdict = f'<h2 class="passed">Verified: all {result["expected_windows"]:,} windows are exactly right</h2>'
    else:
        verdict = f'<h2 class="failed">Verification failed</h2><p>{html.escape(result["failure"])}</p>'
    lines = [
        f"<tr><td>{html.escape(item['sink'])}</td><td>{item['rows']:,}</td><td>{item['records']:,}</td>"
        f"<td>{item['differing']:,}</td></tr>"
        for item in result["comparisons"]
    ]
    head = "<tr><th>sink</th><th>windows</th><th>records</th><th>differing</th></tr>"
    note = "<p>Compared with the same windows, computed by DuckDB from the recorded data.</p>"
    return f"{verdict}{note}<table>{head}{''.join(lines)}</table>"


def _figures_table(summary: Mapping[str, Any]) -> str:
    def number(key: str, unit: str = "") -> str:
        value = summary[key]
        return "unknown" if value is None else f"{value:,}{unit}"

    longest = number("batch_ms_max", " ms")
    by_type = ", ".join(f"{kind} {count:,}" for kind, count in summary["events_by_type"].items())
    return _table(
        "Figures",
        {
            "Parameters": ", ".join(f"{key} = {value}" for key, value in summary["params"].items()),
            "Events": f"{number('events')} ({by_type})",
            "Records sent by this run": f"{number('records_sent')} in {number('replay_seconds', ' s')}",
            "Records that were there before": number("records_already_there"),
            "Records processed by this run": f"{number('records_processed')} in {number('batches')} batches",
            "Throughput while processing": number("records_per_second", " records/s"),
            "Batch duration, median and longest": f"{number('batch_ms_median', ' ms')}, {longest}",
            "Rows dropped as late": number("late_rows"),
            "Dead letters": number("dead_letters"),
            "Drivers started": number("driver_tries"),
            "Time from the run's start to this report": number("run_seconds", " s"),
        },
    )


def _table(title: str, values: Mapping[str, str]) -> str:
    lines = (f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in values.items())
    return f"<h2>{html.escape(title)}</h2><table>{''.join(lines)}</table>"


def write(facts: RunFacts) -> dict[str, str]:
    """Write report.html, summary.json and verification.json to `reports/<run id>/`; return where they are.

    Raises MillraceError if the storage refuses.
    """
    summary = summarise(facts)
    folder = ("reports", storage.run_folder(facts.run_id))
    report = storage.write_text(render(facts, summary), *folder, "report.html")
    summary["report"] = storage.local_file(report)
    storage.write_json(dict(facts.verification), *folder, "verification.json")
    return {
        "report": summary["report"],
        "summary": storage.local_file(storage.write_json(summary, *folder, "summary.json")),
    }


def verification_facts(verification: Any) -> dict[str, Any]:
    """Return a `Verification` as plain values, with its verdict."""
    return {**asdict(verification), "passed": verification.passed, "failure": verification.failure()}
