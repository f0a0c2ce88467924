{{- /* What all pods of the release have in common: the restricted profile, and nothing of the cluster's API. */ -}}

{{- define "dossier.podMetadata" -}}
labels:
  {{- include "dossier.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.podAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dossier.podSpec" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dossier.container" -}}
image: {{ include "dossier.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "dossier.temporary" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}

{{- /* Secrets as files, just those that are named: one source with `secret` and `keys`. */ -}}
{{- define "dossier.secretSource" -}}
- secret:
    name: {{ .secret }}
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end -}}

{{- /* A certificate as files, just the keys that are named of its Secret. */ -}}
{{- define "dossier.certificateVolume" -}}
- name: tls
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end -}}

{{- define "dossier.caSource" -}}
- configMap:
    name: {{ . }}
    items:
      - {key: ca.pem, path: ca.pem}
{{- end -}}

{{- /* The pod of a job: `name`, `args`, `account`, `secrets` (sources), `variables`; `certified` where it shows the
operator's certificate, whose CA the others need too where they are given no other. */ -}}
{{- define "dossier.jobPod" -}}
{{- $values := .root.Values -}}
{{- $variables := .variables -}}
{{- $keys := list -}}
{{- if $values.tls.mutual -}}
{{- if .certified }}{{ $keys = list "tls.crt" "tls.key" }}{{ end -}}
{{- if not $values.ca }}{{ $keys = append $keys "ca.crt" }}{{ end -}}
{{- end -}}
{{- with include "dossier.caFile" .root }}{{ $_ := set $variables "DOSSIER_CA_FILE" . }}{{ end -}}
metadata:
  {{- include "dossier.podMetadata" (dict "root" .root "component" .name) | nindent 2 }}
spec:
  {{- include "dossier.podSpec" (dict "root" .root "account" .account) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: {{ .name }}
      {{- include "dossier.container" .root | nindent 6 }}
      args: {{ toJson .args }}
      {{- with $variables }}
      env:
        {{- include "dossier.env" . | trim | nindent 8 }}
      {{- end }}
      resources:
        {{- toYaml $values.jobs.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if .secrets }}
        - {name: secrets, mountPath: /run/secrets, readOnly: true}
        {{- end }}
        {{- if $values.ca }}
        - {name: configuration, mountPath: /etc/dossier, readOnly: true}
        {{- end }}
        {{- if $keys }}
        - {name: tls, mountPath: /run/tls, readOnly: true}
        {{- end }}
  volumes:
    {{- include "dossier.temporary" .root | nindent 4 }}
    {{- with .secrets }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range . }}
          {{- include "dossier.secretSource" . | nindent 10 }}
          {{- end }}
    {{- end }}
    {{- with $values.ca }}
    - name: configuration
      projected:
        sources:
          {{- include "dossier.caSource" . | nindent 10 }}
    {{- end }}
    {{- with $keys }}
    {{- include "dossier.certificateVolume" (dict "secret" $values.tls.secrets.operator "keys" .) | nindent 4 }}
    {{- end }}
{{- end -}}

{{- /* Is it alive, and does it answer? Callers without a certificate are taken by the gateway's web process alone, so
that the kubelet, which has none, can ask elsewhere only whether somebody listens. */ -}}
{{- define "dossier.probes" -}}
{{- $port := ternary "http" "metrics" (eq .process "web") -}}
{{- $alone := and .root.Values.tls.mutual (ne .component "gateway-web") -}}
{{- $scheme := ternary "HTTPS" "HTTP" .root.Values.tls.mutual -}}
startupProbe:
  {{- if $alone }}
  tcpSocket: {port: {{ $port }}}
  {{- else }}
  httpGet: {path: /healthz, port: {{ $port }}, scheme: {{ $scheme }}}
  {{- end }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
livenessProbe:
  {{- if $alone }}
  tcpSocket: {port: {{ $port }}}
  {{- else }}
  httpGet: {path: /healthz, port: {{ $port }}, scheme: {{ $scheme }}}
  {{- end }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- if $alone }}
  exec:
    command: [dossier-health, {{ .part }}, {{ .process }}]
  {{- else }}
  httpGet: {path: /readyz, port: {{ $port }}, scheme: {{ $scheme }}}
  {{- end }}
  periodSeconds: 5
  timeoutSeconds: 6
  failureThreshold: 3
{{- end -}}
