{{- /* Names and labels. */ -}}

{{- define "dossier.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- $name | trunc 43 | trimSuffix "-" -}}
{{- end -}}

{{- define "dossier.parts" -}}
{{- list "gateway" "records" "approvals" "retention" "audit" | join " " -}}
{{- end -}}

{{- define "dossier.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* What selects the pods of one component; of all pods of the release with an empty component. */ -}}
{{- define "dossier.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "dossier.labels" -}}
{{ include "dossier.selector" . }}
app.kubernetes.io/part-of: dossier
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The address of a part inside the cluster. */ -}}
{{- define "dossier.address" -}}
{{- $port := ternary .root.Values.gateway.service.port 8000 (eq .part "gateway") -}}
{{ ternary "https" "http" .root.Values.tls.mutual }}://{{ include "dossier.fullname" .root }}-{{ .part }}:{{ $port }}
{{- end -}}

{{- /* The address of one database: the server's with a user and a database. */ -}}
{{- define "dossier.postgresqlUrl" -}}
{{- $server := urlParse .root.Values.postgresql.url -}}
postgresql://{{ .user }}@{{ $server.host }}/{{ .database }}{{ with $server.query }}?{{ . }}{{ end }}
{{- end -}}

{{- /* The port of an address, or the scheme's. */ -}}
{{- define "dossier.port" -}}
{{- $known := dict "postgresql" "5432" "nats" "4222" "tls" "4222" "https" "443" "http" "80" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (get $known $url.scheme) -}}
{{- end -}}
