"""What the tests of this folder share: fixtures for the session, the order of the tests, the table of times at the end.

`conftest.py` takes everything that is named in `__all__`, and calls `put_in_order`.
"""

import inspect
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import doomed, faults, installation, scaling
from tests.cluster.interface import Cluster
from tests.cluster.metrics import Sampler
from tests.cluster.panels import panels_in
from tests.cluster.platform import Platform, platform_of
from tests.cluster.probes import start_probes, stop_probes
from tests.cluster.runs import Options, Run
from tests.cluster.times import Times

__all__ = [
    "faulted_run",
    "finished_run",
    "healthy_run",
    "killed_stream",
    "platform",
    "probes",
    "pytest_terminal_summary",
    "scaled_stream",
    "settled_platform",
    "uninstalled",
    "upgraded",
]

FOLDER = Path(__file__).parent
# Some 70 s of events.
HEALTHY = Options(date(2013, 1, 1), days=3, pace=3600)
# Events come for five minutes: until the last fault at least, so that there is something to read after each.
FAULTED = Options(date(2013, 1, 8), days=1, pace=280)
HEALTHY_SECONDS = 900
FAULTED_SECONDS = 1500
SETTLE_SECONDS = 40
"""Between the end of a run and its last metrics: StatsD, its exporter, and two scrapes."""

TIMES = Times()
KINDS: list[str] = []

STAGES = (
    "healthy_run",
    "probes",
    "finished_run",
    "scaled_stream",
    "faulted_run",
    "killed_stream",
    "settled_platform",
    "upgraded",
    "uninstalled",
)
"""Fixtures by the time that is best for them."""


def put_in_order(items: list[pytest.Item]) -> None:
    """Put the tests of this folder into the order in which they wait least; what is uninstalled is so at the very end.

    Each test arranges by its fixtures what it needs, and so holds in any order but for the last.
    """

    def stage(item: pytest.Item) -> int:
        wanted = inspect.signature(item.function).parameters  # type: ignore[attr-defined]
        return max((STAGES.index(name) for name in STAGES if name in wanted), default=-1)

    places = [place for place, item in enumerate(items) if item.path.is_relative_to(FOLDER)]
    ours = sorted((items[place] for place in places), key=stage)
    for place, item in zip(places, ours, strict=True):
        items[place] = item


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show how long everything took, and keep it."""
    if TIMES.seconds:
        terminalreporter.section("times in the cluster")
        for line in TIMES.lines():
            terminalreporter.write_line(line)
        path = TIMES.write(KINDS[-1])
        terminalreporter.write_line(
            f"kept in {path}; python -m benchmarks.cluster puts them into benchmarks/RESULTS.md"
        )


@pytest.fixture(scope="session")
def platform(cluster: Cluster) -> Iterator[Platform]:
    """Everything installed, once."""
    KINDS.append(cluster.kind)
    began = time.monotonic()
    with platform_of(cluster) as running:
        if not running.theirs:
            TIMES.note("install: five releases, until everything is ready", time.monotonic() - began)
        yield running


@dataclass
class Healthy:
    """A run that nobody disturbs, and what Prometheus returned while it went on."""

    run: Run
    sampler: Sampler


@pytest.fixture(scope="session")
def healthy_run(platform: Platform) -> Iterator[Healthy]:
    """A run that has been triggered; `finished_run` waits for its end."""
    # What the dashboards and alerts show of consumer groups: Millrace's own commit nothing.
    installation.look_at_topic(platform.cluster, installation.TOPIC)
    expressions = {expression for panel in panels_in(platform.cluster) for expression in panel.expressions}
    for rule in platform.prometheus.rules().values():
        expressions.update(platform.prometheus.selectors(rule["query"]))
    with platform.run(HEALTHY) as run, Sampler(platform.prometheus, expressions) as sampler:
        yield Healthy(run, sampler)


@pytest.fixture(scope="session")
def finished_run(platform: Platform, healthy_run: Healthy) -> Healthy:
    """The run that nobody disturbs, when it has ended and its last metrics are there."""
    run = healthy_run.run
    run.wait(HEALTHY_SECONDS)
    if run.state == "success":
        note_times(platform, run)
    deadline = time.monotonic() + SETTLE_SECONDS
    while healthy_run.sampler.silent and time.monotonic() < deadline:
        time.sleep(1)
    healthy_run.sampler.stop()
    return healthy_run


def note_times(platform: Platform, run: Run) -> None:
    """Take over how long a run took."""
    running = run.application_was("RUNNING")
    if running:
        TIMES.note("run: trigger to SparkApplication RUNNING", running - run.began_at)
    batches = run.batches(platform.bucket)
    if batches:
        began = datetime.fromisoformat(batches[0]["time"])
        ended = began + timedelta(milliseconds=batches[0]["batch_ms"])
        TIMES.note("run: trigger to the end of the first batch", ended.timestamp() - run.began_at)
    if run.ended_at:
        TIMES.note("run: trigger to success", run.ended_at - run.began_at)
    for (task, _), seconds in run.queued.seconds.items():
        TIMES.note("KubernetesExecutor: a task is queued until it runs in its pod", seconds)
        TIMES.note(f"  {task}", seconds)


@pytest.fixture(scope="session")
def scaled_stream(platform: Platform, finished_run: Healthy) -> Iterator[scaling.Scaled]:
    """A stream that has read the events of the undisturbed run, and whose executors were watched; it still runs."""
    found = scaling.scale_a_stream(platform)
    TIMES.note("scaling: first executor ready until a second one is, while tasks wait", found.up)
    TIMES.note("scaling: last batch done until one executor is left", found.down)
    yield found
    if platform.theirs:  # Else it has gone with the platform.
        scaling.remove(platform)


@pytest.fixture(scope="session")
def killed_stream(platform: Platform, scaled_stream: scaling.Scaled) -> doomed.Killed:
    """The stream that was scaled, when Prometheus had seen it and its driver was then killed for good."""
    return doomed.kill_a_stream(platform, scaling.NAME)


@pytest.fixture(scope="session")
def settled_platform(platform: Platform, finished_run: Healthy) -> Platform:
    """The platform when nobody looks at the main job's metrics any more, which another run would cover."""
    return platform


