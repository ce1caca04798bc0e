-- What air-quality has to find in its input, of all records of the topic (`kafka_records`); each event_id counts once.
-- Parameters: length, slide (seconds), pm25_limit. Windows are [start, start + length); starts are multiples of slide since 1970.
CREATE OR REPLACE TABLE readings AS
WITH messages AS (SELECT TRY_CAST(record_value AS JSON) AS message FROM kafka_records)
SELECT
    message ->> 'event_id' AS event_id,
    any_value(message ->> 'location') AS location,
    any_value(CAST(floor(epoch(CAST(message ->> 'event_time' AS TIMESTAMPTZ))) AS BIGINT)) AS event_s,
    any_value(CAST(message ->> 'pm25' AS DECIMAL(12, 4))) AS pm25,
    any_value(CAST(message ->> 'pm10' AS DECIMAL(12, 4))) AS pm10,
    any_value(CAST(message ->> 'temperature' AS DECIMAL(12, 4))) AS temperature,
    any_value(CAST(message ->> 'humidity' AS DECIMAL(12, 4))) AS humidity
FROM messages WHERE message ->> 'event_type' = 'reading' GROUP BY ALL;

CREATE OR REPLACE TABLE expected AS
WITH assigned AS (
    SELECT
        *, event_s // $slide * $slide - unnest(range(0, CAST($length AS BIGINT), CAST($slide AS BIGINT))) AS start_s
    FROM readings
)
SELECT
    start_s, start_s + $length AS end_s, location, count(*) AS readings, avg(pm25) AS avg_pm25, avg(pm10) AS avg_pm10,
    avg(temperature) AS avg_temperature, avg(humidity) AS avg_humidity,
    -- Without a division, hence exact.
    coalesce(sum(pm25) > CAST($pm25_limit AS DECIMAL(12, 4)) * count(pm25), false) AS above
FROM assigned
WHERE event_s < start_s + $length
GROUP BY start_s, location;
