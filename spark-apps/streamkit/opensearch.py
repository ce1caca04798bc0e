"""An index of OpenSearch or Elasticsearch as a sink: each row one document, in effect once, by the document's id.

The id is a hash of the columns that name a row, so that a batch that is run again writes the same documents over
themselves. No version is sent along: one query writes, batch after batch, so what comes last is the newest; and an app
that was set back to an earlier batch may write what it has written before. Two rows of a batch with the same id would
leave one document, so they are an error.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from streamkit.http_sink import DOCUMENT, JSON, Endpoint, SinkError, as_documents, endpoint, pieces
from streamkit.settings import OpenSearchSinkSettings, SettingsError

REQUEST_BYTES = 5_000_000
"""Size of one request, about: what OpenSearch's guide advises to begin with."""

BUSY = 429
"""The status of a document for which the server had no room: it may be sent again."""

ID = "_id"

Action = tuple[str, str]
"""What to do, as JSON, and the document."""


class OpenSearchSink:
    """Writes batches to one index."""

    def __init__(self, sink: OpenSearchSinkSettings) -> None:
        """Read what is needed to reach the server. Raises SettingsError."""
        self._sink = sink
        self._endpoint = endpoint("OpenSearch", sink)
        self._checked = False

    def write(self, rows: DataFrame, count: int, keys: list[str], batch: int) -> None:
        """Write one batch of `count` rows, which `keys` name. Raises SinkError, or what Spark makes of it in a task."""
        if not self._checked:
            self._check()
            self._checked = True
        if not count:
            return
        names = list(self._sink.id_columns) or keys
        parts, _ = pieces(with_ids(as_documents(rows), names), count, [ID])
        send = partial(index_piece, self._endpoint, self._sink.index, names, batch)
        parts.select(ID, DOCUMENT).foreachPartition(send)

    def _check(self) -> None:
        answer = self._endpoint.request("HEAD", self._sink.index)
        if answer.status == 404:
            raise SinkError(f"OpenSearch at {self._sink.url} has no index {self._sink.index}: create it first")
        if answer.status != 200:
            raise self._endpoint.refusal(answer, f"to say whether it has the index {self._sink.index}")


def check_id_columns(sink: OpenSearchSinkSettings, columns: list[str]) -> None:
    """Raise SettingsError if the settings name a column for the id that rows do not have."""
    for name in sink.id_columns:
        if name not in columns:
            raise SettingsError(f"sinks.opensearch.id_columns: {name}: no such column: rows have {', '.join(columns)}")


def with_ids(documents: DataFrame, names: list[str]) -> DataFrame:
    """Return documents, each with its ID: SHA-256 of the named columns as JSON, which no two values share."""
    return documents.select(F.sha2(F.to_json(F.struct(*names), JSON), 256).alias(ID), DOCUMENT)


def index_piece(service: Endpoint, index: str, names: list[str], batch: int, documents: Iterator[Any]) -> None:
    """Index one piece of a batch, in order of the ids; runs in a task. Raises SinkError."""
    actions: list[Action] = []
    size, last = 0, ""
    for identity, document in documents:
        if identity == last:
            raise SinkError(
                f"two rows of batch {batch} have the same {', '.join(names)}, and would be one document: "
                "set sinks.opensearch.id_columns to columns that name a row"
            )
        last = identity
        actions.append((json.dumps({"index": {"_id": identity}}), document))
        size += len(document)
        if size >= REQUEST_BYTES:
            _bulk(service, index, batch, actions)
            actions, size = [], 0
    if actions:
        _bulk(service, index, batch, actions)


def _bulk(service: Endpoint, index: str, batch: int, actions: list[Action]) -> None:
    """Send actions by the bulk API, which answers 200 although documents failed; those for which it had no room again.

    Raises SinkError with the number of documents that were refused, and why the first one was.
    """
    number, patience = len(actions), service.patience()
    while True:
        body = "".join(f"{action}\n{document}\n" for action, document in actions)
        answer = service.request("POST", f"{index}/_bulk", body=body, kind="application/x-ndjson")
        if answer.status != 200:
            raise service.refusal(answer, f"batch {batch} for {index}")
        results = [item["index"] for item in answer.json()["items"]]
        failures = [result for result in results if result["status"] >= 300]
        if not failures:
            return
        if not all(failure["status"] == BUSY for failure in failures) or not patience.total:
            raise SinkError(
                f"OpenSearch at {service.url} refuses {len(failures)} of {number} documents of batch {batch} for "
                f"{index}; the first for {_reason(failures[0]['error'])}"
            )
        actions = [action for action, result in zip(actions, results, strict=True) if result["status"] == BUSY]
        patience = patience.increment(response=answer)
        patience.sleep()


def _reason(error: dict[str, Any]) -> str:
    cause = error.get("caused_by", {}).get("reason")
    return f"{error['type']}: {error['reason']}" + (f" ({cause})" if cause else "")
