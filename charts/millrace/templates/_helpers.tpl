{{/* Labels that every object carries. Takes a dict with root and component. */}}
{{- define "millrace.labels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: millrace
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
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
