"""Writes the dashboards into the chart: python -m charts.dashboards."""

from pathlib import Path

from charts.dashboards import airflow, ingest, kafka, overview, streams
from charts.dashboards.grafana import render

DASHBOARDS = tuple(module.DASHBOARD for module in (overview, kafka, streams, airflow, ingest))
PLACE = Path(__file__).parents[1] / "millrace" / "files" / "dashboards"


def write(place: Path = PLACE) -> None:
    """Write each dashboard's JSON, and remove those that are no more."""
    for path in place.glob("*.json"):
        path.unlink()
    for dashboard in DASHBOARDS:
        (place / f"{dashboard.name}.json").write_text(render(dashboard))


if __name__ == "__main__":
    write()
