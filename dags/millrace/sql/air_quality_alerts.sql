-- Alerts as the topic holds them: the last record of each key.
CREATE OR REPLACE TABLE actual_alerts AS
WITH alerts AS (
    SELECT CAST(arg_max(record_value, record_offset) AS JSON) AS alert FROM kafka_records GROUP BY record_key
)
SELECT
    CAST(epoch(CAST(alert ->> 'window_start' AS TIMESTAMPTZ)) AS BIGINT) AS start_s,
    CAST(epoch(CAST(alert ->> 'window_end' AS TIMESTAMPTZ)) AS BIGINT) AS end_s,
    alert ->> 'location' AS location,
    CAST(alert ->> 'pm25' AS DOUBLE) AS pm25,
    CAST(alert ->> 'limit' AS DOUBLE) AS "limit",
    CAST(alert ->> 'readings' AS BIGINT) AS readings
FROM alerts;
