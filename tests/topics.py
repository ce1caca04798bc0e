"""Topics of the brokers that tests start."""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

ANSWER_SECONDS = 30


def admin_of(servers: str) -> AdminClient:
    """Return an administrator's client that prints warnings only, not what it forgets at its end."""
    return AdminClient({"bootstrap.servers": servers, "log_level": 5})


def create_topics(servers: str, *topics: NewTopic) -> None:
    """Make topics. Raises KafkaException if one can't be made."""
    admin = admin_of(servers)  # Kept: a client that nobody holds answers nothing.
    for done in admin.create_topics(list(topics)).values():
        done.result(ANSWER_SECONDS)


def delete_topics(servers: str, *names: str) -> None:
    """Delete topics; those that are not there are passed over. Raises KafkaException if one can't be deleted."""
    admin = admin_of(servers)
    for done in admin.delete_topics(list(names)).values():
        error = done.exception(ANSWER_SECONDS)
        if error and not (
            isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        ):
            raise error
