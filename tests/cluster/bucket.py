"""The bucket that checkpoints, tables, reports and task logs are in, as the cluster's object store has it."""

import base64
import contextlib
import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from unittest import mock

import botocore.session
from botocore.config import Config

from millrace.verification import Verification, Windows, verify
from tests.cluster.interface import Cluster
from tests.cluster.lines import PATIENCE, Line

NAME = "millrace"
REGION = "us-east-1"
TABLE = "tables/event_windows"
COMMITS = "checkpoints/event-windows/event-windows/commits/"


class Bucket:
    """Reads by the S3 protocol, with the keys of the platform."""

    def __init__(self, cluster: Cluster) -> None:
        data = cluster.get("secret", "object-store", "--namespace=millrace")["data"]
        self._keys = {name: base64.b64decode(value).decode() for name, value in data.items()}
        self._line = Line(cluster, "millrace", "service/object-store", 7070)
        self._known: tuple[str, Any] | None = None

    def close(self) -> None:
        """Take the way to it down."""
        self._line.close()

    def names(self, prefix: str = "", patience: float = PATIENCE) -> list[str]:
        """Return the names of all objects that begin so. Raises NoWayError."""
        return [found["Key"] for found in self._objects(prefix, patience)]

    def read_json(self, name: str) -> Any:
        """Return what an object holds. Raises NoWayError."""
        return json.loads(
            self._line.ask(lambda url: self._client(url).get_object(Bucket=NAME, Key=name)["Body"].read())
        )

    def last_commit(self, patience: float = PATIENCE) -> int:
        """Return the number of the newest batch that the checkpoint says is done; -1 if there is none.

        Raises:
            NoWayError: the object store does not answer within `patience` seconds.
        """
        names = [name.rpartition("/")[2] for name in self.names(COMMITS, patience)]
        return max((int(name) for name in names if name.isdecimal()), default=-1)

    def newest(self, prefix: str) -> float:
        """Return when the last of the objects that begin so was written, in seconds since 1970. Raises NoWayError."""
        return max(found["LastModified"].timestamp() for found in self._objects(prefix))

    def verify(self, first_day: date, days: int, table: str = TABLE) -> Verification:
        """Compare a Delta table with the windows that DuckDB computes from the recorded flights."""
        windows = Windows(first_day, days, timedelta(minutes=5), timedelta(minutes=1))
        # Another way is made, if the old one broke: the libraries say only that they can't read.
        self.names(COMMITS)
        with self._found_by_libraries():
            return self._line.ask(lambda url: self._verify(url, windows, table))

    def _objects(self, prefix: str, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Return what S3 lists of each object that begins so. Raises NoWayError."""

        def question(url: str) -> list[dict[str, Any]]:
            pages = self._client(url).get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=prefix)
            return [found for page in pages for found in page.get("Contents", ())]

        return self._line.ask(question, patience)

    def _verify(self, url: str, windows: Windows, table: str) -> Verification:
        with mock.patch.dict(os.environ, AWS_ENDPOINT_URL_S3=url):
            return verify(windows, f"s3://{NAME}/{table}", None, "")

    @contextlib.contextmanager
    def _found_by_libraries(self) -> Iterator[None]:
        keys = {
            "AWS_ACCESS_KEY_ID": self._keys["access-key"],
            "AWS_SECRET_ACCESS_KEY": self._keys["secret-key"],
            "AWS_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        with mock.patch.dict(os.environ, keys):
            yield

    def _client(self, url: str) -> Any:
        if self._known is None or self._known[0] != url:
            self._known = (url, self._new_client(url))
        return self._known[1]

    def _new_client(self, url: str) -> Any:
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=self._keys["access-key"],
            aws_secret_access_key=self._keys["secret-key"],
            # No proxy: the address is a port of this machine. One try: the line makes another way for the next.
            config=Config(
                proxies={},
                connect_timeout=5,
                read_timeout=20,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )
