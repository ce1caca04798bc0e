"""`make kind-run`: the main job by Airflow's API, here a server that answers as Airflow does."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from k8s.install import pipeline

PASSWORD = "the password of the test"  # noqa: S105


class Airflow:
    """A small Airflow: one DAG, whose run goes through the states that it is given."""

    def __init__(self, looks):
        self.looks = looks
        """What each look at the run shows: its state, and each task's. The last one stays."""
        self.requests = []
        self.refuse = {}
        self.number = -1
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.handle(self)

            do_POST = do_PATCH = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def handle(self, request):  # noqa: PLR0911 - one for each kind of request
        length = int(request.headers.get("content-length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        path = request.path.partition("?")[0]
        self.requests.append((request.command, path, body, request.headers.get("authorization")))
        for part, (status, detail) in self.refuse.items():
            if part in f"{request.command} {path}":
                return self.answer(request, status, {"detail": detail})
        if path == "/auth/token":
            right = body == {"username": "admin", "password": PASSWORD}
            return self.answer(request, 201 if right else 401, {"access_token": "t"} if right else {"detail": "wrong"})
        if request.headers.get("authorization") != "Bearer t":
            return self.answer(request, 401, {"detail": "not logged in"})
        if path.endswith("/xcomEntries/return_value"):
            found = (
                {"windows": 44000, "events": 52000} if "verify_outputs" in path else {"report": "s3://millrace/x.html"}
            )
            return self.answer(request, 200, {"value": found})
        if "/logs/" in path:
            return self.answer(request, 200, {"content": [{"event": "line 1"}, {"event": "12 windows differ"}]})
        if path.endswith("/taskInstances"):
            tasks = [
                {"start_date": f"2026-01-01T00:00:0{n}", "try_number": 1, "duration": 3.0, **task}
                for n, task in enumerate(self.look[1])
            ]
            return self.answer(request, 200, {"task_instances": tasks})
        if request.command == "GET":
            self.number = min(self.number + 1, len(self.looks) - 1)
            return self.answer(request, 200, {"state": self.look[0]})
        return self.answer(request, 200, {})

    @property
    def look(self):
        return self.looks[self.number]

    def answer(self, request, status, content):
        data = json.dumps(content).encode()
        request.send_response(status)
        request.send_header("content-length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def task(name, state, **more):
    return {"task_id": name, "state": state, **more}


SUCCESS = [
    ("running", [task("check_kafka", "running"), task("create_topics", None)]),
    (
        "running",
        [task("check_kafka", "success"), task("create_topics", "success"), task("monitor_pipeline", "deferred")],
    ),
    ("success", [task("monitor_pipeline", "success"), task("verify_outputs", "success", try_number=2)]),
]
FAILURE = [
    (
        "failed",
        [
            task("verify_outputs", "failed", end_date="2026-01-01T00:01"),
            task("stop_pipeline", "failed", end_date="2026-01-01T00:02"),
            task("generate_report", "upstream_failed"),
        ],
    )
]


@pytest.fixture
def serve(world, monkeypatch):
    monkeypatch.setattr(pipeline, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(pipeline.run_pipeline, "__kwdefaults__", {"poll_seconds": 0.01})
    made = []

    def start(looks):
        airflow = Airflow(looks)
        made.append(airflow)
        encoded = base64.b64encode(PASSWORD.encode()).decode()
        world.change(
            contexts=["kind-millrace"],
            airflow_port=airflow.server.server_address[1],
            objects={"service|airflow|airflow-api-server": {}, "secret|airflow|airflow-admin": {"password": encoded}},
        )
        return airflow

    yield start
    for airflow in made:
        airflow.server.shutdown()
        airflow.server.server_close()


def test_the_run_is_started_with_its_settings_shown_and_its_result_printed(serve, millrace):
    airflow = serve(SUCCESS)
    status, text = millrace("run", "--from", "2013-02-01", "--days", "7", "--pace", "3600", "--resume")
    assert status == 0, text
    [(_, _, body, _)] = [
        each for each in airflow.requests if each[:2] == ("POST", "/api/v2/dags/streaming_pipeline/dagRuns")
    ]
    assert body["conf"] == {"from_date": "2013-02-01", "days": 7, "pace": 3600.0, "mode": "resume"}
    assert ("PATCH", "/api/v2/dags/streaming_pipeline", {"is_paused": False}, "Bearer t") in airflow.requests
    for line in (
        "check_kafka: running",
        "check_kafka: success in 3 s",
        "monitor_pipeline: watching",
        "verify_outputs: success (try 2) in 3 s",
        "windows: 44,000",
        "report: s3://millrace/x.html",
        "every window is exactly right",
    ):
        assert line in text
    assert text.count("check_kafka: running") == 1
    assert "create_topics: None" not in text
    assert PASSWORD not in text


def test_a_failed_run_ends_with_status_1_and_the_log_of_the_task_that_failed_first(serve, millrace):
    serve(FAILURE)
    status, text = millrace("run")
    assert status == 1
    assert "verify_outputs failed. The end of its log:" in text
    assert "12 windows differ" in text
    assert "stop_pipeline failed. The end" not in text
    assert "generate_report: not run" in text


@pytest.mark.parametrize(
    ("part", "answer", "sentence"),
    [
        ("POST /auth/token", (401, "Invalid credentials"), "Airflow refuses POST /auth/token: Invalid credentials."),
        ("POST /api", (400, "days: 400 is greater than 365"), "days: 400 is greater than 365"),
        ("PATCH /api", (404, "The Dag was not found"), "The Dag was not found"),
        ("PATCH /api", (503, "starting"), "Airflow does not answer (HTTP 503): try again"),
        ("POST /auth/token", (500, "starting"), "Airflow does not answer (HTTP 500): try again"),
    ],
)
def test_what_airflow_refuses_is_said_in_its_words(serve, millrace, part, answer, sentence):
    serve(SUCCESS).refuse[part] = answer
    status, text = millrace("run")
    assert status == 1
    assert sentence in text


def test_airflow_that_falls_silent_is_given_up_and_the_run_is_said_to_go_on(serve, millrace, monkeypatch):
    monkeypatch.setattr(pipeline, "SILENCE_SECONDS", 0.05)
    serve(SUCCESS).refuse["GET /api"] = (502, "bad gateway")
    status, text = millrace("run")
    assert status == 1
    assert "the run may go on" in text


def test_an_answer_that_fails_once_is_asked_for_again(serve, millrace):
    airflow = serve(SUCCESS)
    airflow.refuse["GET /api"] = (503, "busy")
    threading.Timer(0.3, airflow.refuse.clear).start()
    assert millrace("run")[0] == 0


def test_no_way_to_airflow(serve, world, millrace):
    serve(SUCCESS)
    world.fail("port-forward", "error: unable to forward port because pod is not running. Current status=Pending")
    status, text = millrace("run")
    assert status == 1
    assert "Airflow can't be reached: error: unable to forward port because pod is not running" in text


def test_a_cluster_without_airflow_or_its_password(world, millrace):
    world.change(contexts=["kind-millrace"])
    assert "There is no Airflow in the cluster kind-millrace" in millrace("run")[1]
    world.change(objects={"service|airflow|airflow-api-server": {}})
    assert "There is no secret airflow/airflow-admin" in millrace("run")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "2014-01-01"], "the recorded flights are those of 2013"),
        (["--from", "1.2.2013"], "is not a date: write it as 2013-01-31"),
        (["--days", "0"], "is not a number of days"),
        (["--pace", "-1"], "is not a pace"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_asked(world, millrace, arguments, sentence):
    status, text = millrace("run", *arguments)
    assert status == 2
    assert sentence in text
    assert world.calls() == []
