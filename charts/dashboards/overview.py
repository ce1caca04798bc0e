"""The whole platform on one page: is everything there, does data flow, who is behind?"""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row

JOBS = "airflow|entity-operator|ingest|kafka|kafka-exporter|postgresql|spark-driver|spark-operator|strimzi"

DASHBOARD = Dashboard(
    name="overview",
    title="Overview",
    rows=(
        Row(
            "Is everything there?",
            (
                Panel(
                    "Pods that do not answer",
                    (Query(f'count(up{{job=~"{JOBS}"}} == 0) or vector(0)'),),
                    number=True,
                    steps=(1,),
                    width=6,
                ),
                Panel(
                    "Partitions without a leader",
                    (Query("max(kafka_controller_kafkacontroller_offlinepartitionscount)"),),
                    number=True,
                    steps=(1,),
                    width=6,
                ),
                Panel(
                    "Streams that run",
                    (Query('count(up{job="spark-driver"} == 1) or vector(0)'),),
                    number=True,
                    width=6,
                ),
                Panel(
                    "Alerts",
                    (Query('count(ALERTS{alertstate="firing", severity=~"warning|critical"}) or vector(0)'),),
                    number=True,
                    steps=(1,),
                    width=6,
                ),
                Panel(
                    "Pods that answer",
                    (Query(f'sum by (job) (up{{job=~"{JOBS}"}})', "{{job}}"),),
                    width=12,
                ),
                Panel(
                    "Critical alerts",
                    (Query('sum by (alertname) (ALERTS{alertstate="firing", severity="critical"})', "{{alertname}}"),),
                    width=12,
                ),
            ),
        ),
        Row(
            "Does data flow?",
            (
                Panel(
                    "Into Kafka, by topic",
                    (
                        Query(
                            'sum by (topic) (rate(kafka_server_brokertopicmetrics_messagesinpersec_total{topic!=""}'
                            "[$__rate_interval]))",
                            "{{topic}}",
                        ),
                    ),
                    unit="cps",
                ),
                Panel(
                    "Processed, by stream",
                    (
                        Query(
                            "sum by (application) (rate(stream_events_processed_total[$__rate_interval]))",
                            "{{application}}",
                        ),
                    ),
                    unit="cps",
                ),
                Panel(
                    "Records that wait, by stream",
                    (Query("sum by (application) (stream_processing_lag)", "{{application}}"),),
                ),
            ),
        ),
        Row(
            "Does work get done?",
            (
                Panel(
                    "Tasks of Airflow that ended within an hour",
                    (Query("sum by (state) (dag_state:airflow_ti_finish:increase1h)", "{{state}}"),),
                ),
                Panel(
                    "95 % of batches take less than",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (application, le) "
                            "(rate(stream_processing_latency_seconds_bucket[$__rate_interval])))",
                            "{{application}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Records that broke their contract, within an hour",
                    (Query("sum by (application) (increase(stream_dead_letters_total[1h]))", "{{application}}"),),
                ),
            ),
        ),
    ),
)
