-- The hourly observations at the airports of departure in [first, end), in UTC.
-- Parameters: weather (a CSV file), first, end (timestamps).
CREATE OR REPLACE TABLE weather AS
SELECT
    origin, CAST(CAST(time_hour AS TIMESTAMPTZ) AT TIME ZONE 'UTC' AS TIMESTAMP) AS observed_at,
    CAST(temp AS DOUBLE) AS temperature_f,
    -- One observation of the year has 1048 mph: a fault of the instrument, so no value.
    CASE WHEN CAST(wind_speed AS DOUBLE) < 200 THEN CAST(wind_speed AS DOUBLE) END AS wind_mph,
    CAST(precip AS DOUBLE) AS rain_inch, CAST(visib AS DOUBLE) AS visibility_miles
FROM read_csv($weather, header = true, nullstr = 'NA', all_varchar = true)
WHERE observed_at >= CAST($first AS TIMESTAMP) AND observed_at < CAST($end AS TIMESTAMP);
