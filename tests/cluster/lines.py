"""Ways into the cluster, from this machine, that are made anew when they break."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from k8s.install.airflow_api import AirflowUnreachableError
from tests.cluster.interface import Cluster

T = TypeVar("T")

BROKEN = (
    OSError,
    http.client.HTTPException,
    httpx.HTTPError,
    AirflowUnreachableError,
    BotoCoreError,
    # What the cluster raises where nothing is there to lead to.
    RuntimeError,
)
"""What comes of asking over a way that leads nowhere any more."""
PATIENCE = 90.0


class NoWayError(Exception):
    """Nobody answered in time."""


class Line:
    """A port of a service, for one question at a time.

    A forwarded port ends with the pod that it led to, and with the kubelet that carries it; both come back.
    """

    def __init__(self, cluster: Cluster, namespace: str, target: str, port: int) -> None:
        self._cluster = cluster
        self._place = (namespace, target, port)
        self._open = contextlib.ExitStack()
        self._url: str | None = None
        self._lock = threading.RLock()

    def ask(self, question: Callable[[str], T], patience: float = PATIENCE) -> T:
        """Return what `question` makes of the URL, asking again while nobody answers.

        Raises:
            NoWayError: nobody did within `patience` seconds; with 0 it is asked once.
        """
        deadline = time.monotonic() + patience
        with self._lock:
            while True:
                try:
                    if self._url is None:
                        self._url = self._open.enter_context(self._cluster.forward(*self._place))
                    return question(self._url)
                except (*BROKEN, ClientError) as error:
                    if isinstance(error, ClientError) and not _asks_for_patience(error):
                        raise
                    self.close()
                    if time.monotonic() >= deadline:
                        raise NoWayError(f"{'/'.join(map(str, self._place))} does not answer: {error}") from error
                time.sleep(0.5)

    def close(self) -> None:
        """Take the way down; the next question makes another."""
        with self._lock:
            self._url = None
            with contextlib.suppress(*BROKEN):
                self._open.close()


def _asks_for_patience(error: ClientError) -> bool:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
