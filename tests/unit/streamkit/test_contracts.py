import copy
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.contracts import ContractError, load_contract
from streamkit.source import checked
from tests.unit.streamkit.conftest import REPOSITORY
from tests.unit.streamkit.records import encoded, event, frame

GOOD = [
    encoded({}),
    encoded({"event_time": "2013-01-01T10:17:00.123Z"}),
    encoded({"carrier": None, "flight": None, "delay_minutes": -5, "tail_number": "N14228"}),
    encoded({"event_type": "heartbeat"}),
    encoded({"event_id": "é" * 256}),
    encoded({"source": 'quote " and \\ and \n'}),
    encoded({"a_field_of_a_later_version": {"x": [1]}}),
    json.dumps(event(), indent=2).encode() + b"\n",
]
BAD = [
    (b"k", b'{"schema_version":1', "malformed JSON"),
    (b"k", b"", "malformed JSON"),
    (b"k", b"not json", "malformed JSON"),
    (b"k", b"[1,2]", "malformed JSON"),
    (b"k", b'"text"', "malformed JSON"),
    (b"k", None, "malformed JSON"),
    (b"k", encoded({}) + b" trailing", "malformed JSON"),
    (b"k", encoded({}).replace(b'"', b"'"), "malformed JSON"),
    (None, encoded({}), "null key"),
    (None, b"broken", "null key"),
    (b"k", encoded({"source": "s" * 65_536}), "oversized: 65682 bytes, limit 65536"),
    (b"k", encoded({"schema_version": 2}), "unknown schema_version 2"),
    (b"k", encoded({"schema_version": 99, "event_type": "new"}), "unknown schema_version 99"),
    (b"k", encoded({"schema_version": ...}), "invalid schema_version: missing"),
    (b"k", encoded({"schema_version": "1"}), "invalid schema_version: '1' is not of type integer"),
    (b"k", encoded({"event_id": ...}), "invalid event_id: missing"),
    (b"k", encoded({"event_id": None}), "invalid event_id: missing"),
    (b"k", encoded({"event_id": ""}), "invalid event_id: '' is shorter than 1 characters"),
    (b"k", encoded({"event_id": "é" * 257}), f"invalid event_id: '{'é' * 100}' is longer than 256 characters"),
    (b"k", encoded({"event_type": "landed"}), "invalid event_type: 'landed' is not one of departed, arrived"),
    (b"k", encoded({"event_time": ...}), "invalid event_time: missing"),
    (b"k", encoded({"event_time": "yesterday"}), "invalid event_time: 'yesterday' does not match"),
    (b"k", encoded({"event_time": "2013-01-01 10:17:00"}), "invalid event_time: '2013-01-01 10:17:00' does not match"),
    (b"k", encoded({"event_time": "2013-02-30T00:00:00Z"}), "invalid event_time: '2013-02-30T00:00:00Z' is not a date"),
    (b"k", encoded({"source": ""}), "invalid source: '' is shorter than 1 characters"),
    (b"k", encoded({"flight": -1}), "invalid flight: '-1' is less than 0"),
    (b"k", encoded({"flight": 100_000}), "invalid flight: '100000' is more than 99999"),
    (b"k", encoded({"flight": "1545"}), "invalid flight: '1545' is not of type integer"),
    (b"k", encoded({"flight": 1.5}), "invalid flight: '1.5' is not of type integer"),
    (b"k", encoded({"delay_minutes": [2]}), "invalid delay_minutes: '[2]' is not of type integer"),
]


def verdicts(spark, contract, records):
    rows = checked(frame(spark, records), contract).select("offset", "valid", contract.reason().alias("reason"))
    return [(row.valid, row.reason) for row in rows.orderBy("offset").collect()]


def test_good_records_are_valid_and_have_no_reason(spark, contract):
    assert verdicts(spark, contract, [(b"k", value) for value in GOOD]) == [(True, None)] * len(GOOD)


def test_each_bad_record_is_invalid_for_its_own_reason(spark, contract):
    found = verdicts(spark, contract, [(key, value) for key, value, _ in BAD])
    for (key, value, expected), (valid, reason) in zip(BAD, found, strict=True):
        assert not valid, (key, value)
        assert reason.startswith(expected), (key, value, reason)


def test_the_event_time_is_read_to_the_millisecond(spark, contract):
    rows = checked(frame(spark, [(b"k", GOOD[1])]), contract)
    text = rows.select(contract.timestamp().cast("string").alias("t")).first().t
    assert text == "2013-01-01 10:17:00.123"


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
CHANGES = st.dictionaries(
    st.sampled_from(["schema_version", "event_type", "event_time", "flight", "delay_minutes", "event_id", "carrier"]),
    st.one_of(
        st.just(...),
        st.none(),
        st.integers(-200_000, 200_000),
        st.sampled_from(["departed", "2013-06-01T00:00:00Z", "2013-13-01T00:00:00Z", "", "1"]),
        TEXTS,
    ),
    max_size=3,
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CHANGES, min_size=200, max_size=200))
def test_the_verdict_is_that_of_the_schema(spark, contract, batch):
    """Against an independent validator, over random changes of a good event.

    Known and left out: Spark reads a number, where text is wanted, as its digits.
    """
    schema = json.loads((REPOSITORY / "contracts/events/v1.json").read_text())
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    texts = ("event_type", "event_time", "event_id", "carrier")
    events = [event(**change) for change in batch if not any(isinstance(change.get(name), int) for name in texts)]
    found = verdicts(spark, contract, [(b"k", json.dumps(each).encode()) for each in events])
    for each, (valid, reason) in zip(events, found, strict=True):
        assert valid == validator.is_valid(each), (each, reason)
        assert valid == (reason is None)


