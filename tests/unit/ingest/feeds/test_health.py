"""Liveness, readiness and metrics of a feed, on one port."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from ingest.errors import BadInputError
from ingest.feeds import health, report
from ingest.feeds.breaker import Retry, RetrySettings
from ingest.feeds.report import FeedMetrics, Report
from ingest.progress import Metrics


class Served:
    """A report and the port that tells of it."""

    def __init__(self) -> None:
        metrics = Metrics()
        retry = Retry(RetrySettings(breaker_failures=2, breaker_open_seconds=60))
        self.report = Report("trades", "market-data", FeedMetrics(metrics), retry)
        self.server = health.serve(0, self.report, metrics.registry, "127.0.0.1")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.server_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, labels: str = "") -> float:
        start = f'{name}{{feed="trades",{labels}topic="market-data"}} '
        (value,) = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(start)]
        return float(value.rpartition(" ")[2])


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_it_is_ready_while_the_source_is_connected_and_the_breaker_closed(served):
    assert served.get("/healthz")[0] == 200
    assert served.get("/readyz")[0] == 503
    served.report.began()
    served.report.accepted()
    assert served.get("/readyz")[0] == 200
    assert served.metric("ingest_ready") == 1
    served.report.broke("disconnected", "it went away.")
    status, body = served.get("/readyz")
    assert status == 503
    assert json.loads(body)["last_failure"] == "it went away."
    assert served.metric("ingest_breaker_state") == 0
    served.report.broke("disconnected", "it went away.")
    assert served.metric("ingest_breaker_state") == 2
    served.report.began()
    served.report.accepted()
    assert served.metric("ingest_breaker_state") == 1
    assert json.loads(served.get("/readyz")[1])["breaker"] == "half_open"
    assert served.get("/readyz")[0] == 503
    served.report.succeeded()
    assert served.get("/readyz")[0] == 200
    assert served.metric("ingest_breaker_state") == 0
    served.report.ended()
    assert served.get("/readyz")[0] == 503


def test_a_loop_that_doesnt_come_round_is_not_alive(served, monkeypatch):
    monkeypatch.setattr(report, "ALIVE_SECONDS", 0.0)
    status, body = served.get("/healthz")
    assert status == 503
    assert json.loads(body)["alive"] is False
    monkeypatch.setattr(report, "ALIVE_SECONDS", 60.0)
    served.report.beat()
    assert served.get("/healthz")[0] == 200


def test_each_count_has_its_metric(served):
    served.report.accepted()
    served.report.failed("silent", "nothing came.")
    served.report.gap("trade", 7)
    served.report.skipped("duplicate", 2)
    served.report.dead_letter("oversized", "oversized: 9 bytes, limit 8")
    assert served.metric("ingest_connections_total") == 1
    assert served.metric("ingest_quiet") == 0
    assert served.metric("ingest_source_errors_total", 'kind="silent",') == 1
    page = served.get("/metrics")[1]
    assert 'ingest_gaps_total{feed="trades",of="trade",topic="market-data"} 7.0' in page
    assert 'ingest_skipped_total{feed="trades",reason="duplicate",topic="market-data"} 2.0' in page
    assert 'ingest_dead_letters_total{feed="trades",reason="oversized",topic="market-data"} 1.0' in page


def test_other_paths_are_named_and_a_port_in_use_is_refused(served):
    assert served.get("/nothing")[0] == 404
    assert "/readyz" in served.get("/nothing")[1]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInputError, match="--metrics-port"):
            health.serve(taken.getsockname()[1], served.report, Metrics().registry, "127.0.0.1")
