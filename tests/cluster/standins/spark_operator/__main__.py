"""The stand-in for Kubeflow's spark-operator, as its chart starts it."""

import argparse
import logging
import os
import signal
import threading
from http import HTTPStatus

from tests.cluster.standins.spark_operator import submission
from tests.cluster.standins.spark_operator.cluster import Cluster, connect
from tests.cluster.standins.spark_operator.controller import Controller, Settings
from tests.cluster.standins.spark_operator.metrics import Metrics
from tests.cluster.standins.spark_operator.server import serve

HEALTH_PORT = 8081
END_SECONDS = 25
"""For submissions under way when the pod is asked to go: below the 30 s that its container then has."""


def main() -> None:
    """Run until SIGTERM."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(threadName)s: %(message)s")
    master = submission.master(os.environ)
    controller = Controller(
        Cluster(connect()),
        Settings(
            namespaces=options.namespaces.split(","),
            workers=options.controller_threads,
            ui_service=options.enable_ui_service == "true",
            driver_patience=options.driver_pod_creation_grace_period,
        ),
        lambda app: submission.submit(app, master),
        Metrics(options.metrics_labels.split(",")),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    controller.start()

    def ready() -> tuple[HTTPStatus, str]:
        return (HTTPStatus.OK, "ok") if controller.ready() else (HTTPStatus.SERVICE_UNAVAILABLE, "not yet")

    serve("", HEALTH_PORT, {"/healthz": lambda: (HTTPStatus.OK, "ok"), "/readyz": ready})
    if options.metrics_port:
        serve("", options.metrics_port, {"/metrics": lambda: (HTTPStatus.OK, controller.metrics.text())})
    ended.wait()
    if not controller.stop(END_SECONDS):
        logging.warning("a submission was cut off")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespaces", required=True, help="job namespaces, separated by commas")
    parser.add_argument("--controller-threads", type=int, default=10)
    parser.add_argument("--enable-ui-service", choices=("true", "false"), default="true")
    parser.add_argument("--driver-pod-creation-grace-period", type=_seconds, default=10.0, help="such as 10s")
    parser.add_argument("--metrics-port", type=int, default=0, help="0 for no metrics")
    parser.add_argument("--metrics-labels", default="app_type")
    return parser.parse_args()


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


if __name__ == "__main__":
    main()
