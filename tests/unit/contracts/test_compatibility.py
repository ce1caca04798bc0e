"""Evolution of contracts: additions pass and old and new readers go on; everything else is refused."""

import copy
import json
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import compatibility, contracts
from ingest.errors import BadInputError

EVENTS = contracts.load("events").schema


def next_version(schema: dict, number: int = 2) -> dict:
    changed = copy.deepcopy(schema)
    changed["properties"]["schema_version"]["const"] = number
    return changed


def write(root: Path, topic: str, number: int, schema: dict) -> None:
    (root / topic).mkdir(exist_ok=True)
    (root / topic / f"v{number}.json").write_text(json.dumps(schema))


def remove_required(s):
    s["required"].remove("source")


def add_required(s):
    s["required"].append("carrier")


def remove_field(s):
    del s["properties"]["carrier"]


def narrow_enum(s):
    s["properties"]["event_type"]["enum"].remove("diverted")


def widen_enum(s):
    s["properties"]["event_type"]["enum"].append("landed")


def narrow_type(s):
    s["properties"]["carrier"]["type"] = "string"


def widen_type(s):
    s["properties"]["flight"]["type"] = ["integer", "null", "string"]


def change_pattern(s):
    s["properties"]["event_time"]["pattern"] = "^.*$"


def drop_bound(s):
    del s["properties"]["flight"]["maximum"]


def add_bound(s):
    s["properties"]["carrier"]["minLength"] = 2


def required_new_field(s):
    s["properties"]["gate"] = {"type": "string"}
    s["required"].append("gate")


def allow_anything(s):
    s["additionalProperties"] = True


def other_key(s):
    s["x-key"] = "carrier"


def smaller_limit(s):
    s["x-max-bytes"] = 1024


def larger_limit(s):
    s["x-max-bytes"] = 10**7


def add_condition(s):
    s["allOf"] = [{"required": ["carrier"]}]


INCOMPATIBLE = {
    remove_required: "source is no longer required",
    add_required: "carrier became required",
    remove_field: "carrier was removed",
    narrow_enum: "event_type lost the value diverted",
    widen_enum: "event_type gained the value landed",
    narrow_type: "carrier lost the type null",
    widen_type: "flight gained the type string",
    change_pattern: "event_time changed",
    drop_bound: "flight changed",
    add_bound: "carrier changed",
    required_new_field: "gate became required",
    allow_anything: "additionalProperties changed",
    other_key: "x-key changed",
    smaller_limit: "x-max-bytes changed",
    larger_limit: "x-max-bytes changed",
    add_condition: "allOf changed",
}


@pytest.mark.parametrize("change", INCOMPATIBLE, ids=lambda change: change.__name__)
def test_an_incompatible_change_is_refused_with_its_field(change, tmp_path):
    new = next_version(EVENTS)
    change(new)
    problems = compatibility.incompatibilities(EVENTS, new)
    assert any(INCOMPATIBLE[change] in problem for problem in problems)
    write(tmp_path, "events", 1, EVENTS)
    write(tmp_path, "events", 2, new)
    assert any(INCOMPATIBLE[change] in problem for problem in compatibility.problems_of(tmp_path))
    with pytest.raises(BadInputError, match="nothing was released"):
        compatibility.release(tmp_path)
    assert not (tmp_path / "released.json").exists()


optional_fields = st.dictionaries(
    st.from_regex(r"[a-z]{3,8}_new", fullmatch=True),
    st.sampled_from([{"type": "string"}, {"type": ["integer", "null"]}, {"enum": ["a", "b"]}]),
    max_size=4,
)


@given(added=optional_fields, changes=st.sets(st.sampled_from(list(INCOMPATIBLE)), min_size=1, max_size=3))
def test_an_incompatible_change_does_not_hide_among_additions(added, changes):
    if remove_field in changes:
        changes -= {narrow_type, add_bound}  # these change the field that is gone
    if {smaller_limit, larger_limit} <= changes:
        changes -= {larger_limit}
    new = next_version(EVENTS)
    for change in sorted(changes, key=lambda change: change.__name__):
        change(new)
    new["properties"] |= added
    assert compatibility.incompatibilities(EVENTS, new)


