"""Every line that a run of an app or of a feed logs is one JSON object, with what it belongs to."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from tests.embedded.spark_driver import APP, message

pytestmark = pytest.mark.embedded

RUN = "streaming_pipeline/manual"
PRINTED = (
    "WARNING: Using incubator modules: ",
    "Using Spark's default log4j profile: ",
    "Setting Spark log level to ",
)
"""What Java and Spark print as they start, past any logger: a line each."""


def parsed(lines: list[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in lines if line]
    assert found
    return found


def test_every_line_of_a_feed_is_json_and_says_whose_it_is(topics):
    command = ["simulate-events", "--topic", topics.events, "--rate", "100", "--seconds", "3", "--bootstrap-servers"]
    done = subprocess.run(
        [sys.executable, "-m", "ingest", *command, topics.servers],
        env={**os.environ, "MILLRACE_RUN": RUN},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout)["sent"] == 300
    for line in parsed(done.stderr.splitlines()):
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is UTC
        assert (line["level"], line["run"], line["topic"]) == ("info", RUN, topics.events)
        assert line["app"] == "ingest simulate-events"
        assert line["logger"] and line["message"]


def test_every_line_of_an_app_is_json_spark_s_own_as_well(topics, driver):
    application = yaml.safe_load((APP / "application.yaml").read_text())
    setting = "spark.log.structuredLogging.enabled"
    app = driver("spark_conf.spark.log.level=INFO", conf={setting: application["spec"]["sparkConf"][setting]})
    app.environment["MILLRACE_RUN"] = RUN
    day = datetime(2013, 1, 1)
    topics.send(0, [message(day)])
    topics.heartbeats(day + timedelta(hours=1))
    app.start()
    app.wait_for("a batch", lambda found: found)
    assert app.stop() == 0
    written = app.log.read_text().splitlines()
    assert len([line for line in written if line.startswith(PRINTED)]) <= len(PRINTED)
    lines = parsed([line for line in written if not line.startswith(PRINTED)])
    own = [line for line in lines if line.get("logger") == "streamkit"]
    assert len(own) < len(lines)
    named = [line for line in own if "app" in line]
    assert {(line["app"], line["topic"], line["run"]) for line in named} == {("event-windows", topics.events, RUN)}
    assert [line["batch"] for line in named if line["message"] == "batch"]
