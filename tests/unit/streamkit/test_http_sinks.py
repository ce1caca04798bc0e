"""What the sinks by HTTP do with a server's answers, and how they cut a batch; tests/embedded has the real engines."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from streamkit import http_sink
from streamkit.http_sink import Endpoint, SinkError, as_documents, endpoint, pieces
from streamkit.http_sink_settings import OpenSearchSinkSettings
from streamkit.opensearch import check_id_columns, index_piece, with_ids
from streamkit.settings import SettingsError

BUSY = {"type": "rejected_execution_exception", "reason": "queue is full"}
DOCUMENTS = [("a", '{"n":1}'), ("b", '{"n":2}')]


class Scripted:
    """A server that gives the answers it was told to, one after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.asked: list[str] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                scripted.asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
                status, answer = scripted.answers.pop(0)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = Endpoint("OpenSearch", f"http://127.0.0.1:{self.server.server_port}", retries=2)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(http_sink, "BACKOFF_SECONDS", 0.01)
    found = Scripted()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def results(*statuses: int) -> dict[str, object]:
    items = [{"status": status} | ({"error": BUSY} if status >= 300 else {}) for status in statuses]
    return {"errors": any(status >= 300 for status in statuses), "items": [{"index": item} for item in items]}


def test_documents_for_which_there_was_no_room_are_sent_again_and_no_others(scripted):
    scripted.answers = [(200, results(201, 429)), (200, results(201))]
    index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))
    assert [line for line in scripted.asked[1].splitlines() if "_id" not in line] == ['{"n":2}']


def test_documents_for_which_there_is_never_room_are_an_error_with_their_number(scripted):
    scripted.answers = [(200, results(429, 429)), (200, results(429, 201)), (200, results(429))]
    with pytest.raises(SinkError, match="refuses 1 of 2 documents of batch 7 for i; the first for .*queue is full"):
        index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))
    assert len(scripted.asked) == 3


def test_a_document_that_is_refused_for_good_ends_the_batch_at_once(scripted):
    scripted.answers = [(200, results(429, 400))]
    with pytest.raises(SinkError, match="2 of 2 documents"):
        index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))


def test_a_server_that_is_not_ready_is_asked_again_and_one_that_refuses_is_not(scripted):
    scripted.answers = [(503, "starting"), (502, "starting"), (200, results(201, 201))]
    index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))
    assert len(scripted.asked) == 3
    scripted.answers = [(503, "x")] * 3
    with pytest.raises(SinkError, match=r"refuses batch 7 for i \(503\)"):
        index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))
    scripted.answers = [(413, "too large")]
    with pytest.raises(SinkError, match=r"refuses batch 7 for i \(413\): .too large"):
        index_piece(scripted.endpoint, "i", ["n"], 7, iter(DOCUMENTS))
    scripted.answers = [(401, "who?")]
    with pytest.raises(SinkError, match="refuses the user .*OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD"):
        index_piece(replace(scripted.endpoint, username="u"), "i", ["n"], 7, iter(DOCUMENTS))
    assert scripted.answers == []


def test_a_certificate_authority_that_cannot_be_read_is_named():
    sink = OpenSearchSinkSettings("https://x", "i", ca_location="/no/ca.crt", username="", password="")
    with pytest.raises(SettingsError, match="sinks.opensearch.ca_location: /no/ca.crt cannot be read"):
        endpoint("OpenSearch", sink)


def test_id_columns_that_rows_lack_are_named():
    sink = OpenSearchSinkSettings("https://x", "i", ("k", "z"), ca_location="", username="", password="")
    with pytest.raises(SettingsError, match="id_columns: z: no such column: rows have k, n"):
        check_id_columns(sink, ["k", "n"])


def test_a_row_is_in_the_same_piece_whatever_order_rows_come_in(spark, monkeypatch):
    monkeypatch.setattr(http_sink, "ROWS_PER_PIECE", 10)
    rows = [(f"k{i % 23}", i // 23, i / 7) for i in range(45)]
    found = []
    # The last column is as a sum of floats may be: not quite the same when it is computed again.
    for order, error, parts in ((rows, 0.0, 1), (rows[::-1], 1e-12, 4)):
        frame = spark.createDataFrame([(k, n, x + error) for k, n, x in order], "k string, n long, x double")
        cut, number = pieces(as_documents(frame.repartition(parts)), 45, ["k", "n"])
        assert number == 5
        found.append([[(row.k, row.n) for row in part] for part in cut.rdd.glom().collect()])
    assert found[0] == found[1]
    assert sum(map(len, found[0])) == 45
    assert len([part for part in found[0] if part]) > 1


def test_ids_tell_apart_what_a_joined_text_would_not(spark):
    frame = spark.createDataFrame([("a|b", "c"), ("a", "b|c"), ("a", None), (None, "a")], "x string, y string")
    assert len({row._id for row in with_ids(as_documents(frame), ["x", "y"]).collect()}) == 4
