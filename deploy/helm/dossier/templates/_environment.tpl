{{- /* What processes are told. Secrets are always names of files. */ -}}

{{- /* The file with the CAs of servers, or nothing. */ -}}
{{- define "dossier.caFile" -}}
{{- if .Values.ca -}}/etc/dossier/ca.pem{{- else if .Values.tls.mutual -}}/run/tls/ca.crt{{- end -}}
{{- end -}}

{{- define "dossier.policyFile" -}}
{{- $pack := .Values.policy.pack -}}
{{- if hasKey .Values.policy.packs $pack -}}
/etc/dossier/{{ $pack }}.yaml
{{- else if has $pack (list "baseline" "service-desk") -}}
/opt/dossier/deploy/policies/{{ $pack }}.yaml
{{- else -}}
{{- fail (printf "policy.pack: %s is no pack of the image, and is not in policy.packs" $pack) -}}
{{- end -}}
{{- end -}}

{{- /* Variables of one process, as YAML: name to value. Workers alone speak to NATS. */ -}}
{{- define "dossier.partVariables" -}}
{{- $root := .root -}}
{{- $part := .part -}}
{{- $own := dict
  "DATABASE_URL" (include "dossier.postgresqlUrl" (dict "root" $root "user" (printf "%s_app" $part) "database" (printf "dossier_%s" $part)))
  "DATABASE_PASSWORD_FILE" (printf "/run/secrets/postgres-%s-app" $part)
  "SIGNING_KEY_FILE" (printf "/run/secrets/%s-signing-key.pem" $part)
  "LISTEN_HOST" $root.Values.listenHost
  "LISTEN_PORT" "8000"
  "WORKER_PORT" "8001"
-}}
{{- if eq .process "worker" -}}
{{- $own = merge $own (dict "NATS_URL" $root.Values.nats.url "NATS_PASSWORD_FILE" (printf "/run/secrets/nats-%s" $part)) -}}
{{- end -}}
{{- if $root.Values.tls.mutual -}}
{{- $own = merge $own (dict "TLS_CERTIFICATE_FILE" "/run/tls/tls.crt" "TLS_KEY_FILE" "/run/tls/tls.key" "TLS_CLIENT_CA_FILE" "/run/tls/ca.crt") -}}
{{- end -}}
{{- if eq $part "gateway" -}}
{{- $own = merge $own (dict "TOKEN_KEY_FILE" "/run/secrets/gateway-token-key.pem" "AUDIT_LOG_VKEY_FILE" "/etc/dossier/audit-log.vkey") -}}
{{- with $root.Values.gateway.trustedProxies }}{{ $_ := set $own "TRUSTED_PROXIES" (toJson .) }}{{ end -}}
{{- with $root.Values.gateway.zones }}{{ $_ := set $own "ZONES" (toJson .) }}{{ end -}}
{{- else if eq $part "records" -}}
{{- $own = merge $own (dict "KEYRING_DIR" "/var/lib/dossier/keyring" "SUPPLEMENT_DIR" "/var/lib/dossier/supplements" "KEYRING_PASSPHRASE_FILE" "/run/secrets/records-keyring-passphrase") -}}
{{- else if eq $part "audit" -}}
{{- $_ := set $own "LOG_KEY_FILE" "/run/secrets/audit-log-key.pem" -}}
{{- if eq .process "worker" -}}
{{- $_ := set $own "CHECKPOINT_DIR" "/var/lib/dossier/checkpoints" -}}
{{- if $root.Values.audit.witnesses }}{{ $_ := set $own "WITNESSES_FILE" "/etc/dossier/witnesses.json" }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $all := dict
  "DOSSIER_ISSUER" $root.Values.issuer
  "DOSSIER_PEERS_FILE" "/etc/dossier/peers.json"
  "DOSSIER_PRODUCER_KEYS_FILE" "/etc/dossier/producer-keys.json"
  "DOSSIER_POLICY" (include "dossier.policyFile" $root)
-}}
{{- with include "dossier.caFile" $root }}{{ $_ := set $all "DOSSIER_CA_FILE" . }}{{ end -}}
{{- range $name, $value := $own }}{{ $_ := set $all (printf "DOSSIER_%s_%s" (upper $part) $name) $value }}{{ end -}}
{{- range $given := list $root.Values.extraEnv (index $root.Values $part).env -}}
{{- range $name, $value := $given -}}
{{- if hasKey $all $name -}}
{{- fail (printf "%s is set by the chart from other values; remove it from extraEnv and %s.env" $name $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (merge (deepCopy (index $root.Values $part).env) $root.Values.extraEnv $all) -}}
{{- end -}}

{{- /* How a job reaches the database of one part, to change its tables; as YAML. */ -}}
{{- define "dossier.migratorVariables" -}}
DOSSIER_{{ upper .part }}_MIGRATOR_URL: {{ include "dossier.postgresqlUrl" (dict "root" .root "user" (printf "%s_migrator" .part) "database" (printf "dossier_%s" .part)) }}
DOSSIER_{{ upper .part }}_MIGRATOR_PASSWORD_FILE: /run/secrets/postgres-{{ .part }}-migrator
{{- end -}}

{{- /* A mapping as a container's `env`. */ -}}
{{- define "dossier.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- /* Secret keys of one process, each a file of that name. */ -}}
{{- define "dossier.secretKeys" -}}
{{- $keys := list (printf "postgres-%s-app" .part) (printf "%s-signing-key.pem" .part) -}}
{{- if eq .process "worker" }}{{ $keys = append $keys (printf "nats-%s" .part) }}{{ end -}}
{{- $own := dict "gateway" "gateway-token-key.pem" "records" "records-keyring-passphrase" "audit" "audit-log-key.pem" -}}
{{- with get $own .part }}{{ $keys = append $keys . }}{{ end -}}
{{- join " " $keys -}}
{{- end -}}

{{- /* Folders that outlive a pod: name of the value to where it is mounted. */ -}}
{{- define "dossier.volumes" -}}
{{- if eq . "records-web" -}}keyring{{- else if eq . "records-worker" -}}keyring supplements{{- else if eq . "audit-worker" -}}checkpoints{{- end -}}
{{- end -}}
