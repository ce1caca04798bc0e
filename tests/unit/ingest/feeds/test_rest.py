"""Any REST source: paging, rates, Retry-After, ETag, order and bounds; from a local HTTP server."""

import email.utils
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ingest import contracts
from ingest.errors import BadInputError
from ingest.feeds import DEFAULT_FILE, settings
from ingest.feeds.http import HttpSettings, retry_after_seconds
from ingest.feeds.interface import Item, SourceError
from ingest.feeds.report import Report
from ingest.feeds.rest import PagingSettings, RestFeed, RestSettings
from tests.unit.ingest.feeds.sources import PATIENCE, Answer, Request, message, new_report, numbers, rest, taken

FIELDS: dict[str, dict[str, Any]] = {
    "event_id": {"path": "join(':', ['x', to_string(n)])"},
    "event_type": {"value": "rate"},
    "event_time": {"path": "at", "as": "time"},
    "source": {"value": "x"},
    "symbol": {"value": "EUR/USD"},
    "price": {"path": "price", "as": "number"},
}


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"n": number, "at": f"2024-01-01T00:{number // 60:02}:{number % 60:02}Z", "price": number} | changes


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [row(number) for number in range(first, last + 1)]


def feed(url: str, report: Report | None = None, **changes: Any) -> RestFeed:
    given: dict[str, Any] = {
        "interval_seconds": 0.01, "fields": FIELDS, "http": HttpSettings(requests_per_second=1000)
    } | changes  # fmt: skip
    return RestFeed(RestSettings(url, **given), contracts.load("market-data"), report or new_report(), "f: feeds.x")


def always(answer: Answer, _request: Request) -> Answer:
    return answer


def polls(one: RestFeed, done: Callable[[], bool]) -> list[Item]:
    """What a feed yields until a condition holds."""
    found: list[Item] = []
    deadline = time.monotonic() + PATIENCE
    session = one.session()
    for item in session:
        assert time.monotonic() < deadline
        if item is not None:
            found.append(item)
        elif done():
            session.close()
            break
    return found


def test_the_shipped_feed_of_eur_usd_reads_what_its_source_documents():
    days = iter(["2026-11-19", "2026-11-19", "2026-11-20"])
    last: dict[str, str] = {}

    def answer(request: Request) -> Answer:
        last.update(date=next(days, "2026-11-20"))
        return Answer({"amount": 1.0, "base": "EUR", "date": last["date"], "rates": {"USD": 1.1517}})

    with rest(answer) as server:
        overrides = [f"url={server.url}/v1/latest", "interval_seconds=0.01", "http.requests_per_second=1000"]
        shipped = settings.load(DEFAULT_FILE, "eur-usd", overrides)
        assert isinstance(shipped.source, RestSettings)
        report = new_report()
        first, second = taken(RestFeed(shipped.source, contracts.load("market-data"), report, shipped.where), 2)
        assert server.requests[0].path == "/v1/latest"
        assert server.requests[0].query == {"base": "EUR", "symbols": "USD"}
    contracts.load("market-data").check(message(first))
    assert message(first) == {
        "schema_version": 1, "event_id": "frankfurter:EUR/USD:2026-11-19", "event_type": "rate",
        "event_time": "2026-11-19T00:00:00Z", "source": "frankfurter", "symbol": "EUR/USD", "price": 1.1517,
    }  # fmt: skip
    assert message(second)["event_id"] == "frankfurter:EUR/USD:2026-11-20"
    assert report.counts["skipped_duplicate"] == 1  # the same day twice


def test_pages_by_number_are_read_until_one_is_empty_and_a_later_poll_goes_on_where_more_may_come():
    held = rows(1, 5)

    def answer(request: Request) -> Answer:
        page = int(request.query["p"])
        return Answer({"data": held[(page - 1) * 2 : page * 2]})

    paging = PagingSettings("page", parameter="p")
    with rest(answer) as server:
        one = feed(server.url, order="ascending", items="data", paging=paging, query={"q": "a b"})
        first = polls(one, lambda: len(server.requests) >= 4)
        assert numbers(first) == [1, 2, 3, 4, 5]
        assert [request.query["p"] for request in server.requests[:4]] == ["1", "2", "3", "4"]
        assert server.requests[0].query["q"] == "a b"
        held.extend(rows(6, 7))
        asked = len(server.requests)
        assert numbers(polls(one, lambda: len(server.requests) >= asked + 3)) == [6, 7]
        assert [request.query["p"] for request in server.requests[asked : asked + 3]] == ["3", "4", "5"]


