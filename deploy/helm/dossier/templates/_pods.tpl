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

{{- define "dossier.certificateVolume" -}}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      - {key: ca.crt, path: ca.crt}
{{- end -}}

{{- define "dossier.caSource" -}}
- configMap:
    name: {{ . }}
    items:
      - {key: ca.pem, path: ca.pem}
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
