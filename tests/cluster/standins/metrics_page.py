"""A page of metrics as Prometheus reads it, for the stand-ins of exporters that can't be had where our tests run."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class UnreadableError(Exception):
    """What the metrics tell of does not answer; the message says why."""


@dataclass
class Family:
    """One metric: its name, what it means, and its values by their labels.

    The name stays as it is: a counter of the exporters that are stood in for does not always end in `_total`.
    """

    name: str
    kind: str
    about: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a value."""
        self.samples.append((labels, value))

    def lines(self) -> Iterator[str]:
        """What the page has of it."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{self.name}{{{written}}} {value:.17g}" if written else f"{self.name} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def page(families: Iterable[Family]) -> str:
    """The whole page."""
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def serve(port: int, collect: Callable[[], Iterable[Family]]) -> None:
    """Answer on all addresses until the process is ended: /metrics is asked for anew each time, all else says `ok`."""
    ThreadingHTTPServer(("", port), _handler(collect)).serve_forever()


def _handler(collect: Callable[[], Iterable[Family]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = 200, "ok\n"
            if self.path.partition("?")[0] == "/metrics":
                try:
                    content = page(collect())
                except UnreadableError as error:
                    status, content = 503, f"{error}\n"
                    sys.stderr.write(content)
            body = content.encode()
            self.send_response(status)
            self.send_header("Content-Type", TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: each scrape would be a line."""

    return Handler
