-- How busy the hours of the day (UTC) are: windows and the mean number of events in one, by type.
SELECT
    start_s // 3600 % 24 AS hour, event_type, count(*) AS windows, avg(events) AS mean_events
FROM actual_delta GROUP BY ALL ORDER BY hour, event_type;
