"""A local server that answers as the UKHSA data dashboard's API does, with figures that a test sets."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from millrace.covid_api import TOPIC_PATH

CODES = {"England": "E92000001", "London": "E12000007", "North East": "E12000001"}
CASES, DEATHS = "COVID-19_cases_casesByDay", "COVID-19_deaths_ONSByDay"


@dataclass
class Dashboard:
    """What the server knows; `failures` are answered first, one for each request."""

    url: str = ""
    values: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """By area and metric: the figure of each day."""
    extra: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    page_size: int = 365

    def figure(self, area: str, metric: str, day: str, value: Any) -> dict[str, Any]:
        """One figure, with all the fields that the API gives."""
        return {
            "theme": "infectious_disease",
            "sub_theme": "respiratory",
            "topic": "COVID-19",
            "geography_type": "Nation" if area == "England" else "Region",
            "geography": area,
            "geography_code": CODES[area],
            "metric": metric,
            "metric_group": metric.split("_")[1],
            "stratum": "default",
            "sex": "all",
            "age": "all",
            "year": int(day[:4]) if day[:4].isdigit() else 0,
            "month": int(day[5:7]) if day[5:7].isdigit() else 0,
            "epiweek": 1,
            "date": day,
            "metric_value": value,
            "in_reporting_delay_period": False,
        }

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """What a path holds; None if nothing."""
        parts = unquote(path).removeprefix(f"/{TOPIC_PATH}/geography_types/").split("/")
        kind = parts[0]
        areas = sorted({area for area, _ in self.values if (area == "England") == (kind == "Nation")})
        if parts[1:] == ["geographies"]:
            return [{"name": area, "link": f"{self.url}{path}/{area}"} for area in areas] or None
        key = (parts[2], parts[4])
        if parts[2] not in areas or key not in self.values:
            return None
        rows = [self.figure(*key, day, value) for day, value in self.values[key].items()] + self.extra.get(key, [])
        rows = [row for row in rows if row["year"] in (0, int(query["year"][0]))]
        number, size = int(query["page"][0]), min(int(query["page_size"][0]), self.page_size)
        end = number * size
        following = f"{self.url}{path}?page={number + 1}" if end < len(rows) else None
        return {"count": len(rows), "next": following, "previous": None, "results": rows[end - size : end]}


@contextlib.contextmanager
def covid_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[Dashboard]:
    """Start the server, by default on a free loopback port; end it in the end."""
    dashboard = Dashboard()

    class Handler(BaseHTTPRequestHandler):
        """Answers GET with JSON."""

        def do_GET(self) -> None:
            dashboard.requests.append(self.path)
            if dashboard.failures:
                status, headers = dashboard.failures.pop(0)
                return self._send(status, b"{}", headers)
            split = urlsplit(self.path)
            found = dashboard.answer(split.path, parse_qs(split.query))
            self._send(404 if found is None else 200, json.dumps(found).encode(), {})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((host, port), Handler) as http:
        dashboard.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield dashboard
        finally:
            http.shutdown()
            thread.join()
