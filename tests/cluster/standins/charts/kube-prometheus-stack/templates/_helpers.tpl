{{/* What names of objects begin with. */}}
{{- define "stack.name" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{/* Labels of an object. Takes a dict with root and app, the part of the stack. */}}
{{- define "stack.labels" -}}
app: {{ .root.Chart.Name }}-{{ .app }}
release: {{ .root.Release.Name }}
chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
heritage: {{ .root.Release.Service }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: {{ .root.Chart.Name }}
app.kubernetes.io/version: {{ .root.Chart.Version }}
{{- end }}

{{/* Labels by which a service monitor finds its service. */}}
{{- define "stack.selector" -}}
app: {{ .root.Chart.Name }}-{{ .app }}
release: {{ .root.Release.Name }}
{{- end }}

{{/* A resource quantity as an argument of the operator, which takes 0 for none. Takes the resources, `requests` or `limits`,
and the resource. */}}
{{- define "stack.quantity" -}}
{{- dig (index . 1) (index . 2) "0" (index . 0) }}
{{- end }}

{{/* The program runs as nobody, and writes nothing. */}}
{{- define "stack.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .group }}
fsGroup: {{ .group }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "stack.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
