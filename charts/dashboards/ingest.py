"""The feeds into Kafka, and what the checks of data quality reported."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row, Variable

CHOSEN = '{feed=~"$feed"}'
FEED = "{{feed}} to {{topic}}"

DASHBOARD = Dashboard(
    name="ingest",
    title="Ingest",
    variables=(Variable("feed", "ingest_messages_total", "feed"),),
    rows=(
        Row(
            "Feeds",
            (
                Panel(
                    "Messages",
                    (Query(f"sum by (feed, topic) (rate(ingest_messages_total{CHOSEN}[$__rate_interval]))", FEED),),
                    unit="cps",
                ),
                Panel(
                    "Bytes",
                    (Query(f"sum by (feed, topic) (rate(ingest_bytes_total{CHOSEN}[$__rate_interval]))", FEED),),
                    unit="Bps",
                ),
                Panel(
                    "Errors within an hour",
                    (Query(f"sum by (feed, topic) (increase(ingest_errors_total{CHOSEN}[1h]))", FEED),),
                ),
                Panel(
                    "Age of the newest event",
                    (
                        Query(
                            f"time() - max by (feed, topic) (ingest_newest_event_time_seconds{CHOSEN})",
                            FEED,
                        ),
                    ),
                    unit="s",
                    description="Of a replay: how long ago the recorded data were.",
                    width=12,
                ),
                Panel(
                    "Newest event",
                    (Query(f"max by (feed, topic) (ingest_newest_event_time_seconds{CHOSEN}) * 1000", FEED),),
                    unit="dateTimeAsIso",
                    number=True,
                    width=12,
                ),
            ),
        ),
        Row(
            "Data quality",
            (
                Panel(
                    "Alerts of the checks, within an hour",
                    (
                        Query(
                            'sum(increase(kafka_topic_partition_current_offset{topic="data-quality-alerts"}[1h]))',
                            "alerts",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "Records in dead-letter topics",
                    (
                        Query(
                            'sum by (topic) (kafka_topic_partition_current_offset{topic=~".+-dead-letter"} '
                            '- kafka_topic_partition_oldest_offset{topic=~".+-dead-letter"})',
                            "{{topic}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
    ),
)
