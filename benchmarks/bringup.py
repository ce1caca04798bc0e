"""`make run` from typing to its end, its memory, and Airflow's own share of a run."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.rig import prepare
from benchmarks.table import Row
from embedded.instance import claim
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from embedded.processes import members, memory_mebibytes
from embedded.settings import load_settings
from embedded.supervisor import Supervisor

Say = Callable[[str], None]
TIMES = {
    "first batch processed": ("from typing to the first processed batch", "45 s"),
    "whole run, with shut-down": ("from typing to the end, everything stopped", "120 s"),
}


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """Yield the environment of a home of its own, with free ports and the jars that are already here."""
    home = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    ports = {name: str(free_port()) for name in ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "AIRFLOW_PORT")}
    try:
        yield {**os.environ, **ports, "MILLRACE_HOME": str(home), "MILLRACE_JARS_CACHE": str(load_settings().jars)}
    finally:
        shutil.rmtree(home, ignore_errors=True)


def bring_up(runs: int, say: Say) -> list[Row]:
    """Measure `make run` (one month) in a new home once, then `runs` times in the same home."""
    figures: dict[str, list[float]] = {}
    prepare()
    with environment() as variables:
        for number in range(runs + 1):
            kind = "warm" if number else "first run in a new home"
            for title, value in one_run(variables).items():
                figures.setdefault(f"make run, {kind}: {title}", []).append(value)
                say(f"  {kind}: {title} {value:,.1f}")
    rows = []
    for what, values in figures.items():
        title = what.partition(": ")[2]
        memory = title.startswith("peak")
        target = "under 5 GiB" if memory else next((t for text, t in TIMES.values() if text == title), "")
        rows.append(Row("Bring-up", what, "GiB" if memory else "s", values, target))
    return rows


def one_run(variables: dict[str, str]) -> dict[str, float]:
    """Run the main job once; return seconds by title, and its peak memory in GiB.

    Raises:
        RuntimeError: when the run failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "embedded", "run"],
        env=variables,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = [0.0]
    sampler = threading.Thread(target=_sample, args=(process, Path(variables["MILLRACE_HOME"]), peak), daemon=True)
    sampler.start()
    output, _ = process.communicate()
    sampler.join()
    if process.returncode != 0:
        raise RuntimeError(f"make run failed with exit code {process.returncode}: {output[-2000:]}")
    found = {}
    for title, (text, _target) in TIMES.items():
        match = re.search(rf"{re.escape(title)}\s+([\d.,]+) s", output)
        if match is None:
            raise RuntimeError(f"make run printed no time for {title!r}: {output[-2000:]}")
        found[text] = float(match[1].replace(",", ""))
    return found | {"peak memory, all processes (PSS)": peak[0]}


def _sample(process: "subprocess.Popen[str]", home: Path, peak: list[float]) -> None:
    """Keep the largest sum of the proportional set sizes of all processes of the run, in GiB."""
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
            instance = json.loads((home / "instance.json").read_text())["id"]
            found = [psutil.Process(process.pid), *members(instance)]
            peak[0] = max(peak[0], memory_mebibytes(found) / 1024)
        time.sleep(1)


def airflow_overhead(runs: int, say: Say) -> list[Row]:
    """Measure the time from the trigger to success of eight trivial tasks in a row."""
    dag_id = "eight_tasks"
    with environment() as variables:
        settings = replace(load_settings(variables), dags=REPOSITORY / "benchmarks" / "dags")
        with claim(settings, "run") as instance:
            supervisor = Supervisor(settings, instance, lambda _text: None)
            try:
                client = supervisor.start((dag_id,))
                client.unpause(dag_id)
                figures = []
                for number in range(runs + 1):
                    began, run_id = time.monotonic(), f"benchmark-{number}"
                    client.trigger(dag_id, run_id, {})
                    while (state := client.run_state(dag_id, run_id)) not in ("success", "failed"):
                        time.sleep(0.05)
                    if state == "failed":
                        raise RuntimeError(f"the benchmark's DAG failed: see {settings.logs}")
                    figures.append(time.monotonic() - began)
            finally:
                supervisor.stop()
    # The first run after the start warms up workers and caches: it is part of the bring-up figures.
    row = Row("Airflow", "trigger to success, eight trivial tasks in a row", "s", figures[1:])
    say(f"  eight trivial tasks: {row.median:.1f} s")
    return [row]
