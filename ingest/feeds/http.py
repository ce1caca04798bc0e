"""Requests to a REST source: at a set rate, heeding Retry-After and ETag, with bounded answers."""

import email.utils
import logging
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import orjson

from ingest.feeds.interface import SourceError, pause
from ingest.feeds.report import Report

_KNOWN_PAGES = 64


@dataclass(frozen=True)
class HttpSettings:
    """How requests are made; `ingest/feeds/schema.json` describes each setting."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a key
    timeout_seconds: float = 15.0
    requests_per_second: float = 2.0
    retry_after_max_seconds: float = 900.0
    max_body_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True)
class Place:
    """Where a page is: an address and what its query adds."""

    url: str
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """An answer. `body` is None if the page is as it was when `seen` was last called with it."""

    place: Place
    body: Any = None
    etag: str = ""
    link: str = ""  # address of the next page, by the header Link
    items: int = 0  # of an unchanged page: what `seen` was told
    following: Place | None = None  # likewise
    after: str = ""  # the header CB-AFTER: cursor to older entries


class Http:
    """A client of one source. Its waits yield, so that a session stays responsive."""

    def __init__(self, settings: HttpSettings, report: Report) -> None:
        self._settings, self._report = settings, report
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log each address, with any key in its query
        self._client: httpx.Client | None = None  # made when it is needed: it takes a while to read the certificates
        self._next = 0.0  # earliest time of the next request, time.monotonic()
        self._known: OrderedDict[Place, Page] = OrderedDict()

    def get(self, place: Place) -> Generator[None, None, Page]:
        """Get a page, waiting as rate and Retry-After ask. Raises SourceError."""
        client = self._connected()
        while True:
            yield from pause(self._next)
            self._next = time.monotonic() + 1 / self._settings.requests_per_second
            try:
                page, wait = self._request(client, place)
            except httpx.InvalidURL as error:
                raise SourceError("http", f"{_shown(place)} is no address: {error}.") from error
            except httpx.HTTPError as error:
                raise SourceError("connection", f"{_host(place)} can't be reached: {error}.") from error
            if page is not None:
                return page
            self._next = time.monotonic() + wait
            self._report.failed("rate_limited", f"{_host(place)} asks to wait {wait:.1f} s.")

    def _connected(self) -> httpx.Client:
        if self._client is None:
            always = {"User-Agent": "millrace-ingest", "Accept": "application/json"}
            self._client = httpx.Client(
                timeout=self._settings.timeout_seconds, headers=always | dict(self._settings.headers)
            )
        return self._client

    def seen(self, page: Page, items: int, following: Place | None) -> None:
        """Remember that a page was used whole: it is asked for again only if it has changed."""
        if page.etag:
            self._known[page.place] = replace(page, body=None, items=items, following=following)
            self._known.move_to_end(page.place)
            while len(self._known) > _KNOWN_PAGES:
                self._known.popitem(last=False)

    def _request(self, client: httpx.Client, place: Place) -> tuple[Page | None, float]:
        """Return the page, or None and how long the source asks to wait."""
        known = self._known.get(place)
        headers = {"If-None-Match": known.etag} if known else {}
        with client.stream("GET", place.url, params=dict(place.query) or None, headers=headers) as answer:
            if answer.status_code == httpx.codes.NOT_MODIFIED and known:
                return known, 0.0
            if answer.status_code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
                return None, self._retry_after(answer, place)
            if answer.status_code != httpx.codes.OK:
                raise SourceError(
                    f"http_{answer.status_code // 100}xx",
                    f"{_host(place)} answers {answer.status_code} to {_shown(place)}.",
                )
            body = self._body(answer, place)
            link = answer.links.get("next", {}).get("url", "")
            return Page(
                place,
                body,
                etag=answer.headers.get("ETag", ""),
                link=str(answer.url.join(link)) if link else "",
                after=answer.headers.get("CB-AFTER", ""),
            ), 0.0

    def _retry_after(self, answer: httpx.Response, place: Place) -> float:
        wait = retry_after_seconds(answer.headers.get("Retry-After", ""))
        if wait is None or wait > self._settings.retry_after_max_seconds:
            asked = "without saying when to come again" if wait is None else f"and asks to wait {wait:.0f} s"
            raise SourceError(
                f"http_{answer.status_code // 100}xx", f"{_host(place)} answers {answer.status_code} {asked}."
            )
        return wait

    def _body(self, answer: httpx.Response, place: Place) -> Any:
        limit, body = self._settings.max_body_bytes, bytearray()
        deadline = time.monotonic() + self._settings.timeout_seconds  # the client's own is for each part
        for chunk in answer.iter_bytes():
            body += chunk
            if time.monotonic() > deadline:
                raise SourceError("slow", f"{_host(place)} takes longer than timeout_seconds to answer.")
            if len(body) > limit:
                raise SourceError("oversized", f"{_host(place)} answers more than max_body_bytes ({limit}).")
        try:
            return orjson.loads(bytes(body))
        except orjson.JSONDecodeError as error:
            raise SourceError("malformed", f"{_host(place)} answers something else than JSON: {error}.") from error


def retry_after_seconds(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, a number or a date; None if it says nothing."""
    text = text.strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def same_host(one: str, other: str) -> bool:
    """Return whether two addresses name the same scheme, host and port: keys go to no other."""
    a, b = httpx.URL(one), httpx.URL(other)
    return (a.scheme, a.host, a.port) == (b.scheme, b.host, b.port)


def _shown(place: Place) -> str:
    return place.url.partition("?")[0]


def _host(place: Place) -> str:
    return httpx.URL(place.url).netloc.decode()
