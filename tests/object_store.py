"""A real S3 gateway on the loopback interface, as the chart runs one in the cluster."""

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.ports import LOOPBACK, accepts_connections, free_port
from tests.go_tools import go_tool

BUCKET = "millrace"
START_SECONDS = 30


@dataclass(frozen=True)
class ObjectStore:
    """A running gateway with one bucket."""

    environment: dict[str, str]
    """With which clients find it, as a pod gets it."""
    bucket: Path
    """The folder that the gateway keeps the bucket in; an object is a file there."""
    requests: Path
    """Its access log."""

    def count(self, operation: str) -> int:
        """How often one of S3's operations, such as CopyObject, was asked for."""
        return self.requests.read_text().split().count(f"s3_{operation}")


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a gateway with one bucket, and end it after."""
    port, access, secret = free_port(), secrets.token_hex(8), secrets.token_hex(16)
    program = go_tool("versitygw")
    with tempfile.TemporaryDirectory(prefix="millrace-test-s3-") as place:
        root = Path(place) / "data"
        (root / BUCKET).mkdir(parents=True)  # a bucket is a folder
        log, requests = Path(place) / "gateway.log", Path(place) / "requests.log"
        with log.open("wb") as output:
            gateway = subprocess.Popen(
                [str(program), "--port", f"{LOOPBACK}:{port}", "--access-log", str(requests), "posix", str(root)],
                env={**os.environ, "ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not accepts_connections(port):
                if gateway.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the S3 gateway did not start: {log.read_text()[-1000:]}")
                time.sleep(0.02)
            environment = {
                "MILLRACE_STORAGE": f"s3a://{BUCKET}",
                "AWS_ENDPOINT_URL_S3": f"http://{LOOPBACK}:{port}",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": access,
                "AWS_SECRET_ACCESS_KEY": secret,
            }
            yield ObjectStore(environment, root / BUCKET, requests)
        finally:
            gateway.terminate()
            gateway.wait(30)