def test_pages_by_cursor_are_read_until_there_is_none():
    def answer(request: Request) -> Answer:
        first = int(request.query.get("cursor", "1"))
        following = first + 3 if first + 3 <= 8 else None
        return Answer({"items": rows(first, min(first + 2, 8)), "next": following})

    with rest(answer) as server:
        one = feed(server.url, items="items", paging=PagingSettings("cursor", cursor="next"))
        assert numbers(taken(one, 8)) == list(range(1, 9))
        assert [request.query for request in server.requests] == [{}, {"cursor": "4"}, {"cursor": "7"}]


def test_pages_by_the_header_link_are_followed_but_not_to_another_host():
    def answer(request: Request) -> Answer:
        page = int(request.query.get("page", "1"))
        link = f'<{request.path}?page={page + 1}>; rel="next", <{request.path}?page=1>; rel="first"'
        return Answer(rows(page * 2 - 1, page * 2), headers={"Link": link} if page < 3 else {})

    with rest(answer) as server:
        one = feed(f"{server.url}/rows", paging=PagingSettings("link"))
        assert numbers(taken(one, 6)) == [1, 2, 3, 4, 5, 6]
        assert {request.path for request in server.requests} == {"/rows"}
    away = '<http://elsewhere.invalid/rows>; rel="next"'
    with rest(lambda _: Answer(rows(1, 1), headers={"Link": away})) as server:
        with pytest.raises(SourceError, match="another host") as caught:
            list(feed(server.url, paging=PagingSettings("link")).session())
        assert caught.value.kind == "paging"


def test_a_poll_reads_no_more_pages_than_allowed_and_the_next_goes_on_behind_them():
    def answer(request: Request) -> Answer:
        page = int(request.query["page"])
        return Answer(rows(page, page) if page <= 5 else [])

    with rest(answer) as server:
        report = new_report()
        one = feed(server.url, report, paging=PagingSettings("page", max_pages=2))
        assert numbers(taken(one, 5)) == [1, 2, 3, 4, 5]
        assert [request.query["page"] for request in server.requests] == ["1", "2", "3", "4", "5"]
        assert report.counts["source_errors"] == 2


def test_a_page_that_names_itself_as_the_next_is_not_read_for_ever():
    with (
        rest(lambda _: Answer({"items": [], "next": "a"})) as server,
        pytest.raises(SourceError, match="names itself"),
    ):
        list(feed(server.url, items="items", paging=PagingSettings("cursor", cursor="next")).session())


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded_and_counted(status):
    def answer(request: Request) -> Answer:
        if len(server.requests) == 1:
            return Answer({}, status, {"Retry-After": "1"})
        return Answer(rows(1, 1))

    with rest(answer) as server:
        report = new_report()
        assert numbers(taken(feed(server.url, report), 1, sessions=1)) == [1]
        first, second = server.requests[:2]
    assert second.at - first.at >= 1.0
    assert report.counts["source_errors"] == 1


def test_a_rate_limit_without_a_time_or_with_too_long_a_time_is_a_failure():
    for headers, words in (({}, "without saying when"), ({"Retry-After": "3600"}, "asks to wait 3600 s")):
        answer = Answer({}, 429, headers)
        with rest(partial(always, answer)) as server:
            with pytest.raises(SourceError, match=words) as caught:
                list(feed(server.url).session())
            assert caught.value.kind == "http_4xx"


def test_retry_after_is_a_number_or_a_date():
    assert retry_after_seconds(" 7 ") == 7.0
    wait = retry_after_seconds(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert wait is not None
    assert 90 < wait <= 100
    assert retry_after_seconds(email.utils.formatdate(time.time() - 100, usegmt=True)) == 0.0
    assert retry_after_seconds("") is None
    assert retry_after_seconds("soon") is None


def test_requests_keep_the_configured_rate():
    with rest(lambda request: Answer(rows(int(request.query["page"]), int(request.query["page"])))) as server:
        one = feed(server.url, paging=PagingSettings("page"), http=HttpSettings(requests_per_second=10))
        taken(one, 6)
        gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(server.requests)]
    assert len(gaps) >= 5
    # Half: a busy server sees a request, and above all the first one, later than it was sent. Without pauses it's 1/50.
    assert sum(gaps) >= 0.1 * len(gaps) / 2


def test_a_page_that_hasnt_changed_is_not_sent_again_and_the_next_one_is_still_read():
    held = {1: rows(1, 2), 2: rows(3, 3), 3: []}

    def answer(request: Request) -> Answer:
        page = int(request.query["page"])
        etag = f'"{page}-{len(held[page])}"'
        if request.headers.get("if-none-match") == etag:
            return Answer(status=304, headers={"ETag": etag})
        return Answer(held[page], headers={"ETag": etag})

    with rest(answer) as server:
        report = new_report()
        one = feed(server.url, report, paging=PagingSettings("page"))
        assert numbers(polls(one, lambda: len(server.requests) >= 6)) == [1, 2, 3]
        assert "if-none-match" not in server.requests[0].headers
        assert server.requests[3].headers["if-none-match"] == '"1-2"'
        assert not report.counts["skipped_duplicate"]
        held[2].extend(rows(4, 4))
        asked = len(server.requests)
        assert numbers(polls(one, lambda: len(server.requests) >= asked + 3)) == [4]


