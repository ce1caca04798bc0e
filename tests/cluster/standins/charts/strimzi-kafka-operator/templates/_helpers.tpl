{{/* Labels as Strimzi's chart gives them. Takes a dict with root and component. */}}
{{- define "strimzi.labels" -}}
app: strimzi
chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
component: {{ .component }}
release: {{ .root.Release.Name }}
heritage: {{ .root.Release.Service }}
{{- end }}

{{/* The namespaces that are watched: the release's own is always among them. */}}
{{- define "strimzi.namespaces" -}}
{{- append .Values.watchNamespaces .Release.Namespace | sortAlpha | uniq | join "," }}
{{- end }}
