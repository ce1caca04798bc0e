"""Prometheus sees everything while the pipeline runs, and says so when a stream ends."""

import time

import pytest

from tests.cluster import rare
from tests.cluster.panels import PANELS, panels_in
from tests.cluster.waiting import eventually
from tests.monitoring.exposition import monitored_labels
from tests.monitoring.rules import RULE_NAMES

JOBS = (
    *("kafka", "kafka-exporter", "entity-operator", "strimzi", "spark-operator", "spark-driver", "spark-executors"),
    *("ingest", "airflow", "postgresql"),
)
"""What docs/monitoring.md says is scraped."""


@pytest.fixture
def sampler(finished_run):
    assert finished_run.sampler.failure is None
    return finished_run.sampler


@pytest.fixture(scope="session")
def rules(platform):
    return platform.prometheus.rules()


def test_the_jobs_are_those_of_the_chart():
    assert set(JOBS) == set(monitored_labels())


@pytest.mark.parametrize("job", JOBS)
def test_a_target_is_up_while_the_pipeline_runs(job, finished_run, sampler):
    assert job in sampler.up


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_rule_is_loaded_and_evaluated(name, finished_run, rules):
    assert rules[name]["health"] == "ok", rules[name].get("lastError")


@pytest.mark.parametrize("name", RULE_NAMES)
def test_all_that_a_rule_reads_is_there(name, platform, finished_run, sampler, rules):
    """An alert that is silent returns nothing; the series that it compares must be there."""
    silent = sampler.silent.intersection(platform.prometheus.selectors(rules[name]["query"]))
    skip_if_rare(platform, silent)
    assert not silent


def test_the_dashboards_are_there(platform):
    assert sorted(map(str, panels_in(platform.cluster))) == sorted(map(str, PANELS))


@pytest.mark.parametrize("panel", PANELS, ids=str)
def test_a_panel_has_data(panel, platform, finished_run, sampler):
    silent = sampler.silent.intersection(panel.expressions)
    skip_if_rare(platform, silent)
    assert not silent


def skip_if_rare(platform, silent):
    """What a run that goes well does not bring is no failure of the monitoring."""
    reasons = {expression: rare.reason(platform, expression) for expression in silent}
    if silent and all(reasons.values()):
        pytest.skip("; ".join(sorted({str(reason) for reason in reasons.values()})))


def test_nothing_critical_fires_while_all_is_well(finished_run, sampler):
    assert not sampler.critical


def alert_states(platform, chosen, since):
    """The states of an alert since the stream was killed, and when each was first seen. It may have ended since."""
    query = f"ALERTS{{{chosen}}}"
    found = platform.prometheus.ask("query_range", query=query, start=str(since), end=str(time.time()), step="5")[
        "result"
    ]
    return {each["metric"]["alertstate"]: float(each["values"][0][0]) for each in found}


def fires(platform, chosen, since):
    return eventually(
        lambda: (found := alert_states(platform, chosen, since)) and "firing" in found and found,
        f"{chosen} to fire",
        300,
        every=5,
    )


def test_a_killed_stream_is_noticed(platform, killed_stream):
    states = fires(platform, f'alertname="StreamStopped", application="{killed_stream.name}"', killed_stream.at)
    assert states["pending"] <= states["firing"]
    # `for: 2m`, after Prometheus has seen that the driver is gone and evaluated its rules.
    assert states["firing"] - killed_stream.at < 300


def test_its_end_counts_as_a_failure(platform, killed_stream):
    assert fires(platform, 'alertname="SparkApplicationFailed"', killed_stream.at)


def test_no_other_stream_is_said_to_have_stopped(platform, killed_stream):
    """In the three minutes after: later the driver of another is killed, perhaps for so long that it is true of it."""
    chosen = f'alertname="StreamStopped", alertstate="firing", application!="{killed_stream.name}"'
    found = platform.prometheus.ask("query", query=f"ALERTS{{{chosen}}}[3m]", time=str(killed_stream.at + 180))
    assert not found["result"]
