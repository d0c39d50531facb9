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
