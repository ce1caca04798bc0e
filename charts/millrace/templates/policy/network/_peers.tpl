{{/* Who is meant where policies speak of somebody. Each is one peer, or a list of them, of a NetworkPolicy. */}}

{{/* Pods in a namespace. Takes a dict with namespace, and labels if not all of its pods are meant. */}}
{{- define "millrace.peer" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .namespace }}
  {{- with .labels }}
  podSelector:
    matchLabels: {{- toYaml . | nindent 6 }}
  {{- end }}
{{- end }}

{{/* Prometheus, and whatever else is in its namespace. */}}
{{- define "millrace.peer.monitoring" -}}
{{ include "millrace.peer" (dict "namespace" .Values.namespaces.monitoring) }}
{{- end }}

{{/* Strimzi's cluster operator. */}}
{{- define "millrace.peer.strimzi" -}}
{{ include "millrace.peer" (dict "namespace" .Values.namespaces.strimzi "labels" (dict "strimzi.io/kind" "cluster-operator")) }}
{{- end }}

{{/* Pods that Strimzi makes, by what they are: kafka, entity-operator, kafka-exporter. Takes a dict with root and name. */}}
{{- define "millrace.strimziLabels" -}}
strimzi.io/cluster: {{ .root.Values.kafka.name }}
strimzi.io/name: {{ .root.Values.kafka.name }}-{{ .name }}
{{- end }}
{{- define "millrace.peer.kafka" -}}
- podSelector:
    matchLabels: {{- include "millrace.strimziLabels" . | nindent 6 }}
{{- end }}

{{/* Drivers, executors, feeds and generators. */}}
{{- define "millrace.peer.streams" -}}
{{- range $label := list (dict "spark-role" "driver") (dict "spark-role" "executor") (dict "app.kubernetes.io/component" "ingest") }}
{{ include "millrace.peer" (dict "namespace" $.Values.namespaces.streams "labels" $label) }}
{{- end }}
{{- end }}

{{/* Airflow's components. Takes a dict with root and components. */}}
{{- define "millrace.airflowSelector" -}}
matchLabels:
  tier: airflow
matchExpressions:
  - key: component
    operator: In
    values: {{- toYaml .components | nindent 6 }}
{{- end }}
{{- define "millrace.peer.airflow" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .root.Values.namespaces.airflow }}
  podSelector: {{- include "millrace.airflowSelector" . | nindent 4 }}
{{- end }}

{{/* Who may connect to a Kafka listener. */}}
{{- define "millrace.kafkaClients" -}}
{{- include "millrace.peer.streams" . | trim }}
{{ include "millrace.peer.airflowThatNeeds" (dict "root" . "need" "kafka") }}
{{- if .Values.kafkaUi.enabled }}
- podSelector:
    matchLabels: {{- include "millrace.selector" (dict "root" . "name" "kafka-ui") | nindent 6 }}
{{- end }}
{{- end }}

{{/* Who may reach a UI. */}}
{{- define "millrace.peer.uiClients" -}}
{{- range .Values.networkPolicies.uiClients }}
{{ include "millrace.peer" (dict "namespace" .) }}
{{- end }}
{{- end }}

{{/* Ports by number. Takes a list. */}}
{{- define "millrace.ports" -}}
{{- range . }}
- port: {{ . }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* The ports of Kafka's listeners. */}}
{{- define "millrace.kafkaPorts" -}}
{{- if .Values.kafka.listeners.tls.enabled }}
- port: 9093
  protocol: TCP
{{- end }}
{{- if .Values.kafka.listeners.plain.enabled }}
- port: 9092
  protocol: TCP
{{- end }}
{{- end }}

{{/* Rule of egress: to the brokers' listeners. */}}
{{- define "millrace.egress.kafka" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Release.Namespace }}
      podSelector:
        matchLabels: {{- include "millrace.strimziLabels" (dict "root" . "name" "kafka") | nindent 10 }}
  ports: {{- include "millrace.kafkaPorts" . | nindent 4 }}
{{- end }}

{{/* Rule of egress: to the object store, ours or another. */}}
{{- define "millrace.egress.objectStore" -}}
{{- $external := .Values.objectStore.external }}
- to:
    {{- if .Values.objectStore.enabled }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Release.Namespace }}
      podSelector:
        matchLabels: {{- include "millrace.selector" (dict "root" . "name" "object-store") | nindent 10 }}
  ports:
    - port: 7070
      protocol: TCP
    {{- else }}
    {{- range $external.cidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  {{- $url := urlParse ($external.endpoint | default "https://s3.amazonaws.com") }}
  ports:
    - port: {{ regexFind "[0-9]+$" $url.host | default (ternary 80 443 (eq $url.scheme "http")) }}
      protocol: TCP
    {{- end }}
{{- end }}

{{/* Rule of egress: to the Kubernetes API server. */}}
{{- define "millrace.egress.apiServer" -}}
- to:
    {{- range .Values.networkPolicies.apiServer.cidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports: {{- include "millrace.ports" .Values.networkPolicies.apiServer.ports | nindent 4 }}
{{- end }}

{{/* Which of Airflow's components need what, by the label `component` that the official chart gives them. DAGs' callbacks
run in the DAG processor; tasks ask the API server of Airflow, and never its database. */}}
{{- define "millrace.airflowNeeds" -}}
database: [api-server, create-user-job, dag-processor, database-cleanup, run-airflow-migrations, scheduler, triggerer]
kafka: [dag-processor, triggerer, worker]
drivers: [dag-processor, triggerer, worker]
kubernetes: [airflow-cleanup-pods, api-server, dag-processor, scheduler, triggerer, worker]
objectStore: [api-server, dag-processor, triggerer, worker]
statsd: [api-server, dag-processor, scheduler, triggerer, worker]
{{- end }}

{{/* Airflow's components that need something. Takes a dict with root and need. */}}
{{- define "millrace.peer.airflowThatNeeds" -}}
{{- $components := get (include "millrace.airflowNeeds" . | fromYaml) .need -}}
{{ include "millrace.peer.airflow" (dict "root" .root "components" $components) }}
{{- end }}
