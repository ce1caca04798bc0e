"""The table that `make bench` prints, and benchmarks/RESULTS.md."""

import datetime as dt
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("RESULTS.md")
CLUSTER = "In a cluster"
"""The section of benchmarks/cluster.py, and the last one; the others are of `make bench`."""
PREFACE = """# Results

Each section says when it was measured, and on what; all of its figures are of one run of `make bench`.
Medians of the runs given. Small machines are noisy: compare ratios taken in one run, not single figures.

Whole run: from the start of the query's first batch, the slow first one included, to the end of its last; the
JVM's start is in the bring-up figures. Steady state: median of processedRowsPerSecond, batches after the first.
The whole app writes to both sinks, and watches for records that belong into the dead-letter topic.

Latency: from the client's produce time to LogAppendTime of the output record, every event of the run, batch
boundaries included. Windows: until an update of the newest window of an event counts it."""


@dataclass(frozen=True)
class Row:
    """One figure: its runs in `unit`, and what we want of it.

    Attributes:
        ratios: the same runs as ratios to the producer tool's rate in the same round, where that makes sense.
    """

    section: str
    what: str
    unit: str
    runs: Sequence[float]
    target: str = ""
    ratios: Sequence[float] = ()

    @property
    def median(self) -> float:
        """Median of the runs."""
        return statistics.median(self.runs)

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return what, median, range, ratio and target as text."""
        ratio = f"{statistics.median(self.ratios):.2f}" if self.ratios else ""
        spread = f"{number(min(self.runs))} to {number(max(self.runs))}" if len(self.runs) > 1 else "one run"
        return (
            self.what,
            f"{number(self.median)} {self.unit}",
            f"{spread} ({len(self.runs)})",
            ratio,
            self.target,
        )


def number(value: float) -> str:
    """Return a figure with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


HEADINGS = ("what", "median", "min to max (runs)", "ratio to producer tool", "target")


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title="Millrace benchmarks")
    for heading in HEADINGS:
        table.add_column(heading)
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
        table.add_row(*row.cells())
    Console(width=150).print(table)


def machine(java: str) -> str:
    """Return one line that says what machine and which versions the figures are of."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("pyspark", "delta-spark", "apache-airflow", "confluent-kafka")
    )
    return f"{hardware()}, Python {platform.python_version()}, {java}; {packages}"


def hardware() -> str:
    """Return what the machine is."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def write(rows: Sequence[Row], description: str) -> None:
    """Put what was measured into benchmarks/RESULTS.md, section by section; `description` says on what."""
    measured = f"Measured on {dt.datetime.now(dt.UTC):%Y-%m-%d}. {description}."
    for section in dict.fromkeys(row.section for row in rows):
        put(section, [measured, "", *markdown([row for row in rows if row.section == section])])


def markdown(rows: Sequence[Row]) -> list[str]:
    """Return rows as a table."""
    head = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    return head + ["| " + " | ".join(row.cells()) + " |" for row in rows]


def put(section: str, lines: Sequence[str]) -> None:
    """Put a section into benchmarks/RESULTS.md, in place of the one that has its name; all others stay as they are.

    A section's name is what stands before its colon: how many records there were is said behind it.
    """
    text = RESULTS.read_text() if RESULTS.exists() else ""
    sections = {_name(part): part.strip("\n") for part in re.split("^## ", text, flags=re.MULTILINE)[1:]}
    sections[_name(section)] = "\n".join([section, "", *lines])
    ordered = sorted(sections.items(), key=lambda item: item[0] == CLUSTER)
    RESULTS.write_text("\n\n## ".join([PREFACE, *(part for _, part in ordered)]) + "\n")


def _name(section: str) -> str:
    return section.partition("\n")[0].partition(":")[0]
