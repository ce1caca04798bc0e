"""People are told, by servers that speak SMTP, Slack's webhook protocol and PagerDuty's Events API v2."""

import json
from collections.abc import Iterator

import pytest

from millrace import notifications
from millrace.notifications import Notice, notify
from tests.notification_servers import Servers, notification_servers

NOTICE = Notice(
    key="pipeline/run-1/failure",
    subject="pipeline has failed: run <1> & more",
    facts={"Reason": "5 < 6 & no more"},
    link="http://airflow.example.org/dags/pipeline/runs/run-1",
)
CHANNELS = ("email", "slack", "pagerduty")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with notification_servers(tmp_path_factory.mktemp("notifications") / "authority") as found:
        yield found


@pytest.fixture
def servers(running: Servers, monkeypatch: pytest.MonkeyPatch) -> Servers:
    running.clear()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    return running


def received(servers: Servers) -> list[int]:
    return [len(servers.mails), len(servers.posts), len(servers.events)]


def test_every_channel_says_what_happened(servers: Servers) -> None:
    assert set(notify(NOTICE).values()) == {"sent"}
    (mail,), (post,), (event,) = servers.mails, servers.posts, servers.events
    assert mail["Subject"] == NOTICE.subject
    assert mail["From"] == "millrace@example.org"
    assert servers.recipients == [["ann@example.org", "bob@example.org"]]
    body = mail.get_body(("html",))
    assert body is not None
    assert "5 &lt; 6 &amp; no more" in body.get_content()
    assert str(NOTICE.link) in body.get_content()
    assert post["text"].splitlines() == [
        "*pipeline has failed: run &lt;1&gt; &amp; more* (error)",
        "Reason: 5 &lt; 6 &amp; no more",
        f"<{NOTICE.link}>",
    ]
    assert event["dedup_key"] == NOTICE.key
    assert event["payload"] == {
        "summary": NOTICE.subject,
        "severity": "error",
        "source": "millrace",
        "custom_details": {"Reason": "5 < 6 & no more"},
    }
    assert event["links"] == [{"href": NOTICE.link, "text": "Airflow"}]


@pytest.mark.parametrize("refusing", CHANNELS)
def test_one_channel_that_refuses_hides_no_other(
    servers: Servers, refusing: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers.refusing.add(refusing)
    outcome = notify(NOTICE)
    assert outcome.pop(f"alerts_{refusing}") != "sent"
    assert set(outcome.values()) == {"sent"}
    assert received(servers) == [int(channel != refusing) for channel in CHANNELS]
    assert f"Not told by alerts_{refusing} (" in caplog.text


@pytest.mark.parametrize("channel", CHANNELS)
def test_only_the_channel_with_a_connection_is_used(
    servers: Servers, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in servers.environment():
        monkeypatch.delenv(name)
    for name, value in servers.environment(channel).items():
        monkeypatch.setenv(name, value)
    outcome = notify(NOTICE)
    assert outcome.pop(f"alerts_{channel}") == "sent"
    assert set(outcome.values()) == {notifications.NO_CONNECTION}
    assert received(servers) == [int(each == channel) for each in CHANNELS]


def test_nobody_to_tell_is_said(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in servers.environment():
        monkeypatch.delenv(name)
    assert set(notify(NOTICE).values()) == {notifications.NO_CONNECTION}
    assert "Nobody is told" in caplog.text


def test_a_mail_connection_without_recipients_says_what_to_add(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = json.loads(servers.environment()["AIRFLOW_CONN_ALERTS_EMAIL"])
    del connection["extra"]["to"]
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_EMAIL", json.dumps(connection))
    assert notify(NOTICE)["alerts_slack"] == "sent"
    assert "names no recipients" in caplog.text


def test_a_server_that_is_away_costs_only_its_channel(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = json.loads(servers.environment()["AIRFLOW_CONN_ALERTS_EMAIL"]) | {"port": 9}
    monkeypatch.setenv("AIRFLOW_CONN_ALERTS_EMAIL", json.dumps(connection))
    assert notify(NOTICE)["alerts_pagerduty"] == "sent"
    assert "Not told by alerts_email" in caplog.text