@dataclass
class Faulted:
    """A run during which parts of the platform were ended, and what became of that."""

    run: Run
    faults: faults.Faults


@pytest.fixture(scope="session")
def faulted_run(platform: Platform, finished_run: Healthy, killed_stream: doomed.Killed) -> Iterator[Faulted]:
    """A run that was disturbed, and has ended.

    It begins when that stream is killed, because the alert on that takes two minutes, which pass meanwhile.
    """
    found = faults.Faults()
    with platform.run(FAULTED) as run:
        faults.before_the_stream(platform, run, found)
        faults.while_it_streams(platform, run, found)
        faults.after_the_stream(platform, run, found)
        run.wait(FAULTED_SECONDS)
        for name, recovery in found.found.items():
            if recovery.seconds is not None:
                TIMES.note(f"fault: {faults.SIGNS[name]}", recovery.seconds)
        yield Faulted(run, found)


@pytest.fixture(scope="session")
def probes(platform: Platform) -> Iterator[None]:
    """The pods that try what they may and may not."""
    start_probes(platform.cluster)
    yield
    stop_probes(platform.cluster)


@pytest.fixture(scope="session")
def upgraded(
    platform: Platform, finished_run: Healthy, probes: None, tmp_path_factory: pytest.TempPathFactory
) -> installation.Upgrade:
    """The chart millrace, upgraded with other values."""
    if platform.theirs:
        pytest.skip("Millrace was installed here by somebody else: the tests do not change it.")
    folder = tmp_path_factory.mktemp("values")
    began = time.monotonic()
    found = installation.upgrade(platform, folder)
    TIMES.note("upgrade of the chart millrace that restarts its pods", time.monotonic() - began)
    return found


@pytest.fixture(scope="session")
def uninstalled(platform: Platform) -> "subprocess.CompletedProcess[str]":
    """Everything uninstalled: nothing of this folder can run after it."""
    if platform.theirs:
        pytest.skip("Millrace was installed here by somebody else: the tests leave it.")
    began = time.monotonic()
    done = platform.cluster.installer("uninstall", "--everything", "--yes")
    TIMES.note("uninstall of everything", time.monotonic() - began)
    return done
