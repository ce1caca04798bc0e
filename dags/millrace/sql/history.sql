-- The flights that were to leave in [from, to), one row each; every time is UTC.
-- Parameters: flights (a CSV file), first, end (timestamps).
-- departed_at is when the flight left, and so when anybody could know its delay.
CREATE OR REPLACE TABLE flights AS
WITH recorded AS (
    SELECT
        CAST(time_hour AS TIMESTAMPTZ) AT TIME ZONE 'UTC' + to_minutes("minute") AS scheduled_at,
        carrier, flight, origin, dest, distance, dep_time, dep_delay, arr_delay
    FROM read_csv($flights, header = true, nullstr = 'NA', types = {
        'time_hour': 'VARCHAR', 'dep_time': 'INTEGER', 'dep_delay': 'INTEGER', 'arr_delay': 'INTEGER',
        'distance': 'INTEGER', 'flight': 'INTEGER', 'minute': 'INTEGER'})
)
SELECT
    carrier, flight, origin, dest, distance, scheduled_at,
    CASE WHEN dep_time IS NOT NULL THEN scheduled_at + to_minutes(dep_delay) END AS departed_at,
    dep_delay, arr_delay, dep_time IS NULL AS cancelled
FROM recorded
WHERE scheduled_at >= CAST($first AS TIMESTAMP) AND scheduled_at < CAST($end AS TIMESTAMP);
