"""The batch layer's report: one HTML file that opens without a network."""

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from millrace import batch, plots
from millrace.report import STYLE

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl


def render(
    hours: "pl.DataFrame", forecast: "pl.DataFrame | None", facts: Mapping[str, Any], dag_id: str, run_id: str
) -> str:
    """Return the report of what readers see (`batch.serve`), and of the forecast if there is one."""
    figures = [by_day(hours), over_the_day(hours)]
    if forecast is not None:
        figures.append(against_forecast(forecast))
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False})
        for number, figure in enumerate(figures)
    ]
    lines = (f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>" for key, value in facts.items())
    title = html.escape(f"{dag_id}: {run_id}")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>{title}</title><style>{STYLE}</style></head>",
            f"<body><h1>{html.escape(dag_id)}</h1><p>Run {html.escape(run_id)}</p>",
            f"<table>{''.join(lines)}</table>",
            *drawn,
            "</body></html>",
        ]
    )


def over_the_day(hours: "pl.DataFrame") -> "go.Figure":
    """Mean number of events by hour of the day and type, over all days."""
    import plotly.graph_objects as go
    import polars as pl

    days = hours["hour"].dt.date().n_unique()
    grouped = hours.group_by(pl.col("hour").dt.hour(), "event_type").agg(
        (pl.col("events").sum() / days).alias("mean_events")
    )
    figure = go.Figure()
    for event_type, own in _by_type(grouped.sort("hour")):
        x, y = own["hour"].to_list(), own["mean_events"].to_list()
        figure.add_scatter(x=x, y=y, name=event_type, mode="lines+markers")
    return plots.styled(figure, "Events over the day", "hour (UTC)", "mean events in the hour of a day")


def by_day(hours: "pl.DataFrame") -> "go.Figure":
    """Events of each day by type."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for event_type, own in _by_type(batch.daily(hours)):
        figure.add_bar(x=own["day"].to_list(), y=own["events"].to_list(), name=event_type)
    return plots.styled(figure, "Events of each day", "day (UTC)", "events", barmode="stack")


def against_forecast(forecast: "pl.DataFrame") -> "go.Figure":
    """What came in the hours that were held out, and what the model had said."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for event_type, own in _by_type(forecast.sort("hour")):
        x = own["hour"].to_list()
        figure.add_scatter(x=x, y=own["events"].to_list(), name=f"{event_type}, came", mode="lines")
        figure.add_scatter(x=x, y=own["forecast"].to_list(), name=f"{event_type}, forecast", line={"dash": "dot"})
    return plots.styled(figure, "Hours held out: what came, and the forecast of a day before", "hour (UTC)", "events")


def _by_type(rows: "pl.DataFrame") -> "list[tuple[str, pl.DataFrame]]":
    return [(name, rows.filter(rows["event_type"] == name)) for name in sorted(rows["event_type"].unique())]
