"""Appending to a Delta table, each part of a topic once, by any number of writers at the same time.

Each commit carries, for each partition of the topic, a transaction: its name, and the offset up to which the table now
holds that partition. Delta refuses a commit if another one with the same name came in between. So what is there
already, from a writer that was killed or was thought dead, is seen before it is written a second time.
"""

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from arro3.core import Schema, Table
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from ingest.errors import BadInputError, IngestError

ATTEMPTS = 20
LONGEST_PAUSE_SECONDS = 2.0
Marks = Mapping[str, int]
"""By name of a transaction, the offset up to which the table holds its partition; not there if it holds nothing."""


def table_url(text: str) -> str:
    """Return a table's URL as the deltalake library takes it: S3's is s3://, a path of this machine is absolute."""
    if "://" not in text:
        return str(Path(text).absolute())
    return re.sub(r"^s3a://", "s3://", text).rstrip("/")


def storage_options(url: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what deltalake needs besides a URL: it reads keys and region from the environment, but not the endpoint
    of this one service, and it refuses one without TLS unless told to.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL_S3")
    if not (url.startswith("s3://") and endpoint):
        return {}
    return {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}


class AppendTable:
    """A Delta table to append to; it is made if there is none."""

    def __init__(self, url: str, schema: Schema, partition_by: str) -> None:
        """Open the table.

        Raises BadInputError if it can't be reached or made, or if something else is there.
        """
        self.url = table_url(url)
        self._options = storage_options(self.url)
        self._partition_by = partition_by
        try:
            self._table = self._open_or_make(schema)
        except (DeltaError, OSError) as error:
            raise BadInputError(
                f"the table {self.url} can't be opened or made ({_reason(error)}): check --to and the rights there."
            ) from error
        there = self._table.metadata().partition_columns
        if there != [partition_by]:
            raise BadInputError(
                f"the table {self.url} is partitioned by {', '.join(there) or 'nothing'}, not by {partition_by}: "
                "something else wrote it; choose another place with --to."
            )

    def _open_or_make(self, schema: Schema) -> DeltaTable:
        try:
            return self._open()
        except TableNotFoundError:
            pass
        try:
            return DeltaTable.create(
                self.url, schema, partition_by=self._partition_by, storage_options=self._options or None
            )
        except DeltaError as error:
            try:
                return self._open()  # somebody else made it at the same time
            except TableNotFoundError:
                raise error from None

    def _open(self) -> DeltaTable:
        return DeltaTable(self.url, storage_options=self._options or None)

    def mark(self, name: str) -> int | None:
        """Return up to which offset the table holds now what a name stands for; None if nothing.

        Raises IngestError if the table can't be read.
        """
        try:
            return self._open().transaction_version(name)
        except (DeltaError, OSError) as error:
            raise IngestError(f"the table {self.url} can't be read ({_reason(error)}): start again.") from error

    def append(self, names: Mapping[str, int], rows: Callable[[Marks], Table]) -> int:
        """Append in one commit, and note up to which offset the table then holds each name; return the rows written.

        `rows` gives what the table lacks, told what it holds; it is asked again if others wrote the same meanwhile.
        Raises IngestError if the table can't be written.
        """
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._wait(attempt)
                    self._table.update_incremental()
                return self._append_once(names, rows)
            except CommitFailedError as error:
                reason = _reason(error)
            except (DeltaError, OSError) as error:
                raise self._failed(_reason(error)) from error
        raise self._failed(reason)

    def _append_once(self, names: Mapping[str, int], rows: Callable[[Marks], Table]) -> int:
        found = {name: self._table.transaction_version(name) for name in names}
        held = {name: mark for name, mark in found.items() if mark is not None}
        ahead = [Transaction(name, offset) for name, offset in names.items() if offset > held.get(name, -1)]
        if not ahead:
            return 0
        table = rows(held)
        write_deltalake(
            self._table,
            table,
            mode="append",
            # Also a writer that knows fewer columns than the table may write.
            schema_mode="merge",
            commit_properties=CommitProperties(app_transactions=ahead),
        )
        return table.num_rows

    @staticmethod
    def _wait(attempt: int) -> None:
        time.sleep(random.random() * min(LONGEST_PAUSE_SECONDS, 0.02 * 2**attempt))  # noqa: S311

    def _failed(self, reason: str) -> IngestError:
        return IngestError(f"the table {self.url} can't be written ({reason}): mend the cause and start again.")


def _reason(error: Exception) -> str:
    """Return what went wrong in one line: the library draws its errors as trees, in colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip(" ↳\t") for line in text.splitlines()]
    return "; ".join(line.rstrip(".") for line in lines if line)
