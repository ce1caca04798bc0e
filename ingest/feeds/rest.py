"""Any REST source, by configuration: polled at an interval, page by page."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import orjson
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from ingest.contracts import Contract, Message
from ingest.errors import BadInputError
from ingest.feeds.http import Http, HttpSettings, Page, Place, same_host
from ingest.feeds.interface import Item, Items, SourceError, mapped, pause
from ingest.feeds.mapping import FieldMap, compiled
from ingest.feeds.report import Report


@dataclass(frozen=True)
class PagingSettings:
    """How to get from one page to the next."""

    kind: Literal["none", "page", "cursor", "link"] = "none"
    parameter: str = ""
    first: int = 1
    cursor: str = ""
    max_pages: int = 100


@dataclass(frozen=True)
class RestSettings:
    """A REST source; `ingest/feeds/schema.json` describes each setting."""

    url: str
    interval_seconds: float
    fields: Mapping[str, Mapping[str, Any]]
    query: Mapping[str, Any] = field(default_factory=dict)
    order: Literal["ascending", "unordered"] = "unordered"
    remember: int = 10_000
    items: str = "@"
    paging: PagingSettings = field(default_factory=PagingSettings)
    http: HttpSettings = field(default_factory=HttpSettings)


class Sent:
    """What was sent already, in bounded memory: the newest event time, and the last ids."""

    def __init__(self, settings: RestSettings, event_time: str) -> None:
        self._ascending = settings.order == "ascending"
        self._limit, self._field = settings.remember, event_time
        self._newest = ""
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, message: Message) -> None:
        """Note that a message was sent."""
        self._newest = max(self._newest, _sortable(message[self._field]))
        self._remember(message["event_id"])

    def reason_to_skip(self, message: Message) -> str:
        """Return `duplicate` for what was sent, `late` for what is older than an ordered source may still send."""
        if message["event_id"] in self._ids:
            return "duplicate"
        return "late" if self._ascending and _sortable(message[self._field]) < self._newest else ""

    def reason_to_skip_refused(self, raw: bytes) -> str:
        """Return `duplicate` for an item without a message that came before: one dead letter of it is enough."""
        digest = hashlib.sha256(raw).hexdigest()
        if digest in self._ids:
            return "duplicate"
        self._remember(digest)
        return ""

    def _remember(self, name: str) -> None:
        self._ids[name] = None
        self._ids.move_to_end(name)
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)


def _sortable(moment: str) -> str:
    """Write an instant of a contract so that texts compare as instants do."""
    return moment if "." in moment else moment.replace("Z", ".000Z")


class RestFeed:
    """Polls a REST source and sends what it hasn't sent yet."""

    def __init__(self, settings: RestSettings, contract: Contract, report: Report, where: str) -> None:
        self._settings, self._contract, self._report = settings, contract, report
        self._map = FieldMap(settings.fields, contract, f"{where}.fields")
        self._items = compiled(settings.items, f"{where}.items")
        paging = settings.paging
        if (paging.kind == "cursor") != bool(paging.cursor):
            raise BadInputError(f"{where}.paging.cursor: is for paging by cursor, which needs it: add it or remove it.")
        self._cursor = compiled(paging.cursor, f"{where}.paging.cursor") if paging.cursor else None
        self._parameter = paging.parameter or ("cursor" if paging.kind == "cursor" else "page")
        self._http = Http(settings.http, report)
        self._sent = Sent(settings, contract.schema["x-event-time"])
        self._place: Place | None = None  # where the next poll begins, if not at the first page

    def restore(self, sent: Sequence[Message]) -> None:
        """Skip what was sent; see `Feed`."""
        for message in sent:
            self._sent.add(message)

    def session(self) -> Items:
        """Poll for ever; raises SourceError."""
        accepted = False
        while True:
            began = time.monotonic()
            yield from self._poll()
            if not accepted:
                self._report.accepted()
                accepted = True
            self._report.succeeded()
            yield from pause(began + self._settings.interval_seconds)

    def _poll(self) -> Items:
        """Yield what the pages hold; begins where the poll before ended, if the source is ordered."""
        place, begun_at = self._place or self._first(), self._place
        filled: Place | None = None  # the last page that held something: more may come on it
        for _ in range(self._settings.paging.max_pages):
            try:
                page = yield from self._http.get(place)
            except SourceError as error:
                if place == begun_at and error.kind == "http_4xx":
                    self._place = None  # what was there is gone: begin again
                raise
            if page.body is None:
                number, following = page.items, page.following
            else:
                items = self._found(page)
                number, following = len(items), self._following(page, len(items))
                yield from self._new(items)
                self._http.seen(page, number, following)
            filled = place if number else filled
            if following is None:
                self._place = filled if self._settings.order == "ascending" else None
                return
            place = following
        self._place = place  # the next poll goes on here
        self._report.failed("max_pages", f"a poll had more pages than max_pages ({self._settings.paging.max_pages}).")

    def _first(self) -> Place:
        query = tuple((name, str(value)) for name, value in self._settings.query.items())
        if self._settings.paging.kind == "page":
            query = (*query, (self._parameter, str(self._settings.paging.first)))
        return Place(self._settings.url, query)

    def _found(self, page: Page) -> list[Any]:
        found = self._search(self._items, page)
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    def _search(self, path: ParsedResult, page: Page) -> Any:
        try:
            return path.search(page.body)
        except JMESPathError as error:
            reason = " ".join(str(error).split())
            raise SourceError("malformed", f"{path.expression} doesn't fit what the source gives: {reason}.") from error

    def _new(self, items: list[Any]) -> Generator[Item, None, None]:
        for each in items:
            raw = orjson.dumps(each)
            item = mapped(raw, partial(self._message, each))
            reason = self._sent.reason_to_skip(item.message) if item.message else self._sent.reason_to_skip_refused(raw)
            if reason:
                self._report.skipped(reason)
                continue
            yield item
            if item.message:
                self._sent.add(item.message)

    def _message(self, item: Any) -> Message:
        """Return a message that keeps the contract: what doesn't has no id and no time to remember."""
        message = self._map.message(item)
        self._contract.check(message)
        return message

    def _following(self, page: Page, items: int) -> Place | None:
        """Return where the next page is, or None if this was the last. Raises SourceError."""
        query = dict(page.place.query)
        match self._settings.paging.kind:
            case "page" if items:
                query[self._parameter] = str(int(query[self._parameter]) + 1)
                return Place(page.place.url, tuple(query.items()))
            case "cursor" if self._cursor is not None:
                cursor = self._search(self._cursor, page)
                if cursor in (None, "", False):
                    return None
                if query.get(self._parameter) == str(cursor):
                    raise SourceError("paging", f"a page names itself as the next (cursor {cursor}).")
                query[self._parameter] = str(cursor)
                return Place(page.place.url, tuple(query.items()))
            case "link" if page.link:
                if not same_host(page.link, self._settings.url):
                    raise SourceError(
                        "paging", f"the next page is at another host than {self._settings.url}: not followed."
                    )
                return Place(page.link)
        return None
