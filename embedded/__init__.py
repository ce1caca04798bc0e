"""The embedded target: a real Kafka broker, real Airflow and real Spark on one machine, without a cluster."""
