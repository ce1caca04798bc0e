"""The finite feeds: who the people are, and that orders are repeatable and within their contract."""

from collections import Counter

import pytest

from ingest import contracts, lists
from ingest.errors import BadInputError


def test_the_five_people_and_those_that_are_added():
    contract = contracts.load("input-topic")
    messages = list(lists.people("Frank=44, Zoë Ω=0"))
    assert [(m["name"], m["age"]) for m in messages[:5]] == list(lists.PEOPLE)
    assert [(m["name"], m["age"]) for m in messages[5:]] == [("Frank", 44), ("Zoë Ω", 0)]
    assert len({contract.key(message) for message in messages}) == 7
    for message in messages:
        contract.check(message)


@pytest.mark.parametrize("text", ["Frank", "=3", "Frank=", "Frank=old", "Frank=151", "Frank=-1", "Frank=3,"])
def test_a_person_who_is_written_otherwise_is_refused(text):
    with pytest.raises(BadInputError, match="isn't a name and an age"):
        list(lists.people(text))


def test_the_same_seed_gives_the_same_orders_and_another_one_others():
    contract = contracts.load("orders")
    first = [contract.encode(order) for order in lists.orders(2000, 3)]
    assert first == [contract.encode(order) for order in lists.orders(2000, 3)]
    assert first[:10] == [contract.encode(order) for order in lists.orders(10, 3)]
    assert not set(first) & {contract.encode(order) for order in lists.orders(2000, 4)}


def test_orders_are_of_every_product_and_each_has_its_own_id():
    orders = list(lists.orders(5000, 1))
    assert Counter(order["sku"] for order in orders).keys() == set(lists.SKUS)
    assert len({order["order_id"] for order in orders}) == 5000
    assert min(order["quantity"] for order in orders) == 1
    assert max(order["quantity"] for order in orders) <= 20


@pytest.mark.parametrize("count", [0, -1, 1_000_001])
def test_a_count_out_of_bounds_is_refused(count):
    with pytest.raises(BadInputError, match="from 1 to 1000000"):
        list(lists.orders(count, 1))


def test_the_samples_of_a_contract_are_read_from_beside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MILLRACE_CONTRACTS", str(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "samples.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    assert list(lists.samples("x")) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there are no samples of x"), ("", "holds no message"), ('{"a": 1}\n{', "line 2, isn't JSON"),
     ("[1]", "line 1, isn't a JSON object")],
)  # fmt: skip
def test_samples_that_can_not_be_sent_are_named(tmp_path, monkeypatch, content, words):
    monkeypatch.setenv("MILLRACE_CONTRACTS", str(tmp_path))
    (tmp_path / "x").mkdir()
    if content is not None:
        (tmp_path / "x" / "samples.jsonl").write_text(content)
    with pytest.raises(BadInputError, match=words):
        list(lists.samples("x"))
