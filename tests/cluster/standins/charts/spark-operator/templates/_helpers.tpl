{{- define "spark-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end -}}

{{- define "spark-operator.controller.name" -}}
{{ include "spark-operator.fullname" . }}-controller
{{- end -}}

{{- define "spark-operator.controller.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "spark-operator.controller.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "spark-operator.controller.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "spark-operator.controller.serviceAccountName" -}}
{{- $account := .Values.controller.serviceAccount -}}
{{ $account.name | default (ternary (include "spark-operator.controller.name" .) "default" $account.create) }}
{{- end -}}
