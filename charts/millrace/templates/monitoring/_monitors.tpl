{{- /*
What is scraped, as YAML: by the label job that its metrics get, the pods that are selected and their endpoints. `always`:
something is wrong where there is no such pod.
*/ -}}
{{- define "millrace.monitors" -}}
{{- $kafka := .Values.kafka }}
{{- $targets := .Values.monitoring.targets }}
{{- $namespaces := .Values.namespaces }}
{{- if $kafka.metrics.enabled }}
kafka:
  always: true
  namespace: {{ .Release.Namespace }}
  selector:
    strimzi.io/cluster: {{ $kafka.name }}
    strimzi.io/name: {{ $kafka.name }}-kafka
  endpoints:
    - port: tcp-prometheus
      relabelings:
        - sourceLabels: [__meta_kubernetes_pod_label_strimzi_io_pool_name]
          targetLabel: pool
      metricRelabelings:
        # Times of the requests that clients and followers wait for; there are a hundred kinds, each with eight numbers.
        - sourceLabels: [request]
          regex: (Produce|FetchConsumer|FetchFollower|)
          action: keep
{{- end }}
{{- if $kafka.exporter.enabled }}
kafka-exporter:
  always: true
  namespace: {{ .Release.Namespace }}
  selector:
    strimzi.io/cluster: {{ $kafka.name }}
    strimzi.io/name: {{ $kafka.name }}-kafka-exporter
  endpoints:
    - port: tcp-prometheus
{{- end }}
{{- if $targets.entityOperator }}
entity-operator:
  always: true
  namespace: {{ .Release.Namespace }}
  selector:
    strimzi.io/cluster: {{ $kafka.name }}
    strimzi.io/name: {{ $kafka.name }}-entity-operator
  endpoints:
    - port: healthcheck-to
    - port: healthcheck-uo
{{- end }}
{{- if $targets.strimzi }}
strimzi:
  always: true
  namespace: {{ $namespaces.strimzi }}
  selector:
    strimzi.io/kind: cluster-operator
  endpoints:
    - port: http
{{- end }}
{{- if $targets.sparkOperator }}
spark-operator:
  always: true
  namespace: {{ $namespaces.sparkOperator }}
  selector:
    app.kubernetes.io/name: spark-operator
    app.kubernetes.io/component: controller
  endpoints:
    - port: metrics
{{- end }}
{{- if $targets.sparkDrivers }}
spark-driver:
  always: false
  namespace: {{ $namespaces.streams }}
  selector:
    spark-role: driver
  endpoints:
    - port: metrics
      # The metrics carry the name of the application themselves; `up` does not.
      honorLabels: true
      relabelings:
        - sourceLabels: [__meta_kubernetes_pod_label_sparkoperator_k8s_io_app_name]
          targetLabel: application
{{- end }}
{{- if $targets.sparkExecutors }}
# Executors have no port of their own: they report to the driver with each heartbeat, and its UI passes that on.
spark-executors:
  always: false
  namespace: {{ $namespaces.streams }}
  selector:
    spark-role: driver
  endpoints:
    - port: spark-ui
      path: /metrics/executors/prometheus
      relabelings:
        - sourceLabels: [__meta_kubernetes_pod_label_sparkoperator_k8s_io_app_name]
          targetLabel: application
      metricRelabelings:
        # Another one with each start: series without end.
        - regex: application_id|application_name
          action: labeldrop
{{- end }}
{{- if $targets.ingest }}
ingest:
  always: false
  namespace: {{ $namespaces.streams }}
  selector:
    app.kubernetes.io/part-of: millrace
    app.kubernetes.io/component: ingest
  endpoints:
    - port: metrics
{{- end }}
{{- if $targets.airflow }}
airflow:
  always: true
  namespace: {{ $namespaces.airflow }}
  selector:
    tier: airflow
    component: statsd
  endpoints:
    - port: statsd-scrape
{{- end }}
{{- if and $targets.postgresql .Values.postgresql.enabled .Values.postgresql.exporter.enabled }}
postgresql:
  always: true
  namespace: {{ .Release.Namespace }}
  selector:
    {{- include "millrace.selector" (dict "root" . "name" "postgresql") | nindent 4 }}
  endpoints:
    - port: metrics
{{- end }}
{{- end }}