def write(folder, **versions):
    folder.mkdir()
    for name, schema in versions.items():
        (folder / f"{name}.json").write_text(json.dumps(schema))
    return folder


BASE: dict[str, Any] = {
    "x-event-time": "at",
    "x-max-bytes": 1000,
    "properties": {"schema_version": {"const": 1}, "at": {"type": "string", "format": "date-time"}},
    "required": ["schema_version", "at"],
}


def test_versions_are_read_together(spark, tmp_path):
    second = copy.deepcopy(BASE)
    second["properties"]["schema_version"] = {"const": 2}
    second["properties"]["ratio"] = {"type": ["number", "null"], "exclusiveMinimum": 0}
    contract = load_contract(write(tmp_path / "t", v1=BASE, v2=second))
    assert contract.versions == (1, 2)
    at = "2013-01-01T00:00:00Z"
    values = [
        {"schema_version": 1, "at": at},
        {"schema_version": 2, "at": at, "ratio": 0.5},
        {"schema_version": 2, "at": at, "ratio": 0},
        {"schema_version": 3, "at": at},
    ]
    found = verdicts(spark, contract, [(b"k", json.dumps(value).encode()) for value in values])
    assert found == [
        (True, None),
        (True, None),
        (False, "invalid ratio: '0.0' is not more than 0"),
        (False, "unknown schema_version 3"),
    ]


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("tags", {"type": "array"}, "one of string, integer, number, boolean is needed"),
        ("x", {"type": ["string", "integer"]}, "one of string, integer, number, boolean is needed"),
        ("x", {"type": "string", "not": {}}, "does not enforce not"),
    ],
)
def test_what_cannot_be_enforced_is_refused(tmp_path, name, keywords, words):
    schema = copy.deepcopy(BASE)
    schema["properties"][name] = keywords
    with pytest.raises(ContractError, match=words):
        load_contract(write(tmp_path / "t", v1=schema))


def test_a_folder_without_contract_and_one_without_event_time_are_refused(tmp_path):
    with pytest.raises(ContractError, match="holds no contract"):
        load_contract(tmp_path / "none")
    with pytest.raises(ContractError, match="x-event-time is missing"):
        load_contract(write(tmp_path / "t", v1={"properties": {}, "x-max-bytes": 1}))


MARKET = {
    "schema_version": 1,
    "event_id": "e",
    "event_type": "trade",
    "event_time": "2024-01-01T00:00:00Z",
    "source": "test",
    "symbol": "BTC/USDT",
    "price": 1.5,
}


def test_a_field_that_another_s_value_makes_required_is_missed(spark):
    """Each verdict is that of an independent validator, too."""
    folder = REPOSITORY / "contracts/market-data"
    validator = jsonschema_rs.validator_for(json.loads((folder / "v1.json").read_text()), validate_formats=True)
    changes: list[tuple[dict[str, Any], str | None]] = [
        ({}, None),
        ({"price": ...}, "invalid price: missing"),
        ({"symbol": ...}, "invalid symbol: missing"),
        ({"event_type": "rate", "price": None}, "invalid price: missing"),
        ({"price": "1.5"}, "invalid price: '1.5' is not of type number"),
        ({"price": 0}, "invalid price: '0.0' is not more than 0"),
        ({"event_type": "heartbeat", "symbol": ..., "price": ...}, None),
        ({"event_type": ..., "price": ...}, "invalid event_type: missing"),
        ({"quantity": None}, None),
    ]
    messages = [{k: v for k, v in {**MARKET, **change}.items() if v is not ...} for change, _ in changes]
    found = verdicts(spark, load_contract(folder), [(b"k", json.dumps(each).encode()) for each in messages])
    assert found == [(reason is None, reason) for _, reason in changes]
    assert [valid for valid, _ in found] == [validator.is_valid(each) for each in messages]


@pytest.mark.parametrize(
    "rule",
    [
        {"if": {"properties": {"kind": {"const": "x"}}}, "then": {"required": ["at"]}},
        {"if": {"properties": {"kind": {"enum": ["x"]}}}, "then": {"properties": {}}},
        {"if": {"required": ["kind"]}, "then": {"required": ["at"]}},
        {"allOf": [{"required": ["kind"]}]},
        {"else": {"required": ["at"]}},
    ],
)
def test_another_rule_between_fields_is_refused(tmp_path, rule):
    with pytest.raises(ContractError, match="streamkit enforces only `if` one field"):
        load_contract(write(tmp_path / "t", v1={**BASE, **rule}))
