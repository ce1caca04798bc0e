"""Operators for the broker and its topics."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from millrace import kafka, preparation
from millrace.operators.base import one_sentence, owner_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckKafkaOperator(BaseOperator):
    """Fails, in one sentence, if no broker answers."""

    template_fields = ("kafka_conn_id",)

    def __init__(self, *, kafka_conn_id: str = kafka.CONNECTION_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: "Context") -> dict[str, Any]:
        """Return the cluster's id, brokers and number of topics."""
        with one_sentence(self.log):
            cluster = kafka.check_broker(kafka.connection_config(self.kafka_conn_id))
        self.log.info("Kafka cluster %s answers: %s", cluster["cluster_id"], ", ".join(cluster["brokers"]))
        return cluster


class CreateTopicsOperator(BaseOperator):
    """Makes the topics of a contract file that are missing.

    Mode `restart` makes a pipeline's own topics anew, and deletes the application's checkpoints and tables,
    because offsets and windows of the old topics mean nothing in the new ones. `resume` keeps all, and
    refuses another range of input than the one that was begun.
    """

    template_fields = ("mode", "input_range", "contract")

    def __init__(
        self,
        *,
        contract: str,
        mode: str,
        own_topics: Sequence[str],
        application: str,
        job: str,
        tables: Sequence[str],
        input_range: dict[str, str],
        kafka_conn_id: str = kafka.CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.contract = contract
        self.mode = mode
        self.own_topics = own_topics
        self.application = application
        self.job = job
        self.tables = tables
        self.input_range = input_range
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: "Context") -> dict[str, Any]:
        """Return which topics were deleted and created."""
        with one_sentence(self.log):
            done = preparation.prepare(
                preparation.Resources(
                    contract=Path(self.contract),
                    topics=tuple(self.own_topics),
                    application=self.application,
                    job=self.job,
                    tables=tuple(self.tables),
                ),
                mode=self.mode,
                input_range=self.input_range,
                owner=owner_of(context),
                config=kafka.connection_config(self.kafka_conn_id),
            )
        for key, names in done.items():
            self.log.info("%s: %s", key, ", ".join(names) or "none")
        return done
