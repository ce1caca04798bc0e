import io
import json
import logging

import pytest

from ingest import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch):
    """The root logger as it was, afterwards."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.delenv("MILLRACE_LOG_FORMAT", raising=False)
    monkeypatch.delenv("MILLRACE_RUN", raising=False)


@pytest.mark.parametrize(("stream", "asked", "as_json"), [
    (io.StringIO, None, True), (io.StringIO, "text", False), (Terminal, None, False), (Terminal, "json", True),
])  # fmt: skip
def test_a_terminal_gets_text_and_all_else_json_unless_it_is_said(monkeypatch, stream, asked, as_json):
    out = stream()
    monkeypatch.setattr("sys.stderr", out)
    if asked:
        monkeypatch.setenv("MILLRACE_LOG_FORMAT", asked)
    monkeypatch.setenv("MILLRACE_RUN", "dag/run")
    logs.configure(app="ingest replay", topic="")
    logging.getLogger("ingest").info("sent %d", 3, extra={"fields": {"batch": 7}})
    if not as_json:
        assert out.getvalue().endswith("info sent 3 batch=7\n")
        return
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "ingest",
        "message": "sent 3",
        "run": "dag/run",
        "app": "ingest replay",
        "batch": 7,
    }


def test_an_exception_is_in_the_line(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    logs.configure()
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert "ValueError: broken" in line["exception"]
