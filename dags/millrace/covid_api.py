"""The UKHSA data dashboard's public API: daily figures of COVID-19 by area (https://ukhsa-dashboard.data.gov.uk).

A metric of an area is a paged list of figures, at `<base>/themes/.../geographies/<area>/metrics/<metric>`; what areas
there are is listed at `<base>/themes/.../geographies`. Figures of recent days are corrected as reports come in. The
base URL is that of the Airflow connection `covid_api` (its host), or the public one without that connection.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from millrace.errors import MillraceError

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

CONNECTION_ID = "covid_api"
PUBLIC_URL = "https://api.ukhsa-dashboard.data.gov.uk"
TOPIC_PATH = "themes/infectious_disease/sub_themes/respiratory/topics/COVID-19"
PAGE_SIZE = 365
"""The API's largest page (figures)."""
SECONDS = 30.0
"""For one request."""
TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before a request is sent again; twice as long each time, or what the server asks for (Retry-After)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """One metric of one area."""

    geography_type: str
    geography: str
    metric: str

    @property
    def path(self) -> str:
        """Its place below the base URL."""
        return f"{areas_path(self.geography_type)}/{quote(self.geography)}/metrics/{quote(self.metric)}"


def areas_path(geography_type: str) -> str:
    """Return the place of the list of areas of one kind."""
    return f"{TOPIC_PATH}/geography_types/{quote(geography_type)}/geographies"


def base_url() -> str:
    """Return the API's base URL, without a slash at its end."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get(CONNECTION_ID)
    except AirflowNotFoundException:
        return PUBLIC_URL
    host = (connection.host or "").rstrip("/")
    if not host:
        raise MillraceError(f"The Airflow connection `{CONNECTION_ID}` has no host: put the API's base URL there.")
    if "://" in host:
        return host
    return f"{connection.schema or 'https'}://{host}" + (f":{connection.port}" if connection.port else "")


class Api:
    """Asks the API; again where that may help: no answer, 429 (after the time it asks for) and 5xx.

    Raises MillraceError if it still doesn't answer, or in another way than documented.
    """

    def __init__(self, base: str, first_wait: float | None = None) -> None:
        import httpx
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        self._base = base
        self._first_wait = FIRST_WAIT if first_wait is None else first_wait
        self._client = httpx.Client(timeout=SECONDS, follow_redirects=True, headers={"Accept": "application/json"})
        self._retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            wait=self._wait,
            stop=stop_after_attempt(TRIES),
            before_sleep=_say,
            reraise=True,
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def areas(self, geography_type: str) -> list[str]:
        """Return the names of all areas of one kind; empty if there is no such kind."""
        found = self._get(areas_path(geography_type))
        if found is None:
            return []
        try:
            return sorted(area["name"] for area in found)
        except (KeyError, TypeError) as error:
            raise self._unexpected(areas_path(geography_type), error) from error

    def figures(self, series: Series, first: date, end: date) -> Iterator[dict[str, Any]] | None:
        """Return the figures of the days from `first` to before `end`, as the API gives them; None if it has none.

        The years of these days are read, page by page: the API filters by year.
        """
        years = range(first.year, (end - timedelta(days=1)).year + 1)
        pages = [page for year in years for page in self._pages(series.path, year)]
        if not any(pages):
            return None
        wanted = (first.isoformat(), end.isoformat())
        # A figure without a proper date is handed on: what becomes of it isn't decided here.
        return (row for page in pages for row in page if not _elsewhere(row, *wanted))

    def _pages(self, path: str, year: int) -> Iterator[list[dict[str, Any]]]:
        number, following = 1, True
        while following:
            found = self._get(path, year=year, page=number, page_size=PAGE_SIZE)
            if found is None:
                return
            try:
                yield list(found["results"])
                following = bool(found["next"])
            except (KeyError, TypeError) as error:
                raise self._unexpected(path, error) from error
            number += 1

    def _get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path; None if there is nothing (404)."""
        import httpx

        url = f"{self._base}/{path}"
        try:
            response = self._retrying(self._ask, url, query)
            return None if response.status_code == 404 else response.json()
        except httpx.HTTPError as error:
            raise MillraceError(
                f"{url} gives no answer that can be used ({_words(error)}): see whether that service works, "
                f"and the connection `{CONNECTION_ID}`."
            ) from error
        except ValueError as error:
            raise self._unexpected(path, error) from error

    def _ask(self, url: str, query: dict[str, Any]) -> "httpx.Response":
        response = self._client.get(url, params=query)
        return response if response.status_code == 404 else response.raise_for_status()

    def _wait(self, state: "RetryCallState") -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "response", None)
        header = asked.headers.get("Retry-After", "") if asked is not None else ""
        wait = float(header) if header.isdigit() else self._first_wait * 2 ** (state.attempt_number - 1)
        return min(wait, LONGEST_WAIT)

    def _unexpected(self, path: str, error: Exception) -> MillraceError:
        return MillraceError(
            f"{self._base}/{path} answers in another way than its documentation says "
            f"({type(error).__name__}: {error}): see whether the API has changed."
        )


def _say(state: "RetryCallState") -> None:
    error = state.outcome.exception() if state.outcome else None
    wait = state.next_action.sleep if state.next_action else 0
    log.warning("%s: %s; asking again in %g s", state.args[0], _words(error), wait)


def _words(error: BaseException | None) -> str:
    answer = getattr(error, "response", None)
    return f"HTTP status {answer.status_code}" if answer is not None else str(error) or type(error).__name__


def _may_pass(error: BaseException) -> bool:
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _elsewhere(row: dict[str, Any], first: str, end: str) -> bool:
    day = row.get("date")
    return isinstance(day, str) and len(day) == len(first) and not first <= day < end
