"""What the sinks that take a batch over HTTP share: how a service is reached, and how a batch is cut into pieces.

A piece is one request, or one after the other, that one task sends. Which rows a piece holds must be the same when the
batch is run again, whatever order its rows come in then, because that is how a service knows what it already has. So
rows go to a piece by the hash of their key columns, which a second run computes alike (unlike, say, the last digit of
an average, whose summands come in another order), and lie in it in the order of their keys. The number of pieces
follows from the number of rows and from nothing that may be set, or a setting changed between a crash and the next
start would move rows to other pieces.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlencode

import urllib3
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from streamkit.certificates import read_certificates
from streamkit.settings import ClickHouseSinkSettings, OpenSearchSinkSettings

ROWS_PER_PIECE = 100_000
"""Rows of one piece, about. To change it is to let a batch that was interrupted before, and runs after, come twice."""

JSON = {"timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX", "ignoreNullFields": "false"}
"""How Spark writes rows as JSON: times to the microsecond, which is all they have, and nulls as well."""

DOCUMENT = "_document"
"""Name of the column that `as_documents` adds, which no row has."""

CONNECT_SECONDS, ANSWER_SECONDS = 10, 120
BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.5, 10
RETRIED_STATUSES = (429, 502, 503, 504)
"""Too many requests, and what a proxy or a server says that is starting, ending or overloaded."""


class SinkError(RuntimeError):
    """A sink can't take a batch; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Endpoint:
    """A service and how to prove who we are; goes to the executors as it is."""

    service: str
    url: str
    retries: int
    """Most tries after the first that got no answer, or one of RETRIED_STATUSES."""
    username: str = ""
    password: str = field(default="", repr=False)
    authorities: str = ""
    """Certificate authorities to trust, as PEM text, so that executors need no file; empty for the machine's own."""

    def request(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: str = "", kind: str = ""
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer, whatever its status but 401 and 403; `kind` is the body's type.

        Raises SinkError if no answer comes within the retries, or if the user is refused.
        """
        query = f"?{urlencode(parameters)}" if parameters else ""
        headers = urllib3.make_headers(basic_auth=f"{self.username}:{self.password}") if self.username else {}
        headers |= {"content-type": kind} if kind else {}
        try:
            answer = _connections(self).request(
                method, f"{self.url.rstrip('/')}/{path}{query}", body=body.encode(), headers=headers
            )
        except HTTPError as error:
            raise self._unanswered(error) from error
        if answer.status in (401, 403):
            variable = self.service.upper()
            raise SinkError(
                f"{self.service} at {self.url} refuses the user ({answer.status} {_short(answer)}): correct "
                f"{variable}_USERNAME and {variable}_PASSWORD, or give the user the right"
            )
        return answer

    def patience(self) -> urllib3.Retry:
        """Return how often, and with what pauses, a request is sent again."""
        return urllib3.Retry(
            total=self.retries,
            other=0,  # such as a certificate that is not trusted, which stays so
            redirect=0,
            allowed_methods=None,  # a piece that comes twice is known
            status_forcelist=RETRIED_STATUSES,
            raise_on_status=False,
            backoff_factor=BACKOFF_SECONDS,
            backoff_max=LONGEST_BACKOFF_SECONDS,
            backoff_jitter=BACKOFF_SECONDS,
        )

    def refusal(self, answer: urllib3.BaseHTTPResponse, what: str) -> SinkError:
        """Return the error for an answer that is not the one hoped for; `what` names what was asked."""
        return SinkError(f"{self.service} at {self.url} refuses {what} ({answer.status}): {_short(answer)}")

    def _unanswered(self, error: HTTPError) -> SinkError:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        why = " ".join(str(reason).split())
        if isinstance(reason, SSLError):
            remedy = f"correct {self.service.upper()}_CA_LOCATION"
            return SinkError(f"{self.service} at {self.url} has no certificate that is trusted ({why}): {remedy}")
        return SinkError(f"{self.service} at {self.url} did not answer in {self.retries + 1} tries ({why}): is it up?")


def _short(answer: urllib3.BaseHTTPResponse, most: int = 500) -> str:
    return " ".join(answer.data.decode(errors="replace").split())[:most]


@cache
def _connections(endpoint: Endpoint) -> urllib3.PoolManager:
    """Return connections that are kept from batch to batch."""
    timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
    trusted = ssl.create_default_context(cadata=endpoint.authorities or None)
    return urllib3.PoolManager(retries=endpoint.patience(), timeout=timeout, ssl_context=trusted)


def endpoint(service: str, sink: ClickHouseSinkSettings | OpenSearchSinkSettings) -> Endpoint:
    """Return how to reach a sink's service. Raises SettingsError if the certificate authority can't be read."""
    authorities = ""
    if sink.ca_location:
        name = service.lower()
        authorities = read_certificates(f"sinks.{name}.ca_location", sink.ca_location, f"{name.upper()}_CA_LOCATION")
    return Endpoint(service, sink.url, sink.retries, sink.username, sink.password, authorities)


def as_documents(rows: DataFrame) -> DataFrame:
    """Return rows with one more column, DOCUMENT: the whole row as JSON."""
    return rows.withColumn(DOCUMENT, F.to_json(F.struct(*rows.columns), JSON))


def pieces(rows: DataFrame, count: int, keys: Sequence[str]) -> tuple[DataFrame, int]:
    """Return rows (there are `count`) with a piece in each partition, by `keys` and in their order; and how many."""
    number = max(1, -(-count // ROWS_PER_PIECE))
    return rows.repartition(number, *keys).sortWithinPartitions(*keys, DOCUMENT), number
