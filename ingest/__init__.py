"""Feeds into Kafka: replay of recorded data, simulated data, and the contracts they are checked against."""
