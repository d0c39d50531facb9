{{/* Names, labels and the image. */}}

{{- define "botify.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "botify" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-botify" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "botify.selector" -}}
app.kubernetes.io/name: botify
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "botify.labels" -}}
{{ include "botify.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "botify.image" -}}
{{- printf "%s:%s" (required "image.repository: where the image was pushed" .Values.image.repository) (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
