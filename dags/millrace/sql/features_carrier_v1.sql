-- Per airline and hour: how its flights left in the last 24 hours.
CREATE OR REPLACE TABLE features AS
WITH by_hour AS (
    SELECT carrier, event_time, count(*) FILTER (NOT cancelled) AS departures, sum(dep_delay) AS delay,
        count(*) FILTER (dep_delay > 15) AS late
    FROM happened GROUP BY ALL
),
summed AS (
    SELECT
        carrier, event_time,
        CAST(coalesce(sum(departures) OVER day, 0) AS BIGINT) AS departures_24h,
        CAST(sum(delay) OVER day AS DOUBLE) / nullif(sum(departures) OVER day, 0) AS mean_delay_24h,
        CAST(sum(late) OVER day AS DOUBLE) / nullif(sum(departures) OVER day, 0) AS late_share_24h
    FROM (SELECT DISTINCT carrier FROM flights) CROSS JOIN hours LEFT JOIN by_hour USING (carrier, event_time)
    WINDOW day AS (PARTITION BY carrier ORDER BY event_time ROWS BETWEEN 23 PRECEDING AND CURRENT ROW)
)
SELECT
    carrier, event_time AT TIME ZONE 'UTC' AS event_time, CAST(event_time AS DATE) AS day,
    departures_24h, mean_delay_24h, late_share_24h
FROM summed WHERE summed.event_time >= CAST($first AS TIMESTAMP)
ORDER BY ALL;
