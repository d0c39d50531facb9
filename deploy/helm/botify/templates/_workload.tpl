{{/*
A process as a Deployment, or as a StatefulSet where its pods have lasting names in their consumer group.

Parameters: root, name (component), module (python -m), flag (its option, if it takes one), port (name of the port of /metrics, /healthz and /readyz),
number (of that port), variables (of this process, as YAML), values (of this process), member (whether it is in a
consumer group).
*/}}
{{- define "botify.workload" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $static := and .member ($values.staticMembership | default false) -}}
{{- $scaled := dig "autoscaling" "enabled" false $values -}}
{{- if and $static (lt (int $values.sessionTimeoutSeconds) 30) }}
{{- fail (printf "%s.sessionTimeoutSeconds: a restart takes about 20 s, so staticMembership needs 30 or more" .name) }}
{{- end }}
apiVersion: apps/v1
kind: {{ $static | ternary "StatefulSet" "Deployment" }}
metadata:
  name: {{ include "botify.fullname" $root }}-{{ .name }}
  labels:
    {{- include "botify.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  {{- if not $scaled }}
  replicas: {{ $values.replicas | default 1 | int }}
  {{- end }}
  revisionHistoryLimit: 5
  {{- if $static }}
  serviceName: {{ include "botify.fullname" $root }}-{{ .name }}
  podManagementPolicy: Parallel
  updateStrategy: {type: RollingUpdate}
  {{- else }}
  # a new pod is ready before an old one ends
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  {{- end }}
  selector:
    matchLabels:
      {{- include "botify.selector" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
  template:
    metadata:
      labels:
        {{- include "botify.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .name }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # a change of the experiments restarts the pods
        checksum/experiments: {{ $root.Values.experiments | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "botify.podSettings" $root | nindent 6 }}
      # A process ends within 8 s. If it hangs, others have its partitions before it is killed.
      terminationGracePeriodSeconds: {{ .member | ternary (add 20 (int (dig "sessionTimeoutSeconds" 10 $values))) 30 }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: {{ $root.Values.topologySpread }}
          labelSelector:
            matchLabels:
              {{- include "botify.selector" $root | nindent 14 }}
              app.kubernetes.io/component: {{ .name }}
      containers:
        - name: {{ .name }}
          {{- include "botify.containerSettings" $root | nindent 10 }}
          command: [python, -m, {{ .module }}{{ with .flag }}, {{ . }}{{ end }}]
          ports:
            - {name: {{ .port }}, containerPort: {{ .number }}}
          env:
            {{- include "botify.variables" $root | nindent 12 }}
            {{- if $root.Values.experiments }}
            - {name: BOTIFY_EXPERIMENTS, value: /etc/botify/experiments/experiments.toml}
            {{- end }}
            {{- if .member }}
            - {name: BOTIFY_SESSION_TIMEOUT_S, value: {{ $values.sessionTimeoutSeconds | int | quote }}}
            {{- end }}
            {{- if $static }}
            - name: BOTIFY_GROUP_INSTANCE_ID
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- end }}
            {{- with .variables }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.env }}
            {{- include "botify.extraVariables" . | trim | nindent 12 }}
            {{- end }}
          startupProbe:
            httpGet: {path: /healthz, port: {{ .port }}}
            periodSeconds: 5
            timeoutSeconds: 4
            failureThreshold: {{ div (add (int $values.startupSeconds) 4) 5 }}
          readinessProbe:
            httpGet: {path: /readyz, port: {{ .port }}}
            periodSeconds: 5
            timeoutSeconds: 4
          livenessProbe:
            httpGet: {path: /healthz, port: {{ .port }}}
            periodSeconds: 10
            timeoutSeconds: 4
          {{- if not .member }}
          lifecycle:
            # balancers learn of the end before connections are refused
            preStop: {exec: {command: [sleep, "5"]}}
          {{- end }}
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          volumeMounts:
            {{- include "botify.mounts" $root | nindent 12 }}
            {{- if $root.Values.experiments }}
            - {name: experiments, mountPath: /etc/botify/experiments, readOnly: true}
            {{- end }}
      volumes:
        {{- include "botify.volumes" $root | nindent 8 }}
        {{- if $root.Values.experiments }}
        - {name: experiments, configMap: {name: {{ include "botify.fullname" $root }}-experiments}}
        {{- end }}
{{- end -}}

{{/* What the pods of processes, jobs and tests share. */}}
{{- define "botify.podSettings" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "botify.containerSettings" -}}
image: {{ include "botify.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A PodDisruptionBudget: root, name, values. */}}
{{- define "botify.disruptionBudget" -}}
{{- if gt (int .values.maxUnavailable) 0 }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "botify.fullname" .root }}-{{ .name }}
  labels:
    {{- include "botify.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  maxUnavailable: {{ .values.maxUnavailable | int }}
  # a pod that is not ready does not block a drain
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "botify.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .name }}
{{- end }}
{{- end -}}

{{/* The headless Service by which the metrics of a process are found: root, name. */}}
{{- define "botify.metricsService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "botify.fullname" .root }}-{{ .name }}
  labels:
    {{- include "botify.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
spec:
  clusterIP: None
  # a process that is not ready is the one to look at
  publishNotReadyAddresses: true
  selector:
    {{- include "botify.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  ports:
    - {name: metrics, port: 9100, targetPort: metrics}
{{- end -}}
