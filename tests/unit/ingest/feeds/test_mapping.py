"""From items of any source to messages of a contract."""

from typing import Any

import pytest

from ingest import contracts
from ingest.errors import BadInputError
from ingest.feeds.interface import RefusedError
from ingest.feeds.mapping import FieldMap, as_milliseconds, as_number, as_seconds, as_time

FIELDS: dict[str, dict[str, Any]] = {
    "event_id": {"path": "id", "as": "text"},
    "event_type": {"value": "rate"},
    "event_time": {"path": "at", "as": "time"},
    "source": {"value": "x"},
    "symbol": {"path": "pair.name"},
    "price": {"path": "rates.USD", "as": "number"},
    "quantity": {"path": "volume", "as": "number", "optional": True},
}
ITEM = {"id": 7, "at": "2024-01-31", "pair": {"name": "EUR/USD"}, "rates": {"USD": "1.0512"}}


def fields(**changes: dict[str, Any] | None) -> FieldMap:
    given = {name: spec for name, spec in (FIELDS | changes).items() if spec is not None}
    return FieldMap(given, contracts.load("market-data"), "f.yaml: feeds.x.fields")


def test_paths_constants_and_conversions_make_a_message_that_keeps_the_contract():
    message = fields().message(ITEM)
    contracts.load("market-data").check(message)
    assert message == {
        "schema_version": 1, "event_id": "7", "event_type": "rate", "event_time": "2024-01-31T00:00:00Z",
        "source": "x", "symbol": "EUR/USD", "price": 1.0512,
    }  # fmt: skip
    assert fields().message(ITEM | {"volume": 3})["quantity"] == 3.0


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({**ITEM, "rates": {}}, "price: nothing at rates.USD"),
        ({**ITEM, "rates": {"USD": "much"}}, "price: "),
        ({**ITEM, "rates": {"USD": True}}, "price: True is no number"),
        ({**ITEM, "rates": {"USD": "nan"}}, "price: 'nan' is no number"),
        ({**ITEM, "at": "31.1.2024"}, "event_time: "),
        ({**ITEM, "at": 3}, "event_time: 3 is no ISO 8601 time"),
        ("text", "event_id: nothing at id"),
        (None, "event_id: nothing at id"),
    ],
)
def test_an_item_that_doesnt_fit_is_refused_with_the_field_and_why(item, words):
    with pytest.raises(RefusedError) as caught:
        fields().message(item)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": {"value": "red"}}, r"feeds.x.fields.colour: market-data v1 has no such field"),
        ({"price": {"path": "a", "value": 1}}, r"feeds.x.fields.price: give either a path or a value"),
        ({"price": {"as": "number"}}, r"feeds.x.fields.price: give either a path or a value"),
        ({"price": {"path": "rates.[", "as": "number"}}, r"feeds.x.fields.price: 'rates.\[' is no JMESPath"),
        ({"event_time": None}, r"feeds.x.fields: market-data v1 requires event_time"),
    ],
)
def test_a_mistaken_map_is_refused_with_file_and_key(changes, words):
    with pytest.raises(BadInputError, match=words):
        fields(**changes)


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (as_time, "2024-01-31", "2024-01-31T00:00:00Z"),
        (as_time, "2024-01-31T12:00:00+02:00", "2024-01-31T10:00:00Z"),
        (as_time, "2024-01-31T12:00:00.123456Z", "2024-01-31T12:00:00.123Z"),
        (as_time, "2024-01-31T12:00:00", "2024-01-31T12:00:00Z"),
        (as_seconds, 1_706_659_200.25, "2024-01-31T00:00:00.250Z"),
        (as_milliseconds, "1706659200250", "2024-01-31T00:00:00.250Z"),
        (as_number, "1e3", 1000.0),
    ],
)
def test_values_are_converted(convert, value, expected):
    assert convert(value) == expected


@pytest.mark.parametrize("value", [0, -1, 1e15, "x", None, True, float("inf")])
def test_what_is_no_instant_is_refused(value):
    with pytest.raises(ValueError, match="is no"):
        as_seconds(value)
