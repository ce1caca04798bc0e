import copy
import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkit import http_endpoint
from streamkit.settings import SettingsError
from streamkit.telemetry import Telemetry, lag_by_topic, summary, watermark_delay_seconds

PROGRESS = {
    "id": "q-id",
    "runId": "run-1",
    "name": "event-windows",
    "timestamp": "2026-01-01T00:00:00.000Z",
    "batchId": 7,
    "numInputRows": 300,
    "inputRowsPerSecond": 100.0,
    "processedRowsPerSecond": 250.5,
    "durationMs": {"triggerExecution": 1200, "addBatch": 1000},
    "eventTime": {"max": "2013-01-01T00:10:00.000Z", "watermark": "2013-01-01T00:07:30.500Z"},
    "stateOperators": [
        {"numRowsTotal": 30, "numRowsDroppedByWatermark": 2},
        {"numRowsTotal": 10, "numRowsDroppedByWatermark": 0, "customMetrics": {"numDroppedDuplicateRows": 5}},
    ],
    "sources": [
        {"endOffset": {"events": {"0": 10}}, "latestOffset": {"events": {"0": 14}}},
        {"endOffset": {"events": {"1": 5}}, "latestOffset": {"events": {"1": 5, "2": 6}}},
        {"endOffset": None, "latestOffset": None},
    ],
    "sink": {"numOutputRows": -1},
    "observedMetrics": {"invalid-0": {"count_0": 3, "first_0": 2, "last_0": 9}, "invalid-1": {"count_1": 0}},
}


def started(name="event-windows", run="run-1"):
    return SimpleNamespace(name=name, id="q-id", runId=run)


def reported(**changes):
    return SimpleNamespace(progress=SimpleNamespace(json=json.dumps({**copy.deepcopy(PROGRESS), **changes})))


@pytest.fixture
def telemetry():
    listener = Telemetry("counter")
    listener.onQueryStarted(started())
    return listener


def samples(telemetry):
    text = http_endpoint.generate_latest(telemetry.metrics.registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_batches_become_metrics(telemetry):
    telemetry.onQueryProgress(reported())
    telemetry.onQueryProgress(reported(numInputRows=100, processedRowsPerSecond=None))
    found = samples(telemetry)
    labels = (("application", "counter"), ("query", "event-windows"))
    assert found["stream_events_processed_total", *labels] == 400
    assert found["stream_batch_duration_seconds", *labels] == 1.2
    assert found["stream_processing_latency_seconds_count", *labels] == 2
    assert found["stream_processing_lag", *labels, ("topic", "events")] == 10
    assert found["stream_input_rows_per_second", *labels] == 100
    assert found["stream_processed_rows_per_second", *labels] == 0
    assert found["stream_state_rows", *labels] == 40
    assert found["stream_watermark_delay_seconds", *labels] == 149.5
    assert found["stream_late_rows_dropped_total", *labels] == 4
    assert found["stream_duplicate_rows_dropped_total", *labels] == 10
    assert found["stream_dead_letters_total", *labels] == 6


def test_a_dead_letter_query_of_its_own_counts_what_it_wrote(telemetry):
    telemetry.onQueryStarted(started("dead-letters", "run-2"))
    telemetry.onQueryProgress(reported(name="dead-letters", observedMetrics={}, sink={"numOutputRows": 5}))
    labels = (("application", "counter"), ("query", "dead-letters"))
    assert samples(telemetry)["stream_dead_letters_total", *labels] == 5


def test_rows_are_counted_by_what_became_of_them_where_an_app_counts_them(telemetry):
    for _ in range(2):
        telemetry.onQueryProgress(reported(observedMetrics={"rows": {"kept": 3, "dropped": 2}}))
    labels = ("application", "counter"), ("query", "event-windows")
    found = samples(telemetry)
    assert found["stream_rows_total", labels[0], ("kind", "kept"), labels[1]] == 6
    assert found["stream_rows_total", labels[0], ("kind", "dropped"), labels[1]] == 4
    counted = {**PROGRESS, "observedMetrics": {"rows": {"kept": 3, "dropped": None}}}
    assert summary(counted)["rows"] == {"kept": 3, "dropped": 0}


def test_lag_and_delay_of_a_batch_without_data():
    idle = {**PROGRESS, "eventTime": {"watermark": "2013-01-01T00:00:00.000Z"}, "sources": []}
    assert watermark_delay_seconds(idle) is None
    assert lag_by_topic(idle) == {}


def test_the_log_line_of_a_batch_is_short():
    assert summary(PROGRESS) == {
        "query": "event-windows",
        "batch": 7,
        "inputRows": 300,
        "rowsPerSecond": 250,
        "durationMs": 1200,
        "watermark": "2013-01-01T00:07:30.500Z",
        "stateRows": 40,
        "lateRows": 2,
        "duplicateRows": 5,
        "invalidRows": 3,
        "lag": {"events": 10},
    }


@pytest.fixture
def get(telemetry):
    server = http_endpoint.serve(telemetry, "127.0.0.1", 0)

    def fetch(path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    yield fetch
    server.shutdown()
    server.server_close()


def test_progress_over_http(telemetry, get):
    for batch in range(3):
        telemetry.onQueryProgress(reported(batchId=batch))
    status, body = get("/progress")
    document = json.loads(body)
    (query,) = document["queries"]
    assert (status, document["application"]) == (200, "counter")
    assert (query["name"], query["runId"], query["active"], query["exception"]) == (
        "event-windows",
        "run-1",
        True,
        None,
    )
    assert [report["batchId"] for report in query["progress"]] == [0, 1, 2]
    assert [r["batchId"] for r in json.loads(get("/progress?last=1")[1])["queries"][0]["progress"]] == [2]
    assert get("/progress?last=x")[0] == 400


def test_a_failed_query_says_why_and_a_restarted_one_is_active_again(telemetry, get):
    telemetry.onQueryTerminated(SimpleNamespace(runId="run-1", exception="it broke"))
    (query,) = json.loads(get("/progress")[1])["queries"]
    assert (query["active"], query["exception"]) == (False, "it broke")
    telemetry.onQueryStarted(started(run="run-2"))
    telemetry.onQueryTerminated(SimpleNamespace(runId="run-1", exception="late news"))
    (query,) = json.loads(get("/progress")[1])["queries"]
    assert (query["runId"], query["active"], query["exception"]) == ("run-2", True, None)


def test_health_metrics_and_unknown_paths(get):
    assert get("/healthz") == (200, '{"status": "ok"}')
    assert get("/metrics")[0] == 200
    assert get("/other")[0] == 404


def test_a_taken_port_and_a_bad_one_are_one_clear_line(telemetry):
    server = http_endpoint.serve(telemetry, "127.0.0.1", 0)
    try:
        with pytest.raises(SettingsError, match=f"127.0.0.1:{server.server_port} .*set MILLRACE_METRICS_PORT"):
            http_endpoint.serve(telemetry, "127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(SettingsError, match="MILLRACE_METRICS_PORT: 'many'"):
        http_endpoint.address({"MILLRACE_METRICS_PORT": "many"})
    assert http_endpoint.address({}) == ("0.0.0.0", 8090)
