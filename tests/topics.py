"""Topics of the brokers that tests start."""

from confluent_kafka.admin import AdminClient, NewTopic

from millrace import kafka

ANSWER_SECONDS = 30
QUIET = {"log_level": 5}
"""Warnings only: not what a client forgets at its end."""


def admin_of(servers: str) -> AdminClient:
    """Return an administrator's client."""
    return AdminClient({"bootstrap.servers": servers, **QUIET})


def create_topics(servers: str, *topics: NewTopic) -> None:
    """Make topics. Raises KafkaException if one can't be made."""
    admin = admin_of(servers)  # Kept: a client that nobody holds answers nothing.
    for done in admin.create_topics(list(topics)).values():
        done.result(ANSWER_SECONDS)


def delete_topics(servers: str, *names: str) -> None:
    """Delete topics and wait until they are gone; others are passed over. Raises MillraceError as `millrace` does."""
    kafka.delete_topics({"bootstrap.servers": servers, **QUIET}, names)
