"""Runs what the chart renders on this machine: the object store's pod, and whatever else is a program."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from botocore.client import Config
from botocore.session import get_session

from embedded.ports import free_port
from tests.charts.render import render_chart, workloads
from tests.go_tools import go_tool

START_SECONDS = 60
KEYS = {"access-key": "the-access-key", "secret-key": "the-secret-key"}
"""What the secret object-store would hold."""


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the environment that Kubernetes would set, with what stands in secrets from KEYS."""
    return {
        each["name"]: each["value"] if "value" in each else KEYS[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in container.get("env", [])
    }


class Gateway:
    """The object store's pod, on this machine: its volume is a folder, its port a free one."""

    def __init__(self, volume: Path) -> None:
        pod = workloads(render_chart())["StatefulSet/object-store"]
        [self.init] = pod["initContainers"]
        [self.main] = pod["containers"]
        [port] = self.main["ports"]
        self.volume, self.port, self.rendered_port = volume, free_port(), port["containerPort"]
        self.url = f"http://127.0.0.1:{self.port}"

    def here(self, arguments: list[str]) -> list[str]:
        def moved(argument: str) -> str:
            return argument.replace("/data", str(self.volume)).replace(
                f":{self.rendered_port}", f"127.0.0.1:{self.port}"
            )

        return [moved(each) for each in arguments]

    def initialise(self) -> None:
        subprocess.run(self.here(self.init["command"]), check=True, timeout=60)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        command = [str(go_tool("versitygw")), *self.here(self.main["args"])]
        process = subprocess.Popen(command, env=environment(self.main), stdout=subprocess.DEVNULL)
        try:
            path = self.main["startupProbe"]["httpGet"]["path"]
            wait_until(lambda: httpx.get(f"{self.url}{path}").status_code == 200, process, httpx.TransportError)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def client(self, secret: str = KEYS["secret-key"]) -> Any:
        session = get_session()
        session.set_credentials(KEYS["access-key"], secret)
        return session.create_client(
            "s3", region_name="us-east-1", endpoint_url=self.url, config=Config(retries={"total_max_attempts": 1})
        )


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *errors: type[Exception]) -> None:
    """Wait until something is so; fail if the process ends before."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if ready():
                return
        except errors:
            pass
        assert process.poll() is None, f"it ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"not ready after {START_SECONDS} s"
        time.sleep(0.05)