def test_an_ordered_source_is_resumed_by_event_time_whatever_the_memory_holds():
    with rest(lambda _: Answer(rows(1, 20))) as server:
        report = new_report()
        one = feed(server.url, report, order="ascending", remember=2)
        one.restore([{"event_id": f"x:{number}", "event_time": row(number)["at"]} for number in (14, 13)])
        assert numbers(taken(one, 6)) == [15, 16, 17, 18, 19, 20]
    assert report.counts["skipped_late"] == 12
    assert report.counts["skipped_duplicate"] == 2


def test_an_unordered_source_is_told_by_its_ids_and_keeps_its_order():
    mixed = [row(3), row(1), row(2), row(1)]
    with rest(lambda _: Answer(mixed)) as server:
        report = new_report()
        one = feed(server.url, report)
        one.restore([{"event_id": "x:2", "event_time": row(2)["at"]}])
        assert numbers(polls(one, lambda: len(server.requests) >= 3)) == [3, 1]


def test_a_record_that_breaks_the_contract_is_refused_once():
    with rest(lambda _: Answer([row(1), row(2, price=-2), row(3, price="?"), row(4)])) as server:
        items = polls(feed(server.url), lambda: len(server.requests) >= 3)
    assert numbers(items) == [1, 4]
    bad = [item for item in items if item.message is None]
    assert [item.kind for item in bad] == ["invalid", "malformed"]
    assert "price" in bad[0].reason
    assert "price: " in bad[1].reason


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer({}, 500), "http_5xx"),
        (Answer({}, 404), "http_4xx"),
        (Answer({}, 302, {"Location": "/elsewhere"}), "http_3xx"),
        (Answer(b"<html>"), "malformed"),
        (Answer(rows(1, 59)), "oversized"),
    ],
)
def test_an_answer_that_is_of_no_use_is_a_failure_with_its_kind(answer, kind):
    with rest(lambda _: answer) as server:
        limits = HttpSettings(requests_per_second=1000, max_body_bytes=2000)
        with pytest.raises(SourceError) as caught:
            list(feed(f"{server.url}/?key=secret", http=limits).session())
    assert caught.value.kind == kind
    assert "secret" not in str(caught.value)


def test_a_source_that_is_away_or_slow_is_a_failure():
    with rest(lambda _: Answer()) as server:
        pass
    with pytest.raises(SourceError, match="can't be reached") as caught:
        list(feed(server.url).session())
    assert caught.value.kind == "connection"

    def slow(_request: Request) -> Answer:
        time.sleep(1)
        return Answer([])

    limits = HttpSettings(requests_per_second=1000, timeout_seconds=0.2)
    with rest(slow) as server, pytest.raises(SourceError, match="can't be reached") as caught:
        list(feed(server.url, http=limits).session())


def test_an_answer_that_comes_in_drops_is_given_up():
    limits = HttpSettings(requests_per_second=1000, timeout_seconds=0.3)
    drops = Answer(rows(1, 59), seconds_a_byte=0.05)
    with rest(partial(always, drops)) as server, pytest.raises(SourceError, match="takes longer") as caught:
        list(feed(server.url, http=limits).session())
    assert caught.value.kind == "slow"


def test_headers_are_sent_and_a_page_that_went_away_is_not_asked_for_for_ever():
    held = [rows(1, 1), rows(2, 2)]

    def answer(request: Request) -> Answer:
        assert request.headers["x-key"] == "k"
        page = int(request.query["page"])
        if page > len(held) + 1:
            return Answer({}, 404)
        return Answer(held[page - 1] if page <= len(held) else [])

    with rest(answer) as server:
        limits = HttpSettings(requests_per_second=1000, headers={"X-Key": "k"})
        one = feed(server.url, order="ascending", paging=PagingSettings("page"), http=limits)
        assert numbers(polls(one, lambda: len(server.requests) >= 3)) == [1, 2]
        held[:] = []
        with pytest.raises(SourceError, match="404"):
            list(one.session())
        held[:] = [rows(3, 3)]
        assert numbers(taken(one, 1)) == [3]


def test_paths_and_paging_are_checked_with_file_and_key():
    with pytest.raises(BadInputError, match=r"f: feeds.x.items: 'a\[' is no JMESPath"):
        feed("http://127.0.0.1:1", items="a[")
    with pytest.raises(BadInputError, match=r"f: feeds.x.paging.cursor: is for paging by cursor"):
        feed("http://127.0.0.1:1", paging=PagingSettings("page", cursor="next"))
