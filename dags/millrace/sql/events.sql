-- The events of a range of flights, by the rules of ingest/README.md.
-- Parameters: flights, airports (CSV files), first_day (a date), days.
-- TIMESTAMP without zone is UTC throughout, except in columns that are named local_*.
CREATE OR REPLACE TABLE events AS
WITH flights AS (
    SELECT
        CAST(time_hour AS TIMESTAMPTZ) AT TIME ZONE 'UTC' + to_minutes("minute") AS scheduled_departure,
        dep_time, dep_delay, arr_delay,
        to_hours(sched_arr_time // 100) + to_minutes(sched_arr_time % 100) AS arrival_clock,
        dest
    FROM read_csv($flights, header = true, nullstr = 'NA', types = {
        'time_hour': 'VARCHAR', 'dep_time': 'INTEGER', 'dep_delay': 'INTEGER', 'arr_delay': 'INTEGER',
        'sched_arr_time': 'INTEGER', 'minute': 'INTEGER'})
    WHERE make_date("year", "month", "day") >= CAST($first_day AS DATE)
      AND make_date("year", "month", "day") < CAST($first_day AS DATE) + CAST($days AS INTEGER)
),
airports AS (
    SELECT faa, tzone FROM read_csv($airports, header = true, nullstr = 'NA', all_varchar = true)
),
local_times AS (
    SELECT
        flights.*,
        -- Four destinations in Puerto Rico and the Virgin Islands are missing from the list of airports.
        coalesce(tzone, CASE WHEN dest IN ('BQN', 'PSE', 'SJU', 'STT') THEN 'America/Puerto_Rico' END) AS zone,
        CAST(scheduled_departure AT TIME ZONE 'UTC' AT TIME ZONE zone AS DATE) AS local_day
    FROM flights LEFT JOIN airports ON faa = dest
),
candidates AS (
    SELECT
        *,
        (local_day + arrival_clock) AT TIME ZONE zone AT TIME ZONE 'UTC' AS same_day,
        (local_day + 1 + arrival_clock) AT TIME ZONE zone AT TIME ZONE 'UTC' AS next_day
    FROM local_times
),
scheduled AS (
    SELECT *, CASE WHEN same_day > scheduled_departure THEN same_day ELSE next_day END AS scheduled_arrival
    FROM candidates
)
SELECT 'cancelled' AS event_type, scheduled_departure AS event_time FROM scheduled WHERE dep_time IS NULL
UNION ALL
SELECT 'departed', scheduled_departure + to_minutes(dep_delay) FROM scheduled WHERE dep_time IS NOT NULL
UNION ALL
SELECT 'arrived', scheduled_arrival + to_minutes(arr_delay) FROM scheduled
WHERE dep_time IS NOT NULL AND arr_delay IS NOT NULL
UNION ALL
SELECT 'diverted', scheduled_arrival + to_minutes(dep_delay) FROM scheduled
WHERE dep_time IS NOT NULL AND arr_delay IS NULL;
