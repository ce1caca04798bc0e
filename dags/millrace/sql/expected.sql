-- Sliding windows [start, start + length) over `events`; starts are multiples of slide since 1970.
-- Parameters: length, slide (seconds).
CREATE OR REPLACE TABLE expected AS
WITH positions AS (
    SELECT event_type, CAST(epoch(event_time) AS BIGINT) AS event_s FROM events
),
assigned AS (
    SELECT
        event_type, event_s,
        event_s // $slide * $slide - unnest(range(0, CAST($length AS BIGINT), CAST($slide AS BIGINT))) AS start_s
    FROM positions
)
SELECT start_s, start_s + $length AS end_s, event_type, count(*) AS events
FROM assigned
WHERE event_s < start_s + $length
GROUP BY ALL;
