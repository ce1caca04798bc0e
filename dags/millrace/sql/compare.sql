-- Every window in which `actual_windows` isn't exactly what `expected` says.
CREATE OR REPLACE TABLE differing AS
WITH actual AS (
    SELECT start_s, event_type, min(end_s) AS end_s, max(events) AS events, count(*) AS copies
    FROM actual_windows GROUP BY ALL
)
SELECT
    coalesce(expected.start_s, actual.start_s) AS start_s,
    strftime(make_timestamp(coalesce(expected.start_s, actual.start_s) * 1000000), '%Y-%m-%dT%H:%M:%SZ') AS window_start,
    coalesce(expected.event_type, actual.event_type) AS event_type,
    expected.events AS expected, actual.events AS actual, actual.copies AS copies
FROM expected FULL OUTER JOIN actual
    ON expected.start_s = actual.start_s AND expected.event_type = actual.event_type
WHERE expected.events IS DISTINCT FROM actual.events
   OR expected.end_s IS DISTINCT FROM actual.end_s
   OR actual.copies IS DISTINCT FROM 1;
