"""Spark's streams: throughput, lag, latency, state, executors."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row, Variable

CHOSEN = '{application=~"$application"}'
QUERY = "{{application}} {{query}}"


def _by_query(expression: str) -> Query:
    """A query with one series for each query of an application."""
    return Query(f"sum by (application, query) ({expression})", QUERY)


def _executor(name: str, unit_of_legend: str = "{{application}} {{executor_id}}") -> Query:
    """A gauge of the executors."""
    return Query(f"sum by (application, executor_id) (metrics_executor_{name}{CHOSEN})", unit_of_legend)


def _executor_rate(name: str) -> Query:
    """A counter of the executors, per second."""
    return Query(
        f"sum by (application, executor_id) (rate(metrics_executor_{name}{CHOSEN}[$__rate_interval]))",
        "{{application}} {{executor_id}}",
    )


def _latency(quantile: float) -> Query:
    return Query(
        f"histogram_quantile({quantile}, sum by (application, le) "
        f"(rate(stream_processing_latency_seconds_bucket{CHOSEN}[$__rate_interval])))",
        f"{{{{application}}}} {quantile:.0%}",
    )


DASHBOARD = Dashboard(
    name="streams",
    title="Streams",
    variables=(Variable("application", "stream_events_processed_total", "application"),),
    rows=(
        Row(
            "Flow",
            (
                Panel(
                    "Processed",
                    (_by_query(f"rate(stream_events_processed_total{CHOSEN}[$__rate_interval])"),),
                    unit="cps",
                ),
                Panel(
                    "Records that wait",
                    (
                        Query(
                            f"sum by (application, topic) (stream_processing_lag{CHOSEN})",
                            "{{application}} on {{topic}}",
                        ),
                    ),
                ),
                Panel(
                    "Arriving and processed, last batch",
                    (
                        Query(
                            f"sum by (application) (stream_input_rows_per_second{CHOSEN})", "{{application}} arriving"
                        ),
                        Query(
                            f"sum by (application) (stream_processed_rows_per_second{CHOSEN})",
                            "{{application}} processed",
                        ),
                    ),
                    unit="cps",
                    description="Where more arrives than is processed, the stream falls behind.",
                ),
            ),
        ),
        Row(
            "Time",
            (
                Panel("From trigger to commit", (_latency(0.5), _latency(0.95), _latency(0.99)), unit="s"),
                Panel("Duration of the last batch", (_by_query(f"stream_batch_duration_seconds{CHOSEN}"),), unit="s"),
                Panel(
                    "Watermark behind the latest event",
                    (_by_query(f"stream_watermark_delay_seconds{CHOSEN}"),),
                    unit="s",
                ),
            ),
        ),
        Row(
            "State and losses",
            (
                Panel("Rows of state", (_by_query(f"stream_state_rows{CHOSEN}"),)),
                Panel(
                    "Rows that came too late, within an hour",
                    (_by_query(f"increase(stream_late_rows_dropped_total{CHOSEN}[1h])"),),
                ),
                Panel(
                    "Dead letters, within an hour",
                    (_by_query(f"increase(stream_dead_letters_total{CHOSEN}[1h])"),),
                ),
            ),
        ),
        Row(
            "Executors",
            (
                Panel("Tasks under way", (_executor("activeTasks"),)),
                Panel("Failed tasks", (_executor_rate("failedTasks_total"),), unit="cps"),
                Panel("Heap", (_executor("JVMHeapMemory_bytes"),), unit="bytes"),
                Panel(
                    "Time in garbage collection",
                    (_executor_rate("totalGCTime_seconds_total"),),
                    unit="percentunit",
                ),
                Panel("Shuffled, read", (_executor_rate("totalShuffleRead_bytes_total"),), unit="Bps"),
                Panel(
                    "Executors",
                    (
                        Query(
                            'count by (application) (metrics_executor_totalCores{application=~"$application", '
                            'executor_id!="driver"})',
                            "{{application}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Operator",
            (
                Panel(
                    "Applications that run",
                    (Query("sum(spark_application_running_count)", "running"),),
                    width=12,
                ),
                Panel(
                    "Failed within an hour",
                    (
                        Query("sum(increase(spark_application_failure_count[1h]))", "applications"),
                        Query("sum(increase(spark_application_failed_submission_count[1h]))", "submissions"),
                        Query("sum(increase(spark_executor_failure_count[1h]))", "executors"),
                    ),
                    width=12,
                ),
            ),
        ),
    ),
)
