-- Windows as a Kafka topic holds them: the last record of each key.
CREATE OR REPLACE TABLE actual_kafka AS
WITH last_values AS (
    SELECT CAST(arg_max(record_value, record_offset) AS JSON) AS value FROM kafka_records GROUP BY record_key
)
SELECT
    CAST(epoch(CAST(value ->> 'window_start' AS TIMESTAMPTZ)) AS BIGINT) AS start_s,
    CAST(epoch(CAST(value ->> 'window_end' AS TIMESTAMPTZ)) AS BIGINT) AS end_s,
    value ->> 'event_type' AS event_type,
    CAST(value ->> 'events' AS BIGINT) AS events
FROM last_values;
