"""The command line: what it teaches, what it refuses and with which exit status, and what it writes."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedded.paths import REPOSITORY
from ingest.errors import BadInputError
from ingest.logs import JsonFormatter
from ingest.progress import Metrics, Progress, iso, write_status


def ingest(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        capture_output=True, text=True, check=False, timeout=120, env=clean | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", ["replay", "simulate-events", "simulate-market", "simulate-air-quality", "people", "orders"]
)
def test_help_teaches_by_example(command):
    done = ingest(command, "--help")
    assert done.returncode == 0
    assert f"python -m ingest {command}" in done.stdout
    assert "exit status" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay"], "KAFKA_BOOTSTRAP_SERVERS"),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--days", "0"], "at least 1"),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--from", "2014-01-01"], "2013-12-31"),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--from", "yesterday"], "isn't a date"),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--pace", "-3"], "pace"),
        (
            ["replay", "--bootstrap-servers", "127.0.0.1:1", "--status-file", "/nonexistent/x"],
            "create it first",
        ),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--linger-ms", "-1"], "--linger-ms"),
        (["replay", "--bootstrap-servers", "127.0.0.1:1", "--connect-timeout", "0"], "--connect-timeout"),
        (["simulate-events", "--bootstrap-servers", "127.0.0.1:1", "--rate", "0"], "rate"),
        (["simulate-market", "--bootstrap-servers", "127.0.0.1:1", "--fast"], "--count"),
        (["simulate-air-quality", "--bootstrap-servers", "127.0.0.1:1", "--close-after-minutes", "20"], "--count"),
        (
            ["simulate-market", "--bootstrap-servers", "127.0.0.1:1", "--start-time", "noon"],
            "isn't an instant",
        ),
        (["people", "--people", "Frank"], "isn't a name and an age"),
        (["orders", "--count", "0"], "from 1 to 1000000"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, words):
    done = ingest(*arguments)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_no_broker_is_one_sentence_and_status_1():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = unused.getsockname()[1]
        done = ingest(
            "simulate-events",
            "--count",
            "1",
            "--connect-timeout",
            "2",
            KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}",
        )
    assert done.returncode == 1
    assert f"no Kafka broker answered at 127.0.0.1:{port}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_metrics_port_in_use_is_refused():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = ingest("replay", "--metrics-port", port, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode == 2
    assert "--metrics-port" in done.stderr


def test_contracts_command_accepts_the_repository_and_refuses_a_changed_contract(tmp_path):
    assert ingest("contracts").returncode == 0
    folder = tmp_path / "events"
    folder.mkdir()
    schema = {
        "x-key": "id", "x-event-time": "t", "x-max-bytes": 9, "type": "object",
        "properties": {"schema_version": {"const": 1}, "id": {"type": "string"}}, "required": ["id"],
    }  # fmt: skip
    (folder / "v1.json").write_text(json.dumps(schema))
    assert ingest("contracts", "--release", MILLRACE_CONTRACTS=str(tmp_path)).returncode == 0
    (folder / "v1.json").write_text(json.dumps(schema | {"required": []}))
    done = ingest("contracts", MILLRACE_CONTRACTS=str(tmp_path))
    assert done.returncode == 1
    assert "events/v1.json was released and changed" in done.stdout


def test_a_log_line_is_json_with_its_fields():
    record = logging.LogRecord("ingest", logging.INFO, "here.py", 1, "sent %d", (3,), None)
    record.fields = {"per_second": 5}
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "sent 3"
    assert line["per_second"] == 5
    assert line["level"] == "info"


def test_the_status_file_is_replaced_whole(tmp_path):
    path = tmp_path / "status.json"
    path.write_text("old")
    write_status(path, {"sent": 3, "end_offsets": {0: 4}})
    assert json.loads(path.read_text()) == {"sent": 3, "end_offsets": {"0": 4}}
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    with pytest.raises(BadInputError, match="--status-file"):
        write_status(tmp_path / "nowhere" / "status.json", {})


def test_the_status_file_may_be_a_device(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_bytes)
        write_status(path, {"sent": 3})
        assert json.loads(read.result(30)) == {"sent": 3}
    assert path.is_fifo()


MOUNTED = """
set -e
touch "$1/source" "$1/status.json"
mount --bind "$1/source" "$1/status.json"
"$2" -c 'import sys; from pathlib import Path; from ingest.progress import write_status
for sent in (1000, 3): write_status(Path(sys.argv[1]), {"sent": sent})' "$1/status.json"
"""


def test_the_status_file_may_be_mounted_as_a_containers_termination_log_is(tmp_path):
    alone = ["unshare", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file: run the tests as root")
    command = [*alone, "sh", "-c", MOUNTED, "sh", str(tmp_path), sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "source").read_text()) == {"sent": 3}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source", "status.json"]


def test_metrics_follow_the_progress_and_are_served():
    metrics = Metrics()
    progress = Progress("replay", "events", metrics)
    progress.start()
    progress.sent, progress.bytes, progress.errors, progress.event_time = 10, 2000, 1, 1_357_035_420.0
    progress.report()
    progress.sent = 15
    progress.report()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    metrics.serve(port, "127.0.0.1")
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    assert 'ingest_messages_total{feed="replay",topic="events"} 15.0' in text
    assert 'ingest_bytes_total{feed="replay",topic="events"} 2000.0' in text
    assert 'ingest_errors_total{feed="replay",topic="events"} 1.0' in text
    assert 'ingest_newest_event_time_seconds{feed="replay",topic="events"} 1.35703542e+09' in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, None), (1_357_035_420, "2013-01-01T10:17:00Z"), (1_357_035_420.0004, "2013-01-01T10:17:00Z"),
     (1_357_035_420.25, "2013-01-01T10:17:00.250Z"), (1_357_035_419.9999, "2013-01-01T10:17:00Z")],
)  # fmt: skip
def test_instants_are_written_to_the_millisecond(seconds, text):
    assert iso(seconds) == text
