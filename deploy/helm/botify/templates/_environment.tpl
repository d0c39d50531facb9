{{/* The variables that core/settings.py reads, and the files that some of them name. */}}

{{/* One variable from a Secret: name, secret, key. */}}
{{- define "botify.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
{{- end -}}

{{/* A password in a value is refused, without repeating it as the schema would. */}}
{{- define "botify.checkUrl" -}}
{{- if contains "@" .url }}
{{- fail (printf "%s.url: it has a user or a password; put the whole URL into a Secret and name that in %s.existingSecret" .name .name) }}
{{- end }}
{{- end -}}

{{- define "botify.kafkaVariables" -}}
{{- $kafka := .Values.kafka -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ required "kafka.bootstrapServers: the addresses of the brokers" $kafka.bootstrapServers | quote }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.protocol }}}
{{- if hasPrefix "SASL_" $kafka.protocol }}
{{- $secret := required "kafka.sasl.existingSecret: the Secret with the password" $kafka.sasl.existingSecret }}
- {name: KAFKA_SASL_MECHANISM, value: {{ $kafka.sasl.mechanism }}}
{{- if $kafka.sasl.username }}
- {name: KAFKA_SASL_USERNAME, value: {{ $kafka.sasl.username | quote }}}
{{- else }}
{{ include "botify.secretVariable" (dict "name" "KAFKA_SASL_USERNAME" "secret" $secret "key" $kafka.sasl.usernameKey) }}
{{- end }}
{{ include "botify.secretVariable" (dict "name" "KAFKA_SASL_PASSWORD" "secret" $secret "key" $kafka.sasl.passwordKey) }}
{{- end }}
{{- if has "SSL" (splitList "_" $kafka.protocol) }}
{{- with $kafka.tls.caSecret }}
- {name: KAFKA_SSL_CA_LOCATION, value: {{ printf "/etc/botify/kafka-ca/%s" $kafka.tls.caKey }}}
{{- end }}
{{- with $kafka.tls.clientSecret }}
- {name: KAFKA_SSL_CERTIFICATE_LOCATION, value: {{ printf "/etc/botify/kafka-client/%s" $kafka.tls.clientCertKey }}}
- {name: KAFKA_SSL_KEY_LOCATION, value: {{ printf "/etc/botify/kafka-client/%s" $kafka.tls.clientKeyKey }}}
{{- with $kafka.tls.clientKeyPasswordKey }}
{{ include "botify.secretVariable" (dict "name" "KAFKA_SSL_KEY_PASSWORD" "secret" $kafka.tls.clientSecret "key" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "botify.redisVariables" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.existingSecret -}}
{{ include "botify.secretVariable" (dict "name" "REDIS_URL" "secret" $redis.existingSecret "key" $redis.urlKey) }}
{{- else -}}
{{- include "botify.checkUrl" (dict "name" "redis" "url" $redis.url) -}}
- {name: REDIS_URL, value: {{ required "redis.url or redis.existingSecret: the address of Redis" $redis.url | quote }}}
{{- end }}
{{- with $redis.caSecret }}
- {name: REDIS_SSL_CA_LOCATION, value: {{ printf "/etc/botify/redis-ca/%s" $redis.caKey }}}
{{- end }}
{{- end -}}

{{/* What every process has, jobs included. */}}
{{- define "botify.variables" -}}
{{ include "botify.kafkaVariables" . }}
{{ include "botify.redisVariables" . }}
{{- with .Values.schemaRegistry }}
{{- if .existingSecret }}
{{ include "botify.secretVariable" (dict "name" "SCHEMA_REGISTRY_URL" "secret" .existingSecret "key" .urlKey) }}
{{- else if .url }}
{{- include "botify.checkUrl" (dict "name" "schemaRegistry" "url" .url) }}
- {name: SCHEMA_REGISTRY_URL, value: {{ .url | quote }}}
{{- end }}
{{- end }}
- {name: BOTIFY_TOPIC_PREFIX, value: {{ .Values.topics.prefix | quote }}}
- {name: BOTIFY_PARTITIONS, value: {{ .Values.topics.partitions | int | quote }}}
- {name: BOTIFY_LEARNER_SHARDS, value: {{ .Values.topics.learnerShards | int | quote }}}
- {name: BOTIFY_REPLICATION_FACTOR, value: {{ .Values.topics.replicationFactor | int | quote }}}
{{- with .Values.env }}
{{ include "botify.extraVariables" . | trim }}
{{- end }}
{{- end -}}

{{/* A map of values.yaml as variables. */}}
{{- define "botify.extraVariables" -}}
{{- $ours := list "HOME" "TOPIC_PREFIX" "PARTITIONS" "LEARNER_SHARDS" "REPLICATION_FACTOR" "SESSION_TIMEOUT_S" "GROUP_INSTANCE_ID" "EXPERIMENTS" "METRICS_HOST" "METRICS_PORT" "GATEWAY_HOST" "GATEWAY_PORT" "GATEWAY_TOKEN" "GATEWAY_DASHBOARD" }}
{{- range $name, $value := . -}}
{{- if has (trimPrefix "BOTIFY_" $name) $ours }}
{{- fail (printf "env.%s: the chart sets this variable; use its value in values.yaml" $name) }}
{{- end -}}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{ end -}}
{{- end -}}

{{/* The files that the variables name, and the only folders that can be written. */}}
{{- define "botify.mounts" -}}
- {name: home, mountPath: /var/lib/botify}
- {name: tmp, mountPath: /tmp}
{{- range $name, $secret := include "botify.secretFiles" . | fromYaml }}
- {name: {{ $name }}, mountPath: /etc/botify/{{ $name }}, readOnly: true}
{{- end }}
{{- end -}}

{{- define "botify.volumes" -}}
- {name: home, emptyDir: {sizeLimit: 2Gi}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
{{- range $name, $secret := include "botify.secretFiles" . | fromYaml }}
- {name: {{ $name }}, secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}}
{{- end }}
{{- end -}}

{{/* Folder below /etc/botify to the Secret that is mounted there. */}}
{{- define "botify.secretFiles" -}}
{{- if has "SSL" (splitList "_" .Values.kafka.protocol) }}
{{- with .Values.kafka.tls.caSecret }}
kafka-ca: {{ . | quote }}
{{- end }}
{{- with .Values.kafka.tls.clientSecret }}
kafka-client: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.redis.caSecret }}
redis-ca: {{ . | quote }}
{{- end }}
{{- end -}}
