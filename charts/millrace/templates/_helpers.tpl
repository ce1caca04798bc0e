{{/* Labels that every object carries. Takes a dict with root, component, and name if it isn't the component's. */}}
{{- define "millrace.labels" -}}
app.kubernetes.io/name: {{ .name | default .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: millrace
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Labels of pods: without the chart's version, with which every pod would be restarted. Takes the same. */}}
{{- define "millrace.podLabels" -}}
app.kubernetes.io/name: {{ .name | default .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: millrace
{{- end }}

{{/* The topics, as YAML: those of files/topics.yaml with `topics` of the values over them, without those set to null. */}}
{{- define "millrace.topics" -}}
{{- $topics := (.Files.Get "files/topics.yaml" | fromYaml).topics }}
{{- range $name, $changes := .Values.topics }}
{{- if kindIs "invalid" $changes }}
{{- $topics = omit $topics $name }}
{{- else }}
{{- $_ := set $topics $name (mergeOverwrite (dict) (get $topics $name | default dict) $changes) }}
{{- end }}
{{- end }}
{{- toYaml $topics }}
{{- end }}

{{/* What chooses the pods of one workload of this release. Takes a dict with root and name. */}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* One of our own images. Takes a dict with root and repository, which may have a tag or a digest of its own. */}}
{{- define "millrace.image" -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .repository }}
{{- if not (regexMatch "[:@][^/]*$" .repository) }}:{{ .root.Values.images.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Credentials of registries, of a pod. */}}
{{- define "millrace.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What every pod of ours says first. Takes a dict with root, uid, and priority (a class's name, may be empty). */}}
{{- define "millrace.pod" -}}
{{- include "millrace.pullSecrets" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .priority }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "millrace.podSecurityContext" . | nindent 2 }}
{{- end }}

{{/* Pod Security `restricted`, of a pod. Takes a dict with uid. */}}
{{- define "millrace.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Pod Security `restricted`, of a container; nothing may be written outside of mounted volumes. */}}
{{- define "millrace.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where clients find the brokers, as host:port. */}}
{{- define "millrace.kafkaBootstrap" -}}
{{ .Values.kafka.name }}-kafka-bootstrap.{{ .Release.Namespace }}.svc:{{ ternary 9093 9092 .Values.kafka.listeners.tls.enabled }}
{{- end }}

{{/* URL of the object store; empty for that of AWS. */}}
{{- define "millrace.objectStoreEndpoint" -}}
{{- if .Values.objectStore.enabled }}http://object-store.{{ .Release.Namespace }}.svc:7070
{{- else }}{{ .Values.objectStore.external.endpoint }}
{{- end }}
{{- end }}

{{/* Region of the object store: S3's clients want one, also from a store that has none. */}}
{{- define "millrace.objectStoreRegion" -}}
{{- if .Values.objectStore.enabled }}us-east-1{{ else }}{{ .Values.objectStore.external.region | default "us-east-1" }}{{ end }}
{{- end }}

{{/* Bucket of the object store. */}}
{{- define "millrace.bucket" -}}
{{- ternary .Values.objectStore.bucket .Values.objectStore.external.bucket .Values.objectStore.enabled }}
{{- end }}

{{/* Where everything is: the environment of whatever reads or writes data. */}}
{{- define "millrace.environment" -}}
KAFKA_BOOTSTRAP_SERVERS: {{ include "millrace.kafkaBootstrap" . }}
KAFKA_SECURITY_PROTOCOL: {{ ternary "SASL_SSL" "PLAINTEXT" .Values.kafka.listeners.tls.enabled }}
{{- if .Values.kafka.listeners.tls.enabled }}
KAFKA_SASL_MECHANISM: SCRAM-SHA-512
KAFKA_SSL_CA_LOCATION: /etc/millrace/kafka/ca.crt
{{- end }}
MILLRACE_STORAGE: s3a://{{ include "millrace.bucket" . }}
{{- with include "millrace.objectStoreEndpoint" . }}
AWS_ENDPOINT_URL_S3: {{ . }}
{{- end }}
AWS_REGION: {{ include "millrace.objectStoreRegion" . }}
{{- if .Values.historyServer.enabled }}
MILLRACE_EVENT_LOG: s3a://{{ include "millrace.bucket" . }}/spark-events
{{- end }}
{{- end }}

{{/* The Kafka users, as YAML: those of the values, and the Kafka UI's where there is one. */}}
{{- define "millrace.users" -}}
{{- $users := .Values.users }}
{{- if .Values.kafkaUi.enabled }}
{{- $users = merge (dict) $users (dict "kafka-ui" (dict "read" (list "*") "inspect" true)) }}
{{- end }}
{{- toYaml $users }}
{{- end }}
