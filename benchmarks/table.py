"""The table that `make bench` prints, and benchmarks/RESULTS.md."""

import datetime as dt
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).with_name("RESULTS.md")
ELSEWHERE = "In a cluster"
"""The section that `make bench` leaves alone: the last one, by benchmarks/cluster.py."""


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


def write(rows: Sequence[Row], description: str, notes: Sequence[str]) -> None:
    """Write benchmarks/RESULTS.md.

    Sections that were not measured this time keep no old figures: a table is of one run of `make bench`. Only what
    others have written (ELSEWHERE) stays.
    """
    kept = _section(ELSEWHERE)
    lines = [
        "# Results",
        "",
        f"Written by `make bench` on {dt.datetime.now(dt.UTC):%Y-%m-%d}. {description}.",
        "",
        "Medians of the runs given. Small machines are noisy: compare ratios taken in one run, not single figures.",
    ]
    for section in dict.fromkeys(row.section for row in rows):
        lines += ["", f"## {section}", "", *markdown([row for row in rows if row.section == section])]
    lines += ["", *notes]
    RESULTS.write_text("\n".join(lines) + "\n")
    if kept:
        replace(ELSEWHERE, kept)


def markdown(rows: Sequence[Row]) -> list[str]:
    """Return rows as a table."""
    head = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    return head + ["| " + " | ".join(row.cells()) + " |" for row in rows]


def replace(section: str, lines: Sequence[str]) -> None:
    """Put a section at the end of benchmarks/RESULTS.md, in place of the one that is there."""
    text = RESULTS.read_text()
    before = text.partition(f"\n## {section}\n")[0].rstrip("\n")
    RESULTS.write_text("\n".join([before, "", f"## {section}", "", *lines]) + "\n")


def _section(section: str) -> list[str]:
    """Return the lines of the section that stands at the end of benchmarks/RESULTS.md, without its heading."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    return text.partition(f"\n## {section}\n")[2].strip("\n").splitlines()
