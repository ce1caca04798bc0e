-- Every window and every alert that isn't what `expected` says. Spark's means have eight digits after the point.
CREATE OR REPLACE MACRO differs(one, other) AS
    (one IS NULL) <> (other IS NULL) OR coalesce(abs(one - other) > 1e-8, false);

CREATE OR REPLACE TABLE differing_windows AS
WITH actual AS (
    SELECT
        start_s, location, count(*) AS copies, min(end_s) AS end_s, max(readings) AS readings,
        max(avg_pm25) AS avg_pm25, max(avg_pm10) AS avg_pm10, max(avg_temperature) AS avg_temperature,
        max(avg_humidity) AS avg_humidity
    FROM actual_windows GROUP BY start_s, location
)
SELECT
    coalesce(e.start_s, a.start_s) AS start_s, coalesce(e.location, a.location) AS location,
    CASE WHEN a.start_s IS NULL THEN 'is missing'
         WHEN e.start_s IS NULL THEN 'should not exist'
         WHEN a.copies > 1 THEN 'is there ' || a.copies || ' times'
         WHEN a.readings <> e.readings THEN 'has ' || a.readings || ' readings (expected ' || e.readings || ')'
         WHEN a.end_s <> e.end_s THEN 'ends at another time than expected'
         ELSE 'has other means than expected' END AS problem
FROM expected AS e FULL OUTER JOIN actual AS a ON e.start_s = a.start_s AND e.location = a.location
WHERE a.copies IS DISTINCT FROM 1 OR e.readings IS DISTINCT FROM a.readings OR e.end_s IS DISTINCT FROM a.end_s
   OR differs(e.avg_pm25, a.avg_pm25) OR differs(e.avg_pm10, a.avg_pm10)
   OR differs(e.avg_temperature, a.avg_temperature) OR differs(e.avg_humidity, a.avg_humidity);

CREATE OR REPLACE TABLE differing_alerts AS
SELECT
    coalesce(e.start_s, a.start_s) AS start_s, coalesce(e.location, a.location) AS location,
    CASE WHEN a.start_s IS NULL THEN 'is missing'
         WHEN e.start_s IS NULL THEN 'should not exist'
         ELSE 'says other figures than expected' END AS problem
FROM (FROM expected WHERE above) AS e
    FULL OUTER JOIN actual_alerts AS a ON e.start_s = a.start_s AND e.location = a.location
WHERE e.readings IS DISTINCT FROM a.readings OR e.end_s IS DISTINCT FROM a.end_s OR differs(e.avg_pm25, a.pm25);
