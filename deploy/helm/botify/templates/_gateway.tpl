{{/* The option of a gateway: without a token, it serves the cluster only because this says so. */}}
{{- define "botify.gatewayFlag" -}}
{{- with .Values.gateway }}
{{- if not .token.existingSecret }}
{{- if or .ingress.enabled (ne .service.type "ClusterIP") }}
{{- fail "gateway.token.existingSecret: what is reached from outside the cluster needs a token (an Ingress, or a Service that is no ClusterIP)" }}
{{- end -}}
--insecure
{{- end }}
{{- end }}
{{- end -}}

{{/* The variables of a gateway: root, dashboard (on or off). */}}
{{- define "botify.gatewayVariables" -}}
- {name: BOTIFY_GATEWAY_HOST, value: 0.0.0.0}
- {name: BOTIFY_GATEWAY_DASHBOARD, value: {{ .dashboard | quote }}}
{{- with .root.Values.gateway.token }}
{{- if .existingSecret }}
{{ include "botify.secretVariable" (dict "name" "BOTIFY_GATEWAY_TOKEN" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- end }}
{{- end -}}
