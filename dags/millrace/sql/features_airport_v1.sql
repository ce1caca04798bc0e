-- Per airport of departure and hour: the newest weather (at most 3 h old) and what left in the last 3 hours.
CREATE OR REPLACE TABLE features AS
WITH by_hour AS (
    SELECT origin, event_time, count(*) FILTER (NOT cancelled) AS departures, sum(dep_delay) AS delay,
        count(*) FILTER (cancelled) AS cancellations
    FROM happened GROUP BY ALL
),
summed AS (
    SELECT
        origin, event_time,
        CAST(coalesce(sum(departures) OVER three_hours, 0) AS BIGINT) AS departures_3h,
        CAST(coalesce(sum(cancellations) OVER three_hours, 0) AS BIGINT) AS cancellations_3h,
        CAST(sum(delay) OVER three_hours AS DOUBLE) / nullif(sum(departures) OVER three_hours, 0) AS mean_delay_3h
    FROM (SELECT DISTINCT origin FROM flights) CROSS JOIN hours LEFT JOIN by_hour USING (origin, event_time)
    WINDOW three_hours AS (PARTITION BY origin ORDER BY event_time ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
)
SELECT
    summed.origin, summed.event_time AT TIME ZONE 'UTC' AS event_time, CAST(summed.event_time AS DATE) AS day,
    departures_3h, cancellations_3h, mean_delay_3h,
    CASE WHEN fresh THEN temperature_f END AS temperature_f, CASE WHEN fresh THEN wind_mph END AS wind_mph,
    CASE WHEN fresh THEN rain_inch END AS rain_inch, CASE WHEN fresh THEN visibility_miles END AS visibility_miles
FROM summed ASOF LEFT JOIN weather
    ON summed.origin = weather.origin AND summed.event_time >= weather.observed_at
CROSS JOIN LATERAL (SELECT summed.event_time - weather.observed_at <= INTERVAL 3 HOUR AS fresh)
WHERE summed.event_time >= CAST($first AS TIMESTAMP)
ORDER BY ALL;
