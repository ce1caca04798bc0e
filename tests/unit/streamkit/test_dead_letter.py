from streamkit.dead_letter import as_dead_letters, invalid_count, invalid_ranges, observe_invalid, observed_metrics
from streamkit.source import checked
from tests.unit.streamkit.records import encoded, frame


def test_a_dead_letter_is_the_record_itself_with_where_and_why(spark, contract):
    records = [(b"a", encoded({})), (None, encoded({})), (b"c", b"\xff\xfe not text"), (b"d", None)]
    rows = as_dead_letters(frame(spark, records), contract).collect()
    assert [(row.key, row.value) for row in rows] == [tuple(r) for r in records[1:]]
    headers = [{header.key: bytes(header.value).decode() for header in row.headers} for row in rows]
    assert headers[0] == {
        "source-topic": "events",
        "source-partition": "0",
        "source-offset": "1",
        "source-timestamp": "2026-01-02T03:04:05.678Z",
        "reason": "null key",
    }
    assert [header["reason"] for header in headers[1:]] == ["malformed JSON"] * 2
    assert [header["source-offset"] for header in headers] == ["1", "2", "3"]


def observed(frame_):
    """Compute a frame, and return what was observed meanwhile."""
    frame_.collect()
    return observed_metrics(frame_._jdf.queryExecution())


def test_invalid_records_are_observed_by_partition(spark, contract):
    records = [(b"k", encoded({})), (b"k", b"x"), (b"k", encoded({})), (None, b"y"), (b"k", encoded({}))]
    rows = checked(frame(spark, records), contract)
    metrics = observed(observe_invalid(rows, [0], "invalid-3"))
    assert metrics == {"invalid-3": {"count_0": 2, "first_0": 1, "last_0": 3}}
    assert invalid_count(metrics) == 2
    assert invalid_ranges(metrics) == {0: (1, 3)}


def test_one_source_of_several_partitions_keeps_them_apart(spark, contract):
    records = [(b"k", b"x"), (b"k", encoded({})), (b"k", b"y")]
    rows = checked(frame(spark, records), contract)
    both = rows.union(rows.where("offset = 0").selectExpr("topic", "4", "offset + 10", *rows.columns[3:]))
    metrics = observed(observe_invalid(both, [0, 1, 4], "invalid-0"))
    assert invalid_ranges(metrics) == {0: (0, 2), 4: (10, 10)}
    assert invalid_count(metrics) == 3


def test_nothing_invalid_is_nothing_to_read_again(spark, contract):
    metrics = observed(observe_invalid(checked(frame(spark, [(b"k", encoded({}))]), contract), [0], "invalid-0"))
    assert invalid_ranges(metrics) == {}
    assert invalid_count(metrics) == 0
    assert invalid_ranges({"other": {"count_0": 5}}) == {}
