"""The runs that `CLUSTER_DAGS=all` tries: every DAG, and what each needs in the cluster before it is triggered."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace import drill
from tests import covid_server, trades
from tests.cluster.platform import Platform
from tests.cluster.probes import FEED, Probe, running
from tests.images.dockerfiles import VERSION


@dataclass(frozen=True)
class Case:
    """A run of a DAG."""

    dag_id: str
    parameters: dict[str, Any] = field(default_factory=dict)
    needs: Callable[[Platform], AbstractContextManager[None]] = lambda _: nullcontext()
    """Puts what it needs into the cluster; what is of no use after the run goes with the end of the `with`."""

    drawn: Callable[[str], str] = str
    """Makes the run's id of a beginning that no other run has."""

    @property
    def name(self) -> str:
        """The DAG, and how this run differs from its other ones."""
        return "-".join([self.dag_id, *(value for value in self.parameters.values() if isinstance(value, str))])


DRILL_RATE, DRILL_STEPS, DRILL_TRIES = 0.5, 4, 3


def one_retry_at_least(beginning: str) -> str:
    """Return a run's id by which some step of the drill fails at first, and none for good."""
    for number in itertools.count():
        run_id = f"{beginning}-{number}"
        tries = [
            [drill.luck(run_id, f"step {step}", number + 1) >= DRILL_RATE for number in range(DRILL_TRIES)]
            for step in range(DRILL_STEPS)
        ]
        if all(map(any, tries)) and not all(each[0] for each in tries):
            return run_id
    raise AssertionError


SEND_TRADES = f"""
{inspect.getsource(trades)}
import json, os, sys
from ingest.kafka import security_config

config = {{"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **security_config()}}
print(json.dumps(send_trades(config, datetime.fromisoformat(sys.argv[1]), range(int(sys.argv[2])))))
"""

QUARTER = timedelta(minutes=15)


TRADER = replace(FEED, name="trades")


@contextmanager
def with_trades(platform: Platform) -> Iterator[None]:
    """Have the topic hold a trade for each second of the last half an hour, sent by a pod that may do that."""
    start = datetime.now(UTC).replace(microsecond=0) - 2 * QUARTER
    with running(platform.cluster, TRADER):
        seconds = str(2 * int(QUARTER.total_seconds()))
        if failed := TRADER.run(platform.cluster, SEND_TRADES, start.isoformat(), seconds):
            raise RuntimeError(f"{len(failed)} trades could not be sent: {failed[0]}")
    yield


DASHBOARD_PORT = 8000
DASHBOARD_LABEL = {"millrace.test/dashboard": "true"}
DASHBOARD = f"""
{inspect.getsource(covid_server)}
import time

with covid_server("0.0.0.0", {DASHBOARD_PORT}) as dashboard:
    from datetime import date, timedelta

    days = [(date.today() - timedelta(days=number)).isoformat() for number in range(30)]
    dashboard.values = {{
        (area, metric): dict.fromkeys(days, 5) for area in ("England", "London") for metric in (CASES, DEATHS)
    }}
    time.sleep(7200)
"""
# Has millrace.covid_api, which says where the API has its figures.
DASHBOARD_POD = Probe(
    "dashboard",
    "default",
    DASHBOARD_LABEL,
    image=f"millrace/airflow:{VERSION}",
    command=("python", "-c", DASHBOARD),
    ready_port=DASHBOARD_PORT,
)
CONNECTION = "covid_api"
# What extraEgress.airflow would let out; a policy more lets more out.
LET_OUT: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "test-to-dashboard", "namespace": "airflow"},
    "spec": {
        "podSelector": {"matchLabels": {"tier": "airflow", "component": "worker"}},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": DASHBOARD_LABEL}}],
                "ports": [{"port": DASHBOARD_PORT, "protocol": "TCP"}],
            }
        ],
    },
}


@contextmanager
def with_dashboard(platform: Platform) -> Iterator[None]:
    """Have a pod speak the protocol of the API that publishes the figures, and Airflow know its address."""
    cluster, ask = platform.cluster, platform.airflow.ask
    with running(cluster, DASHBOARD_POD), ExitStack() as closing:
        place = f"--namespace={DASHBOARD_POD.namespace}"
        address = cluster.get("pod", DASHBOARD_POD.name, place)["status"]["podIP"]
        cluster.kubectl("apply", "--filename=-", given=[LET_OUT])
        name, namespace = (LET_OUT["metadata"][each] for each in ("name", "namespace"))
        closing.callback(cluster.kubectl, "delete", "networkpolicy", name, namespace=namespace)
        ask(lambda airflow: airflow.add_connection(CONNECTION, "http", f"http://{address}:{DASHBOARD_PORT}"))
        closing.callback(ask, lambda airflow: airflow.remove_connection(CONNECTION))
        yield


ALL = (
    Case("hello_spark"),
    Case("batch_layer"),
    Case("stream_recovery", {"action": "check"}),
    Case("stream_recovery", {"action": "rewind", "to_batch": 0, "dry_run": False}),
    Case("kafka_spark_pipeline"),
    Case("batch_then_stream"),
    Case("air_quality"),
    Case("market_data", needs=with_trades),
    Case("data_quality"),
    Case("covid_etl", needs=with_dashboard),
    Case("feature_engineering", {"from_date": "2013-01-01", "days": 3}),
    Case("ml_training"),
    Case("ml_training", {"data_set": "flights", "days": 3, "threshold": 0.6}),
    Case("failure_drill", {"failure_rate": DRILL_RATE, "steps": DRILL_STEPS}, drawn=one_retry_at_least),
)
"""In this order: some read what those before them, or the main job, have made."""


def cases(names: str) -> tuple[Case, ...]:
    """Return the runs that CLUSTER_DAGS names: `all`, or DAGs with commas between them.

    Raises:
        ValueError: there is no such DAG.
    """
    if names == "all":
        return ALL
    wanted = names.split(",")
    known = {case.dag_id for case in ALL}
    if unknown := set(wanted) - known:
        raise ValueError(f"CLUSTER_DAGS names {sorted(unknown)[0]!r}: take all, or of {', '.join(sorted(known))}")
    return tuple(case for case in ALL if case.dag_id in wanted)
