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
from k8s.install.errors import UserError
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
        while True:
            with self._lock:
                try:
                    return question(self._way())
                except ClientError as error:
                    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500:
                        raise
                    trouble = str(error)
                except BROKEN as error:
                    trouble = str(error)
                self.close()
            if time.monotonic() >= deadline:
                raise NoWayError(f"{' '.join(map(str, self._place))} does not answer: {trouble}")
            time.sleep(0.5)

    def _way(self) -> str:
        if self._url is None:
            try:
                self._url = self._open.enter_context(self._cluster.forward(*self._place))
            except UserError as error:
                raise RuntimeError(str(error)) from error
        return self._url

    def close(self) -> None:
        """Take the way down; the next question makes another."""
        with self._lock:
            self._url = None
            with contextlib.suppress(*BROKEN):
                self._open.close()
