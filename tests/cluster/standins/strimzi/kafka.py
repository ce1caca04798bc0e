"""Kafka's brokers, as one of the cluster's own parts asks them."""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.cluster.standins.strimzi.clusters import RefusedError

SECONDS = 15.0
_NO_ANSWER = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError.LEADER_NOT_AVAILABLE,
}


class UnansweredError(Exception):
    """The brokers did not answer; the message is a sentence."""


class Kafka:
    """The client for administration, made anew after no answer: it finds a restarted broker only for some questions."""

    def __init__(self, environment: Mapping[str, str], seconds: float = SECONDS) -> None:
        """Prepare; `environment` is a pod's, and `seconds` is how long each answer may take."""
        self.seconds = seconds
        self._settings = settings(environment)
        self._admin: AdminClient | None = None

    @property
    def admin(self) -> AdminClient:
        """The client as it is now: not to be kept."""
        if self._admin is None:
            self._admin = AdminClient(self._settings)
        return self._admin

    def answers(self, futures: Iterable[Future], absent: int | None = None) -> list[Any]:
        """Return what the brokers answer, with None for those answers that have the error code `absent`.

        Raises RefusedError with what they say against it, UnansweredError.
        """
        return [self._answer(future, absent) for future in futures]

    def unanswered(self, what: object) -> UnansweredError:
        """Return the error that the brokers didn't answer, and begin anew with the next question."""
        self._admin = None
        return UnansweredError(f"Kafka did not answer: {what}")

    def _answer(self, future: Future, absent: int | None) -> Any:
        try:
            # The client gives up first, and says more.
            return future.result(self.seconds + 5)
        except TimeoutError:
            raise self.unanswered(f"nothing came within {self.seconds + 5:.0f} s") from None
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() == absent:
                return None
            if reason.code() in _NO_ANSWER:
                raise self.unanswered(reason.str()) from None
            raise RefusedError(reason.str(), "KafkaError") from None


def settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how to connect, from a pod's environment: with the one key and certificate of a folder."""
    folder = Path(environment["KAFKA_KEYS"])
    [key], [certificate] = sorted(folder.glob("*.key")), sorted(folder.glob("*.crt"))
    return {
        "bootstrap.servers": environment["KAFKA_BOOTSTRAP_SERVERS"],
        "security.protocol": "ssl",
        "ssl.ca.location": environment["KAFKA_AUTHORITY"],
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
        # A broker that was restarted is found again soon, and is not asked for all the time until then.
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
        "log_level": 4,
    }
