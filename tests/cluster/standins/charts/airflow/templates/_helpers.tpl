{{/* Labels of an object. Takes a dict with root and component, which may be empty. */}}
{{- define "airflow.labels" -}}
{{ include "airflow.podLabels" . }}
chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
heritage: {{ .root.Release.Service }}
{{- end }}

{{/* Labels of a pod. */}}
{{- define "airflow.podLabels" -}}
{{ include "airflow.selector" . }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that pods are selected by. */}}
{{- define "airflow.selector" -}}
tier: airflow
{{- with .component }}
component: {{ . }}
{{- end }}
release: {{ .root.Release.Name }}
{{- end }}

{{/* A container's image, and who it runs as. */}}
{{- define "airflow.image" -}}
image: {{ .Values.defaultAirflowRepository }}:{{ .Values.defaultAirflowTag }}
imagePullPolicy: {{ .Values.images.airflow.pullPolicy }}
securityContext: {{- toYaml .Values.securityContexts.containers | nindent 2 }}
{{- end }}

{{/* A container's environment: the chart's own, ours, and its own. Takes a dict with root, env, and bare or tokens where it is
bare, or may issue tokens. */}}
{{- define "airflow.environment" -}}
{{- $values := .root.Values }}
{{- if not .bare }}
envFrom: {{- tpl $values.extraEnvFrom .root | nindent 2 }}
{{- end }}
env:
  {{- if not .bare }}
  {{- range $values.secret }}
  {{- include "airflow.secretEnvironment" (list .envName .secretName .secretKey) | nindent 2 }}
  - name: AIRFLOW__KUBERNETES_SECRETS__{{ .envName }}
    value: {{ .secretName }}={{ .secretKey }}
  {{- end }}
  {{- end }}
  {{- include "airflow.secretEnvironment" (list "AIRFLOW__CORE__FERNET_KEY" $values.fernetKeySecretName "fernet-key") | nindent 2 }}
  - name: AIRFLOW_HOME
    value: {{ $values.airflowHome }}
  {{- range list "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" "AIRFLOW_CONN_AIRFLOW_DB" }}
  {{- include "airflow.secretEnvironment" (list . $values.data.metadataSecretName "connection") | nindent 2 }}
  {{- end }}
  {{- include "airflow.secretEnvironment" (list "AIRFLOW__API__SECRET_KEY" $values.apiSecretKeySecretName "api-secret-key") | nindent 2 }}
  {{- if .tokens }}
  {{- include "airflow.secretEnvironment" (list "AIRFLOW__API_AUTH__JWT_SECRET" $values.jwtSecretName "jwt-secret") | nindent 2 }}
  {{- end }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* An entry that is a secret's. Takes a list: its name, the secret's, the key. */}}
{{- define "airflow.secretEnvironment" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}

{{/* Where a container finds the configuration, and what the values mount. */}}
{{- define "airflow.mounts" -}}
- name: config
  mountPath: {{ .Values.airflowHome }}/airflow.cfg
  subPath: airflow.cfg
  readOnly: true
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "airflow.volumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}-config
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Numbers of a probe, which may also have a command or a path of its own. */}}
{{- define "airflow.probe" -}}
{{- pick . "initialDelaySeconds" "timeoutSeconds" "failureThreshold" "periodSeconds" | toYaml }}
{{- end }}

{{/* Asks the database whether the job of this host is alive, unless the probe has a command of its own. Takes its kind
and the probe. */}}
{{- define "airflow.jobCheck" -}}
exec:
  command:
    {{- with (index . 1).command }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - sh
    - -c
    - |
      CONNECTION_CHECK_MAX_COUNT=0 AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR exec /entrypoint \
      airflow jobs check --job-type {{ index . 0 }} --local
    {{- end }}
{{- end }}