@given(added=optional_fields, words=st.text(max_size=10))
def test_additions_and_words_pass(added, words):
    new = next_version(EVENTS)
    new["properties"] |= {name: field | {"description": words} for name, field in added.items()}
    new["title"] = new["properties"]["carrier"]["description"] = words
    assert compatibility.incompatibilities(EVENTS, new) == []


event_messages = st.fixed_dictionaries(
    {
        "schema_version": st.just(1),
        "event_id": st.text(min_size=1, max_size=30),
        "event_type": st.sampled_from(EVENTS["properties"]["event_type"]["enum"]),
        "event_time": st.datetimes().map(lambda t: t.isoformat(timespec="milliseconds") + "Z"),
        "source": st.text(min_size=1, max_size=30),
    },
    optional={
        "carrier": st.none() | st.text(max_size=16),
        "flight": st.none() | st.integers(0, 99999),
        "delay_minutes": st.none() | st.integers(-100000, 100000),
    },
)


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("contracts")
    new = next_version(EVENTS)
    new["properties"] |= {"gate": {"type": ["string", "null"]}, "weather": {"enum": ["fair", "foul"]}}
    write(root, "events", 1, EVENTS)
    write(root, "events", 2, new)
    assert compatibility.problems_of(root) == []
    return root


@given(message=event_messages, gate=st.none() | st.text(), weather=st.sampled_from(["fair", "foul"]))
def test_old_readers_read_new_messages_and_new_readers_old_ones(two_versions, message, gate, weather):
    old, new = (contracts.load("events", number, two_versions) for number in (1, 2))
    newer = message | {"schema_version": 2, "gate": gate, "weather": weather}
    seen_by_old = contracts.read("events", new.encode(newer), as_version=1, root=two_versions)
    assert seen_by_old == message
    old.check(seen_by_old)
    seen_by_new = contracts.read("events", old.encode(message), as_version=2, root=two_versions)
    assert seen_by_new == message | {"schema_version": 2}
    new.check(seen_by_new)


def test_an_old_writer_may_not_send_new_fields(two_versions):
    message = {"schema_version": 1, "event_id": "a", "event_type": "departed", "source": "s", "gate": "B7"}
    with pytest.raises(contracts.ContractError, match="gate"):
        contracts.read("events", orjson.dumps(message | {"event_time": "2013-01-01T00:00:00Z"}), 2, two_versions)


def test_the_contracts_of_the_repository_keep_the_rules_and_are_released():
    root = contracts.contracts_root()
    assert compatibility.problems_of(root) == []
    present = {f"{t}/v{n}" for t in compatibility.topics_with_contracts(root) for n in contracts.versions(t, root)}
    assert set(compatibility.released(root)) == present


def test_a_released_version_may_change_its_words_only(tmp_path):
    write(tmp_path, "events", 1, EVENTS)
    assert compatibility.release(tmp_path) == ["events/v1"]
    assert compatibility.release(tmp_path) == []
    write(tmp_path, "events", 1, EVENTS | {"title": "another title"})
    contracts.load.cache_clear()
    assert compatibility.problems_of(tmp_path) == []
    changed = copy.deepcopy(EVENTS)
    changed["required"].remove("source")
    write(tmp_path, "events", 1, changed)
    contracts.load.cache_clear()
    assert any("was released and changed" in problem for problem in compatibility.problems_of(tmp_path))
    (tmp_path / "events" / "v1.json").unlink()
    assert any("was released and is gone" in problem for problem in compatibility.problems_of(tmp_path))


def test_versions_are_numbered_without_a_gap_and_name_themselves(tmp_path):
    write(tmp_path, "events", 1, EVENTS)
    write(tmp_path, "events", 3, next_version(EVENTS, 2))
    problems = compatibility.problems_of(tmp_path)
    assert any("without a gap" in problem for problem in problems)
    assert any("must be the constant 3" in problem for problem in problems)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadInputError, match="MILLRACE_CONTRACTS"):
        compatibility.problems_of(tmp_path / "nowhere")
