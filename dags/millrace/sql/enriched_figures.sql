-- How many enriched orders there are. In: delta_rows, actual_kafka.
SELECT
    count(*)::BIGINT AS orders,
    count(*) FILTER (WHERE matched)::BIGINT AS matched,
    count(*) FILTER (WHERE NOT matched)::BIGINT AS unmatched,
    (SELECT count(*) FROM actual_kafka)::BIGINT AS records
FROM delta_rows;
