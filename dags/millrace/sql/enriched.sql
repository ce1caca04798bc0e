-- Compares the enriched orders of both sinks with the join computed here. In: orders, actual_kafka (record_key,
-- record_value), actual_delta, products (with reference_version). Out: differing (order_id, sink, problem).
CREATE TABLE valid_orders AS
SELECT
    record_value->>'order_id' AS order_id,
    record_value->>'customer' AS customer,
    record_value->>'sku' AS sku,
    TRY_CAST(record_value->>'quantity' AS BIGINT) AS quantity,
    TRY_CAST(record_value->>'event_time' AS TIMESTAMPTZ) AS event_time
FROM orders
WHERE json_valid(record_value) AND (record_value->>'order_id') IS NOT NULL
    -- What the contract refuses is a dead letter.
    AND TRY_CAST(record_value->>'quantity' AS BIGINT) BETWEEN 1 AND 100000 AND (record_value->>'schema_version') = '1';

CREATE TABLE delta_rows AS
SELECT order_id, customer, sku, quantity, event_time, matched, product, category, unit_price, amount, reference_version
FROM actual_delta;

CREATE TABLE kafka_rows AS
SELECT
    record_value->>'order_id' AS order_id,
    record_value->>'customer' AS customer,
    record_value->>'sku' AS sku,
    (record_value->>'quantity')::BIGINT AS quantity,
    (record_value->>'event_time')::TIMESTAMPTZ AS event_time,
    (record_value->>'matched')::BOOLEAN AS matched,
    record_value->>'product' AS product,
    record_value->>'category' AS category,
    (record_value->>'unit_price')::DECIMAL(12, 2) AS unit_price,
    (record_value->>'amount')::DECIMAL(18, 2) AS amount,
    (record_value->>'reference_version')::BIGINT AS reference_version
FROM (SELECT *, row_number() OVER (PARTITION BY record_key ORDER BY number DESC) AS back FROM actual_kafka)
WHERE back = 1;

CREATE TABLE both_sinks AS
SELECT 'the table' AS sink, * FROM delta_rows UNION ALL SELECT 'the topic' AS sink, * FROM kafka_rows;

CREATE TABLE differing AS
WITH sent AS (SELECT order_id, count(*) AS times FROM valid_orders GROUP BY order_id),
sinks AS (SELECT unnest(['the table', 'the topic']) AS sink),
written AS (SELECT sink, order_id, count(*) AS times FROM both_sinks GROUP BY ALL),
counted AS (
    -- The topic is looked at by its last record of each key.
    SELECT
        coalesce(sent.order_id, written.order_id) AS order_id,
        coalesce(sent.sink, written.sink) AS sink,
        CASE WHEN coalesce(sent.sink, written.sink) = 'the table' THEN sent.times ELSE least(sent.times, 1) END AS expected,
        coalesce(written.times, 0) AS actual
    FROM (SELECT * FROM sent CROSS JOIN sinks) AS sent
    FULL JOIN written ON written.order_id = sent.order_id AND written.sink = sent.sink
),
wrong AS (
    SELECT written.order_id, written.sink
    FROM both_sinks AS written
    JOIN (SELECT DISTINCT * FROM valid_orders) AS ordered USING (order_id)
    LEFT JOIN products ON products.sku = ordered.sku AND products.reference_version = written.reference_version
    WHERE (
        written.customer, written.sku, written.quantity, written.event_time, written.matched, written.product,
        written.category, written.unit_price, written.amount
    ) IS DISTINCT FROM (
        ordered.customer, ordered.sku, ordered.quantity, ordered.event_time, products.sku IS NOT NULL, products.name,
        products.category, products.unit_price, (products.unit_price * ordered.quantity)::DECIMAL(18, 2)
    )
)
SELECT order_id, sink, 'is there ' || actual || ' times, not ' || coalesce(expected, 0) AS problem
FROM counted WHERE actual IS DISTINCT FROM coalesce(expected, 0)
UNION ALL
SELECT DISTINCT order_id, sink, 'has other values than the join gives' FROM wrong;
