-- Every hour of [first - history, end] with what happened in the hour before it, (hour - 1 h, hour].
-- Parameters: first, end (timestamps), history (hours). A departure counts in the hour in which the flight left, not in
-- that in which it should have: before it left nobody knew its delay.
CREATE OR REPLACE TABLE happened AS
SELECT
    origin, carrier, dep_delay, cancelled,
    date_trunc('hour', coalesce(departed_at, scheduled_at) + INTERVAL 1 HOUR - INTERVAL 1 SECOND) AS event_time
FROM flights;

CREATE OR REPLACE TABLE hours AS
SELECT unnest(generate_series(
    CAST($first AS TIMESTAMP) - to_hours(CAST($history AS INTEGER)),
    CAST($end AS TIMESTAMP) - INTERVAL 1 HOUR, INTERVAL 1 HOUR)) AS event_time;
