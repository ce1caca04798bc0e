"""Kafka: its nodes, its topics, its consumer groups."""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row, Variable


def _topic(name: str) -> str:
    """Rate of a metric of topics, for those that are chosen."""
    return (
        f'sum by (topic) (rate(kafka_server_brokertopicmetrics_{name}_total{{topic!="", topic=~"$topic"}}'
        "[$__rate_interval]))"
    )


DASHBOARD = Dashboard(
    name="kafka",
    title="Kafka",
    variables=(
        Variable("topic", "kafka_topic_partitions", "topic"),
        Variable("group", "kafka_consumergroup_members", "consumergroup"),
    ),
    rows=(
        Row(
            "Health",
            (
                Panel("Nodes that answer", (Query('sum(up{job="kafka"})'),), number=True, width=4),
                Panel(
                    "Active controllers",
                    (Query("sum(kafka_controller_kafkacontroller_activecontrollercount)"),),
                    number=True,
                    width=4,
                ),
                Panel(
                    "Without a leader",
                    (Query("max(kafka_controller_kafkacontroller_offlinepartitionscount)"),),
                    number=True,
                    steps=(1,),
                    width=4,
                ),
                Panel(
                    "Too few replicas to be written",
                    (Query("sum(kafka_server_replicamanager_underminisrpartitioncount)"),),
                    number=True,
                    steps=(1,),
                    width=4,
                ),
                Panel(
                    "Lacking replicas",
                    (Query("sum(kafka_server_replicamanager_underreplicatedpartitions)"),),
                    number=True,
                    steps=(1,),
                    width=4,
                ),
                Panel(
                    "Offline log directories",
                    (Query("sum(kafka_log_logmanager_offlinelogdirectorycount)"),),
                    number=True,
                    steps=(1,),
                    width=4,
                ),
            ),
        ),
        Row(
            "Topics",
            (
                Panel("Records in", (Query(_topic("messagesinpersec"), "{{topic}}"),), unit="cps"),
                Panel("Bytes in", (Query(_topic("bytesinpersec"), "{{topic}}"),), unit="Bps"),
                Panel("Bytes out", (Query(_topic("bytesoutpersec"), "{{topic}}"),), unit="Bps"),
                Panel(
                    "Size",
                    (Query('sum by (topic) (kafka_log_log_size{topic=~"$topic"})', "{{topic}}"),),
                    unit="bytes",
                    description="On the disks of all brokers, replicas included.",
                ),
                Panel(
                    "Partitions by topic",
                    (Query('sum by (topic) (kafka_topic_partitions{topic=~"$topic"})', "{{topic}}"),),
                ),
                Panel(
                    "Partitions that lack replicas",
                    (
                        Query(
                            'sum by (topic) (kafka_topic_partition_under_replicated_partition{topic=~"$topic"})',
                            "{{topic}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Consumer groups",
            (
                Panel(
                    "Lag",
                    (
                        Query(
                            "sum by (consumergroup, topic) "
                            '(kafka_consumergroup_lag{consumergroup=~"$group", topic=~"$topic"})',
                            "{{consumergroup}} on {{topic}}",
                        ),
                    ),
                    description="Streams commit no offsets to Kafka: theirs is on the dashboard Streams.",
                    width=12,
                ),
                Panel(
                    "Members",
                    (
                        Query(
                            'sum by (consumergroup) (kafka_consumergroup_members{consumergroup=~"$group"})',
                            "{{consumergroup}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Nodes",
            (
                Panel(
                    "Request handlers, idle",
                    (
                        Query(
                            "sum by (pod) (rate("
                            "kafka_server_kafkarequesthandlerpool_requesthandleravgidlepercent_total[$__rate_interval]"
                            ")) / 1e9",
                            "{{pod}}",
                        ),
                    ),
                    unit="percentunit",
                    maximum=1,
                ),
                Panel(
                    "Network threads, idle",
                    (Query("avg by (pod) (kafka_network_socketserver_networkprocessoravgidlepercent)", "{{pod}}"),),
                    unit="percentunit",
                    maximum=1,
                ),
                Panel(
                    "99 % of requests take less than",
                    (
                        Query(
                            'max by (request) (kafka_network_requestmetrics_totaltimems{quantile="0.99"}) / 1000',
                            "{{request}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    "Volume, used",
                    (
                        Query(
                            "max by (persistentvolumeclaim) (1 - kubelet_volume_stats_available_bytes"
                            '{persistentvolumeclaim=~"data-.+"} / '
                            'kubelet_volume_stats_capacity_bytes{persistentvolumeclaim=~"data-.+"})',
                            "{{persistentvolumeclaim}}",
                        ),
                    ),
                    unit="percentunit",
                    maximum=1,
                ),
                Panel(
                    "Heap",
                    (Query('sum by (pod) (jvm_memory_used_bytes{job="kafka", area="heap"})', "{{pod}}"),),
                    unit="bytes",
                ),
                Panel(
                    "Time in garbage collection",
                    (
                        Query(
                            'sum by (pod) (rate(jvm_gc_collection_seconds_sum{job="kafka"}[$__rate_interval]))',
                            "{{pod}}",
                        ),
                    ),
                    unit="percentunit",
                ),
                Panel(
                    "Partitions led",
                    (Query("sum by (pod) (kafka_server_replicamanager_leadercount)", "{{pod}}"),),
                ),
                Panel(
                    "Replicas that fall out of sync",
                    (
                        Query(
                            "sum by (pod) (rate(kafka_server_replicamanager_isrshrinkspersec_total[$__rate_interval]))",
                            "{{pod}}",
                        ),
                    ),
                    unit="cps",
                ),
                Panel(
                    "Reconciliations of the operators that fail",
                    (
                        Query(
                            "sum by (kind) (increase(strimzi_reconciliations_failed_total[$__rate_interval]))",
                            "{{kind}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
