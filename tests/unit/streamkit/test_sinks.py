import json
from datetime import datetime

from streamkit.sinks import as_kafka_records
from streamkit.windows import KEYS


def test_kafka_records_have_the_key_columns_as_key_and_the_row_as_json(spark):
    row = (datetime(2013, 1, 1, 10, 13), datetime(2013, 1, 1, 10, 18), "departed", 42)
    rows = spark.createDataFrame([row], "window_start timestamp, window_end timestamp, event_type string, events long")
    (record,) = as_kafka_records(rows, KEYS).collect()
    assert record.key == "2013-01-01T10:13:00Z|departed"
    assert json.loads(record.value) == {
        "window_start": "2013-01-01T10:13:00Z",
        "window_end": "2013-01-01T10:18:00Z",
        "event_type": "departed",
        "events": 42,
    }
