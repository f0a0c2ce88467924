{{- /* Which part's web process each process calls: the arrows of ARCHITECTURE.md, by component.

Everybody asks the gateway for keys and tokens, and it forwards to all. A worker pulls from the feeds of whom it follows,
and asks the audit service for its receipts. Records resolves grants at approvals, which describes records. */ -}}
{{- define "dossier.arrows" -}}
gateway-web: [records, approvals, retention, audit]
gateway-worker: [gateway, audit]
records-web: [gateway, approvals]
records-worker: [gateway, approvals, retention, audit]
approvals-web: [gateway, records]
approvals-worker: [gateway, records, retention, audit]
retention-web: [gateway]
retention-worker: [gateway, records, approvals, audit]
audit-web: [gateway]
audit-worker: [gateway, records, approvals, retention]
smoke: [gateway]
{{- end -}}

{{- /* Egress rules to servers; nobody is named where the list is empty, and then there is no rule. */ -}}
{{- define "dossier.egressTo" -}}
{{- if .to }}
- to:
    {{- toYaml .to | nindent 4 }}
  ports:
    {{- range .ports }}
    - {protocol: {{ . | splitList "/" | last }}, port: {{ . | splitList "/" | first }}}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "dossier.egressDns" -}}
{{- include "dossier.egressTo" (dict "to" .Values.networkPolicy.dnsTo "ports" (list "53/UDP" "53/TCP")) }}
{{- end -}}

{{- define "dossier.egressPostgresql" -}}
{{- include "dossier.egressTo" (dict "to" .Values.networkPolicy.postgresqlTo "ports" (list (printf "%s/TCP" (include "dossier.port" .Values.postgresql.url)))) }}
{{- end -}}

{{- define "dossier.egressNats" -}}
{{- include "dossier.egressTo" (dict "to" .Values.networkPolicy.natsTo "ports" (list (printf "%s/TCP" (include "dossier.port" .Values.nats.url)))) }}
{{- end -}}
