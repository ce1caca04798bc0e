"""Show a run: a live table on a terminal, one plain line per change elsewhere."""

import time
from datetime import datetime
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from embedded.pipeline import Stream, View

STREAM_LINE_SECONDS = 5.0
"""Without a terminal: least time between two lines about the stream."""
COLOURS = {"success": "green", "failed": "red", "upstream_failed": "red", "up_for_retry": "yellow", "running": "cyan"}
COLOURS |= {"deferred": "cyan", "queued": "blue", "scheduled": "blue"}
WORDS = {"deferred": "watching", "up_for_retry": "waits to retry", "upstream_failed": "not run"}
"""What a newcomer understands of Airflow's states."""


class Display:
    """Shows messages and the state of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._shown: dict[str, str] = {}
        self._stream_shown = Stream()
        self._stream_at = 0.0

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, message: str) -> None:
        """Print one line."""
        if self.console.is_terminal:
            self.console.print(message, soft_wrap=True, markup=False)
        else:
            self.console.print(f"{datetime.now():%H:%M:%S} {message}", soft_wrap=True, markup=False)

    def update(self, view: View) -> None:
        """Show the run as it is now."""
        if self.console.is_terminal:
            if self._live is None:
                self._live = Live(console=self.console, auto_refresh=False)
                self._live.start()
            self._live.update(picture(view), refresh=True)
        else:
            self._print_changes(view)

    def close(self) -> None:
        """Leave the last picture on the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print_changes(self, view: View) -> None:
        for task in view.tasks:
            text = f"{WORDS.get(task.state, task.state)}" + (f" (try {task.attempt})" if task.attempt > 1 else "")
            if task.state not in ("waiting", "scheduled", "queued") and self._shown.get(task.name) != text:
                self._shown[task.name] = text
                ended = task.state in ("success", "failed") and task.seconds is not None
                self.say(f"{task.name}: {text}" + (f" in {task.seconds:.1f} s" if ended else ""))
        due = time.monotonic() - self._stream_at >= STREAM_LINE_SECONDS
        if due and view.stream != self._stream_shown and view.stream.events_in:
            self._stream_shown, self._stream_at = view.stream, time.monotonic()
            self.say("stream: " + ", ".join(f"{name} {value}" for name, value in stream_figures(view.stream)))


def picture(view: View) -> Group:
    """The table of tasks and the line about the stream."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (("task", "left"), ("state", "left"), ("try", "right"), ("seconds", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for task in view.tasks:
        colour = COLOURS.get(task.state, "dim")
        seconds = "" if task.seconds is None else f"{task.seconds:.1f}"
        attempt = str(task.attempt) if task.attempt else ""
        table.add_row(task.name, Text(WORDS.get(task.state, task.state), style=colour), attempt, seconds)
    figures = "   ".join(f"{name} [bold]{value}[/bold]" for name, value in stream_figures(view.stream))
    return Group(table, Text.from_markup(figures or "[dim]the stream has not begun[/dim]"))


def stream_figures(stream: Stream) -> list[tuple[str, str]]:
    """Names and values of what is known of the stream."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}"

    known = [
        ("events in", number(stream.events_in)),
        ("processed", number(stream.processed)),
        ("lag", number(stream.lag)),
        ("windows out", number(stream.windows_out)),
        ("events/s", number(stream.events_per_second)),
        ("watermark", stream.watermark or ""),
    ]
    return [(name, value) for name, value in known if value]


def summary_table(summary: dict[str, Any], times: dict[str, float]) -> Table:
    """The figures at the end of a run.

    Args:
        summary: what generate_report wrote.
        times: title to seconds, measured from the start of the command.
    """
    table = Table(title="Result", title_justify="left", show_header=False, box=None, pad_edge=False)
    rows = [
        ("windows, all counts verified", summary.get("windows")),
        ("events", summary.get("events")),
        ("records processed", summary.get("records_processed")),
        ("batches", summary.get("batches")),
        ("records/s while processing", summary.get("records_per_second")),
        ("dead letters", summary.get("dead_letters")),
        ("drivers started", summary.get("driver_tries")),
    ]
    if not summary.get("verification_passed"):
        rows[0] = ("windows (verification FAILED)", summary.get("windows"))
    for name, value in rows:
        if value is not None:
            table.add_row(name, f"{value:,}")
    for name, seconds in times.items():
        table.add_row(name, f"{seconds:.1f} s")
    return table
