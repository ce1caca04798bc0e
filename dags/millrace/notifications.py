"""Reaches people: by e-mail, in Slack, by PagerDuty; each if its Airflow connection exists.

| connection | type | what it holds |
|---|---|---|
| `alerts_email` | smtp | host, port, login, password; extra: `from_email`, `to` (addresses, commas between) |
| `alerts_slack` | slackwebhook | password: the URL of the incoming webhook |
| `alerts_pagerduty` | pagerduty_events | password: the integration key; host: the base URL, if not the American one |

A channel that doesn't answer is logged and hides no other; nothing is raised, because whoever tells of a failure
must not fail of it.
"""

import html
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from millrace.errors import MillraceError

EMAIL, SLACK, PAGERDUTY = "alerts_email", "alerts_slack", "alerts_pagerduty"
SECONDS = 10
"""For one request; callbacks have less than a minute for everything."""
SUMMARY_LIMIT = 1024
"""PagerDuty refuses a longer summary (characters)."""

SENT = "sent"
NO_CONNECTION = "no connection"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What people are told."""

    key: str
    """The same for the same trouble, so that PagerDuty makes one incident of it."""
    subject: str
    """One line that says what happened, and to what."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else helps, by name."""
    severity: Literal["critical", "error", "warning", "info"] = "error"
    link: str | None = None
    """Where to look."""


def notify(notice: Notice) -> dict[str, str]:
    """Tell people by every channel that has a connection; return what became of each channel. Never raises."""
    channels: tuple[tuple[str, Callable[[Notice], None]], ...] = (
        (PAGERDUTY, _page),
        (SLACK, _post),
        (EMAIL, _mail),
    )
    outcome = {connection_id: _try(connection_id, send, notice) for connection_id, send in channels}
    if all(result == NO_CONNECTION for result in outcome.values()):
        log.warning("Nobody is told of `%s`: none of the connections %s exists.", notice.subject, ", ".join(outcome))
    return outcome


def _try(connection_id: str, send: Callable[[Notice], None], notice: Notice) -> str:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        Connection.get(connection_id)
    except AirflowNotFoundException:
        return NO_CONNECTION
    except Exception as error:  # noqa: BLE001 - as below
        return _failed(connection_id, notice, error)
    try:
        send(notice)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one channel, the others must be tried
        return _failed(connection_id, notice, error)
    log.info("Told by %s: %s", connection_id, notice.subject)
    return SENT


def _failed(connection_id: str, notice: Notice, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    log.error("Not told by %s (%s): %s; check the connection.", connection_id, reason, notice.subject)
    return reason


def _mail(notice: Notice) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with SmtpHook(smtp_conn_id=EMAIL) as smtp:
        to = smtp.conn.extra_dejson.get("to")
        if not to:
            raise MillraceError('its extra names no recipients: add {"to": "someone@example.org"}')
        smtp.send_email_smtp(to=to, subject=" ".join(notice.subject.split()), html_content=as_html(notice))


def _post(notice: Notice) -> None:
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    SlackWebhookHook(slack_webhook_conn_id=SLACK, timeout=SECONDS).send(text=as_mrkdwn(notice))


def _page(notice: Notice) -> None:
    from airflow.providers.pagerduty.hooks.pagerduty_events import PagerdutyEventsHook, prepare_event_data
    from pagerduty import EventsApiV2Client

    # The hook knows the connection, but sends to PagerDuty's American address only; so its client is made here.
    hook = PagerdutyEventsHook(pagerduty_events_conn_id=PAGERDUTY)
    client = EventsApiV2Client(hook.integration_key, base_url=hook.get_connection(PAGERDUTY).host or None)
    client.timeout = SECONDS
    client.max_network_attempts = 1
    client.retry = dict.fromkeys((429, 500, 502, 503, 504), 1)
    event = prepare_event_data(
        summary=notice.subject[:SUMMARY_LIMIT],
        severity=notice.severity,
        source="millrace",
        custom_details=dict(notice.facts),
        dedup_key=notice.key[:255],
        links=[{"href": notice.link, "text": "Airflow"}] if notice.link else None,
    )
    client.send_event(**event)


def as_html(notice: Notice) -> str:
    """Return a notice as an e-mail's body."""
    rows = "".join(
        f"<tr><th align='left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in notice.facts.items()
    )
    link = html.escape(notice.link) if notice.link else ""
    seen = f"<p><a href='{link}'>{link}</a></p>" if link else ""
    return f"<p><b>{html.escape(notice.subject)}</b> ({notice.severity})</p><table>{rows}</table>{seen}"


def as_mrkdwn(notice: Notice) -> str:
    """Return a notice in Slack's markup, where `&`, `<` and `>` alone have a meaning that must be escaped."""
    lines = [f"*{html.escape(notice.subject, quote=False)}* ({notice.severity})"]
    lines += [f"{name}: {html.escape(value, quote=False)}" for name, value in notice.facts.items()]
    return "\n".join([*lines, f"<{notice.link}>"] if notice.link else lines)
