"""A real Prometheus on a free loopback port, and what our own code exports."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from embedded.ports import LOOPBACK, free_port
from ingest.feeds.report import FeedMetrics
from ingest.feeds.report import Report as FeedReport
from ingest.progress import Metrics as IngestMetrics
from ingest.progress import Progress
from streamkit.telemetry import Metrics as StreamMetrics
from tests.go_tools import go_tool
from tests.monitoring.exposition import of_registry
from tests.monitoring.promql import Labels

START_SECONDS = 60

REPORT: dict[str, Any] = {
    "name": "windows",
    "batchId": 1,
    "numInputRows": 10,
    "inputRowsPerSecond": 5.0,
    "processedRowsPerSecond": 9.0,
    "durationMs": {"triggerExecution": 1100},
    "eventTime": {"max": "2013-01-01T10:17:00.000Z", "watermark": "2013-01-01T10:15:00.000Z"},
    "stateOperators": [{"numRowsTotal": 3, "numRowsDroppedByWatermark": 1}],
    "sources": [{"endOffset": {"events": {"0": 5}}, "latestOffset": {"events": {"0": 9}}}],
    "observedMetrics": {},
    "sink": {"numOutputRows": 1},
}
"""A progress report with all the parts that Spark's StreamingQueryProgress can have."""


class Prometheus:
    """Prometheus' API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer. Raises ValueError with what Prometheus says against the request."""
        answer = httpx.post(f"{self.url}/api/v1/{path}", data=parameters, timeout=30).json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def parse(self, expression: str) -> dict[str, Any]:
        """Return the syntax tree of an expression. Raises ValueError if it is none."""
        return self.ask("parse_query", query=expression)


def exposition(url: str) -> str:
    """Return what an exporter serves."""
    return httpx.get(url, timeout=30).raise_for_status().text


def answers(url: str) -> bool:
    """Whether an HTTP server answers at an address, and is content."""
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False


def wait_until(true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a program that was started says so; fail the test with its log if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while not true():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{process.args!s} did not come up: {log.read_text()[-1000:]}")
        time.sleep(0.05)


@contextmanager
def run_prometheus(
    place: Path, configuration: dict[str, Any], *until: Callable[[Prometheus], bool]
) -> Iterator[Prometheus]:
    """Run Prometheus in a folder of its own until the block ends; the block begins when all of `until` are true."""
    (place / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    server = Prometheus(port := free_port())
    command = [
        str(go_tool("prometheus")),
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    log = place / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: answers(f"{server.url}/-/ready"), process, log)
            for condition in until:
                wait_until(partial(condition, server), process, log)
            yield server
        finally:
            process.terminate()


@pytest.fixture(scope="package")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nothing."""
    with run_prometheus(tmp_path_factory.mktemp("prometheus"), {}) as server:
        yield server


@pytest.fixture(scope="session")
def our_metrics() -> dict[str, dict[str, Labels]]:
    """What streamkit and ingest export, by job, from their own registries after one report each."""
    stream = StreamMetrics()
    stream.update("event-windows", REPORT)
    feed = IngestMetrics()
    progress = Progress("flights", "events", feed, sent=1, event_time=1.0)
    progress.start()
    progress.sent = 2
    progress.report()
    FeedReport("trades", "market-data", FeedMetrics(feed))
    return {"spark-driver": of_registry(stream.registry), "ingest": of_registry(feed.registry)}
