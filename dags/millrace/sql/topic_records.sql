-- All records of a Kafka topic. Parameter: records (a CSV file).
CREATE OR REPLACE TABLE kafka_records AS
SELECT partition, record_offset, record_key, record_value
FROM read_csv($records, header = true, delim = ',', quote = '"', escape = '"', types = {
    'partition': 'INTEGER', 'record_offset': 'BIGINT', 'record_key': 'VARCHAR', 'record_value': 'VARCHAR'});
