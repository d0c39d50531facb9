{{/* A Job that Helm waits for: root, name, command, hook, weight. */}}
{{- define "botify.job" -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "botify.fullname" .root }}-{{ .name }}
  labels:
    {{- include "botify.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  annotations:
    helm.sh/hook: {{ .hook }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  backoffLimit: 4
  activeDeadlineSeconds: 600
  template:
    {{- include "botify.jobPod" . | nindent 4 }}
{{- end -}}

{{/* The pod of a Job: root, name, command, claim (of a volume for /snapshots, if any). */}}
{{- define "botify.jobPod" -}}
metadata:
  labels:
    {{- include "botify.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "botify.podSettings" .root | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: {{ .name }}
      {{- include "botify.containerSettings" .root | nindent 6 }}
      command: {{ .command | toJson }}
      env:
        {{- include "botify.variables" .root | nindent 8 }}
      resources:
        requests: {cpu: 100m, memory: 256Mi}
        limits: {memory: 1Gi}
      volumeMounts:
        {{- include "botify.mounts" .root | nindent 8 }}
        {{- if .claim }}
        - {name: snapshots, mountPath: /snapshots}
        {{- end }}
  volumes:
    {{- include "botify.volumes" .root | nindent 4 }}
    {{- with .claim }}
    - {name: snapshots, persistentVolumeClaim: {claimName: {{ . | quote }}}}
    {{- end }}
{{- end -}}
