"""The plots of a run's report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

Rows = Sequence[dict[str, Any]]


def throughput(batches: Rows) -> "go.Figure":
    """Events in each batch, and processed events per second."""
    import plotly.graph_objects as go

    times = [batch["time"] for batch in batches]
    figure = go.Figure()
    figure.add_bar(x=times, y=[batch["rows"] for batch in batches], name="events in the batch")
    rates = [batch["rows_per_second"] or 0 for batch in batches]
    figure.add_scatter(x=times, y=rates, name="processed events/s", mode="lines+markers", yaxis="y2")
    return styled(
        figure,
        "Events per batch and throughput",
        "start of the batch (UTC)",
        "events",
        yaxis2={"title": "events/s", "overlaying": "y", "side": "right", "rangemode": "tozero"},
    )


def batch_duration(batches: Rows) -> "go.Figure":
    """How long each batch took, and in which phase."""
    import plotly.graph_objects as go

    figure = go.Figure()
    times = [batch["time"] for batch in batches]
    for phase in sorted({phase for batch in batches for phase in batch["phases_ms"]}):
        figure.add_bar(x=times, y=[batch["phases_ms"].get(phase, 0) for batch in batches], name=phase)
    return styled(figure, "Batch duration by phase", "start of the batch (UTC)", "milliseconds", barmode="stack")


def lag(batches: Rows) -> "go.Figure":
    """Records that were in the topic but not in the batch."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for query in sorted({batch["query"] for batch in batches}):
        own = [batch for batch in batches if batch["query"] == query]
        x, y = [batch["time"] for batch in own], [batch["lag"] for batch in own]
        figure.add_scatter(x=x, y=y, name=query, mode="lines+markers")
    return styled(figure, "Lag", "start of the batch (UTC)", "records behind the topic's end")


def watermark(batches: Rows) -> "go.Figure":
    """Event time of watermark and newest event against the clock on the wall."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for key, name in (("newest_event", "newest event in the batch"), ("watermark", "watermark")):
        # Before the first event Spark reports 1970, which would squeeze everything else into a line.
        own = [batch for batch in batches if batch[key] and not batch[key].startswith("1970")]
        x, y = [batch["time"] for batch in own], [batch[key] for batch in own]
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers")
    return styled(figure, "Watermark against the clock on the wall", "start of the batch (UTC)", "event time (UTC)")


def windows_over_the_day(by_hour: Rows) -> "go.Figure":
    """Mean number of events in a window, by hour of the day and event type."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for event_type in sorted({row["event_type"] for row in by_hour}):
        own = [row for row in by_hour if row["event_type"] == event_type]
        x, y = [row["hour"] for row in own], [row["mean_events"] for row in own]
        figure.add_scatter(x=x, y=y, name=event_type, mode="lines+markers")
    return styled(figure, "Windows by type over the day", "hour of the window's start (UTC)", "mean events in a window")


def task_durations(tasks: Rows) -> "go.Figure":
    """Seconds that each finished task of the run took."""
    import plotly.graph_objects as go

    own = [task for task in tasks if task["duration"] is not None]
    figure = go.Figure()
    seconds = [round(task["duration"], 2) for task in own]
    figure.add_bar(x=seconds, y=[task["task_id"] for task in own], orientation="h", text=seconds)
    figure.update_yaxes(autorange="reversed")
    return styled(figure, "Tasks", "seconds, waiting in the triggerer included", "")


def styled(figure: "go.Figure", title: str, x: str, y: str, **layout: Any) -> "go.Figure":
    """Give a figure its title, its axes and the look of all reports."""
    figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        height=360,
        margin={"l": 70, "r": 70, "t": 50, "b": 50},
        legend={"orientation": "h", "y": -0.25},
        **layout,
    )
    return figure
