-- The versions of the reference table that enriched orders were joined with. In: actual_delta, actual_kafka.
SELECT reference_version AS version FROM actual_delta
UNION
SELECT (record_value->>'reference_version')::BIGINT FROM actual_kafka
ORDER BY version;
