"""The tasks of `data_quality`: age, all rules or the stale-data path, alerts."""

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from millrace.intervals import interval_of

TOPIC = "data-quality-alerts"
SOURCE = "data_quality"

log = logging.getLogger(__name__)


def measure_age(context: Mapping[str, Any]) -> dict[str, Any]:
    """Say how old the newest row of the table is, at the end of the run's interval."""
    from millrace import quality
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        found = quality.age(quality.load_rules(context["params"]["rules"]), interval_of(context)[1])
    log.info("Newest row: %s; %s hours old, %s", found.newest, found.hours, "fresh" if found.fresh else "stale")
    return {**asdict(found), "newest": found.newest.isoformat() if found.newest else None}


def check_rules(measured: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Check all rules on the rows of the window, and write the report; return every finding."""
    from millrace import quality, storage
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        rules, end = quality.load_rules(context["params"]["rules"]), interval_of(context)[1]
        rows = quality.read_window(rules, end)
        findings, done = quality.interrogate(rules, rows, _age(measured), end)
        folder = ("reports", SOURCE, storage.run_folder(context["run_id"]))
        report = storage.local_file(storage.write_text(quality.as_html(done), *folder, "report.html"))
        outcome = {
            "table": rules.table,
            "rows": rows.height,
            "report": report,
            "findings": [asdict(finding) for finding in findings],
        }
        storage.write_json(outcome, *folder, "findings.json")
    log.info("Report: %s", report)
    return outcome


def describe_stale(measured: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one finding about data that is too old: of shares of old rows nobody would learn anything."""
    from millrace import quality
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        rules = quality.load_rules(context["params"]["rules"])
    finding = quality.age_finding(rules, _age(measured))
    return {"table": rules.table, "rows": 0, "report": None, "findings": [asdict(finding)]}


def alert(outcome: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, int]:
    """Send a record for each broken rule, and tell people once of all of them."""
    from millrace import kafka, notifications, records
    from millrace.operators.base import one_sentence

    broken = [finding for finding in outcome["findings"] if finding["broken"]]
    for finding in broken:
        log.warning("%s: %s: %s", outcome["table"], finding["dimension"], in_words(finding))
    if broken:
        with one_sentence(log):
            messages = alert_messages(outcome, interval_of(context)[1])
            records.send_all(kafka.connection_config(), TOPIC, messages)
        notifications.notify(notice(outcome, broken, context))
    return {"checked": len(outcome["findings"]), "broken": len(broken)}


def alert_messages(outcome: Mapping[str, Any], end: datetime) -> list[tuple[str, bytes, list[tuple[str, bytes]]]]:
    """Return a contract-keeping message for each broken rule; the same interval makes the same ids."""
    from millrace import contracts

    time = end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made: list[tuple[str, bytes, list[tuple[str, bytes]]]] = []
    for number, finding in enumerate(outcome["findings"]):
        if finding["broken"]:
            message = {
                "schema_version": 1,
                "event_id": f"{outcome['table']}/{finding['dimension']}/{number}@{time}",
                "event_type": "rule_broken",
                "event_time": time,
                "source": SOURCE,
                "table": outcome["table"],
                **{name: finding[name] for name in ("dimension", "measured", "limit", "unit")},
                "rule": finding["rule"][:300],
                "rows": outcome["rows"],
                "report": outcome["report"],
            }
            made.append((*contracts.encode(TOPIC, message), []))
    return made


def notice(outcome: Mapping[str, Any], broken: list[Mapping[str, Any]], context: Mapping[str, Any]) -> Any:
    """Return what people are told."""
    from millrace.callbacks import run_link
    from millrace.notifications import Notice

    facts = {f"{number}. {finding['dimension']}": in_words(finding) for number, finding in enumerate(broken, 1)}
    if outcome["report"]:
        facts["Report"] = outcome["report"]
    return Notice(
        # One incident for a table that stays bad, not one each hour.
        key=f"{SOURCE}/{outcome['table']}",
        subject=f"{outcome['table']} breaks {len(broken)} of {len(outcome['findings'])} rules of data quality",
        facts=facts,
        severity="warning",
        link=run_link(SOURCE, context["run_id"]),
    )


def in_words(finding: Mapping[str, Any]) -> str:
    """Say a finding in one line."""
    measured, unit = finding["measured"], finding["unit"]
    if measured is None:
        return re.sub(r"^the newest row", "there is no row; the newest", finding["rule"])
    shown = f"{measured:.2%}" if unit == "share" else f"{measured:g} {unit}" if unit == "hours" else f"{measured:g}"
    return f"{finding['rule']}: measured {shown}"


def _age(measured: Mapping[str, Any]) -> Any:
    from millrace.quality import Age

    newest = datetime.fromisoformat(measured["newest"]) if measured["newest"] else None
    return Age(newest, measured["hours"], measured["fresh"])
