{{/* A task's pod; the executor adds its name, its command and what names the task. */}}
{{- define "airflow.task" -}}
apiVersion: v1
kind: Pod
metadata:
  name: placeholder-name
  labels: {{- include "airflow.podLabels" (dict "root" . "component" "worker") | nindent 4 }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: {{ .Values.workers.kubernetes.safeToEvict | quote }}
spec:
  serviceAccountName: {{ .Release.Name }}-worker
  restartPolicy: Never
  terminationGracePeriodSeconds: {{ .Values.workers.kubernetes.terminationGracePeriodSeconds }}
  securityContext: {{- toYaml .Values.securityContexts.pod | nindent 4 }}
  containers:
    - name: base
      {{- include "airflow.image" . | nindent 6 }}
      {{- $own := .Values.workers.kubernetes.env | default .Values.workers.env }}
      {{- $executor := dict "name" "AIRFLOW__CORE__EXECUTOR" "value" .Values.executor }}
      {{- include "airflow.environment" (dict "root" . "env" (prepend $own $executor)) | nindent 6 }}
      resources: {{- toYaml .Values.workers.kubernetes.resources | nindent 8 }}
      volumeMounts:
        - name: logs
          mountPath: {{ .Values.airflowHome }}/logs
        {{- include "airflow.mounts" . | nindent 8 }}
  volumes:
    - name: logs
      emptyDir: {}
    {{- include "airflow.volumes" . | nindent 4 }}
{{- end }}
