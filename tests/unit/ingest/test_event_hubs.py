"""Connection strings, and events as messages; with a broker that speaks as Event Hubs does: tests/embedded."""

import json
import os
import subprocess
import sys

import pytest

from ingest import contracts
from ingest.__main__ import parser
from ingest.consumer_commands import _pairs, _value
from ingest.contracts import ContractError
from ingest.errors import BadInputError
from ingest.event_hubs import AUTHORITY, VARIABLE, EventMapping, namespace_of
from tests.unit.ingest.group import FakeMessage

KEY = "c2VjcmV0LXZhbHVl=="
STRING = f"Endpoint=sb://mill.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey={KEY}"
CONTRACT = contracts.load("market-data")
TRADE = {
    "schema_version": 1, "event_id": "v/1", "event_type": "trade", "event_time": "2024-01-01T00:00:00.250Z",
    "source": "venue", "symbol": "BTC/USDT", "price": 1.5, "quantity": 2, "side": "buy",
}  # fmt: skip


def message(event: object, **mapping: dict) -> contracts.Message:
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    return EventMapping(**mapping).message(FakeMessage(3, 41, value), CONTRACT, "event-hubs/mill/trades")


def test_a_connection_string_says_where_and_how():
    namespace = namespace_of({VARIABLE: f" {STRING};EntityPath=trades\n"})
    assert (namespace.host, namespace.port, namespace.hub) == ("mill.servicebus.windows.net", 9093, "trades")
    config = namespace.consumer().consumer_config("group")
    assert config["bootstrap.servers"] == "mill.servicebus.windows.net:9093"
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "PLAIN")
    assert config["sasl.username"] == "$ConnectionString"
    assert config["sasl.password"] == f"{STRING};EntityPath=trades"
    assert KEY not in repr(namespace)
    assert KEY not in repr(namespace.consumer())


def test_a_connection_string_may_lie_in_a_file(tmp_path):
    (tmp_path / "secret").write_text(STRING + "\n")
    assert namespace_of({f"{VARIABLE}_FILE": str(tmp_path / "secret")}).connection_string == STRING


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, f"set {VARIABLE}"),
        ({f"{VARIABLE}_FILE": "/nowhere/secret"}, "/nowhere/secret, which can't be read"),
        ({VARIABLE: KEY}, "lacks Endpoint, SharedAccessKeyName, SharedAccessKey"),
        ({VARIABLE: STRING.replace("SharedAccessKeyName=listen;", "")}, "lacks SharedAccessKeyName"),
        ({VARIABLE: STRING.replace("sb://mill.servicebus.windows.net/", "mill")}, "isn't an address"),
        ({VARIABLE: STRING.replace("windows.net/", "windows.net:port/")}, "isn't an address"),
        ({VARIABLE: STRING, AUTHORITY: "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
    ],
)
def test_a_namespace_that_can_not_be_is_told_without_its_secret(environment, words):
    with pytest.raises(BadInputError, match=words) as caught:
        namespace_of(environment)
    assert KEY not in str(caught.value)


def test_an_event_that_keeps_the_contract_stays_as_it_is():
    assert message(TRADE) == TRADE


def test_what_an_event_lacks_is_what_event_hubs_knows_of_it():
    bare = {name: TRADE[name] for name in ("event_type", "symbol", "price")}
    made = message(bare)
    CONTRACT.check(made)
    assert made == bare | {
        "schema_version": 1,
        "event_id": "event-hubs/mill/trades/3/41",
        "source": "event-hubs/mill/trades",
        "event_time": "2023-11-14T22:13:20.041Z",  # when it was queued
    }


def test_events_of_another_shape_are_mapped():
    event = {"id": 7, "data": {"last": 1.25, "at": "2024-01-01T02:00:00.1234567+02:00"}, "other": [1]}
    fields = {"event_id": "id", "price": "data.last", "event_time": "data.at", "quantity": "data.none.deep"}
    made = message(event, fields=fields, constants={"event_type": "ticker", "symbol": "EUR/USD"})
    CONTRACT.check(made)
    assert (made["event_id"], made["price"], made["event_time"]) == ("7", 1.25, "2024-01-01T00:00:00.123Z")
    assert "quantity" not in made
    assert "other" not in made


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (b"\xff", "malformed JSON"),
        ([1], "not an object"),
        (TRADE | {"note": 1}, "note"),
        (TRADE | {"event_time": "2024-01-01T00:00:00"}, "event_time"),
        (TRADE | {"event_time": 1_704_067_200}, "event_time"),
        (TRADE | {"price": -1}, "price"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_the_reason(event, words):
    with pytest.raises(ContractError, match=words):
        CONTRACT.encode(message(event))


def test_a_path_that_can_not_be_is_refused_and_an_event_it_does_not_fit_is_a_dead_letter():
    with pytest.raises(BadInputError, match="isn't a JMESPath"):
        EventMapping({"price": "data.["})
    with pytest.raises(ContractError, match="can't be searched"):
        message({"data": 1}, fields={"price": "abs(name)"})


def test_constants_are_numbers_where_they_look_so():
    assert [_value(text) for text in ("1.5", "true", "null", "EUR/USD", "[1]")] == [1.5, True, None, "EUR/USD", "[1]"]
    assert _pairs("--field", ["a=b.c", "d=e=f"]) == {"a": "b.c", "d": "e=f"}
    for wrong in ("a", "=b", "a="):
        with pytest.raises(BadInputError, match="NAME=VALUE"):
            _pairs("--field", [wrong])


@pytest.mark.parametrize("command", ["persist", "event-hubs"])
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        parser().parse_args([command, "--help"])
    shown = capsys.readouterr().out
    assert f"python -m ingest {command}" in shown
    assert "exit status" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["event-hubs"], VARIABLE),
        (["persist"], "--to"),
        (["persist", "--to", "t", "--batch-records", "0"], "--batch-records"),
        (["persist", "--to", "t", "--session-timeout", "0"], "--session-timeout"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(arguments, words):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "EVENT_HUBS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=kept | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
    )
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
