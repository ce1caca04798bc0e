"""The Python tasks of the DAG `air_quality`: verify, and show the alerts.

Imports that take long are inside of the functions.
"""

import html
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

VERIFICATION_KEY = "verification"
SHOWN_ALERTS = 50
"""Alerts that the report lists; alerts.json has all."""

log = logging.getLogger(__name__)


def verify_air_quality(
    *,
    topic: str,
    alerts_topic: str,
    table: str,
    pm25_limit: float,
    length: timedelta,
    slide: timedelta,
    expected_readings: int,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare every window and alert with an independent computation; keep the result for the report.

    Raises AirflowFailException if anything differs, or the topic doesn't hold as many readings as the generator was
    asked for: trying again would give the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import air_quality, kafka, storage
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        places = air_quality.Places(topic, alerts_topic, storage.table_url(table), pm25_limit, length, slide)
        found = air_quality.verify(places, kafka.connection_config())
    facts = found.facts()
    if found.readings != expected_readings:
        facts["passed"] = False
        facts["failure"] = (
            f"Topic {topic} holds {found.readings:,} readings, the generator was asked for {expected_readings:,}. "
            + facts["failure"]
        ).strip()
    context["ti"].xcom_push(key=VERIFICATION_KEY, value=facts)
    if not facts["passed"]:
        log.error("%s", facts["failure"])
        raise AirflowFailException(facts["failure"])
    log.info("%d windows and %d alerts of %d readings, all as expected", found.windows, found.alerts, found.readings)
    return {"readings": found.readings, "windows": found.windows, "alerts": found.alerts}


def show_air_quality_alerts(
    *, alerts_topic: str, dead_letter_topic: str, verify_task: str, context: Mapping[str, Any]
) -> dict[str, Any]:
    """Read the alerts' topic, log what it says, and write alerts.html and alerts.json; return where they are."""
    from millrace import air_quality, kafka, storage
    from millrace.operators.base import one_sentence

    run_id = context["run_id"]
    verified = context["ti"].xcom_pull(task_ids=verify_task, key=VERIFICATION_KEY) or {}
    with one_sentence(log):
        config = kafka.connection_config()
        alerts = air_quality.read_alerts(alerts_topic, config)
        dead_letters = kafka.count_records(config, dead_letter_topic)
        places = air_quality.by_location(alerts)
        for place in places:
            log.info(
                "%(location)s: %(alerts)d alerts, the worst %(worst_pm25).1f ug/m3 in the window of %(worst_window)s",
                place,
            )
        log.info("%d alerts in %s, %d records in %s", len(alerts), alerts_topic, dead_letters, dead_letter_topic)
        folder = ("reports", storage.run_folder(run_id))
        page = render(f"{context['dag'].dag_id}: {run_id}", alerts, places, verified, dead_letters)
        report = storage.local_file(storage.write_text(page, *folder, "alerts.html"))
        listed = storage.local_file(storage.write_json(alerts, *folder, "alerts.json"))
    log.info("Report: %s", report)
    return {
        "alerts": len(alerts),
        "locations": [place["location"] for place in places],
        "report": report,
        "all": listed,
    }


def render(
    title: str,
    alerts: Sequence[Mapping[str, Any]],
    places: Sequence[Mapping[str, Any]],
    verified: Mapping[str, Any],
    dead_letters: int,
) -> str:
    """Return the alerts as an HTML page that needs no network."""
    from millrace.report import STYLE

    if verified.get("passed"):
        said = f"{verified['windows']:,} windows and {verified['alerts']:,} alerts are exactly right"
        verdict = f'<p class="passed">Verified: all {said}.</p>'
    else:
        reason = html.escape(verified.get("failure") or "nothing was compared")
        verdict = f'<p class="failed">Not verified: {reason}</p>'
    worst = sorted(alerts, key=lambda alert: -alert["pm25"])[:SHOWN_ALERTS]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>",
        f"<body><h1>{html.escape(title)}</h1>{verdict}",
        f"<p>{len(alerts):,} windows with a mean of PM2.5 above the limit; {dead_letters:,} dead letters.</p>",
        "<h2>By location</h2>",
        _table(places, ("location", "alerts", "worst_pm25", "worst_window")),
        f"<h2>The worst {len(worst)}</h2>" if worst else "",
        _table(worst, ("window_start", "location", "pm25", "limit", "readings")) if worst else "",
        "</body></html>",
    ]
    return "\n".join(parts)


def _table(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(line[name])}</td>' for name in columns)}</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return html.escape(f"{value:,.1f}" if isinstance(value, float) else str(value))
