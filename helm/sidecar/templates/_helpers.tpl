{{- define "sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "sidecar.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sidecar.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sidecar.labels" -}}
{{ include "sidecar.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sidecar.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sidecar.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.image" -}}
{{- $registry := default .Values.global.imageRegistry .Values.image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{/* A duration of the configuration, as 500ms or 30s, in whole seconds, rounded up. */}}
{{- define "sidecar.seconds" -}}
{{- $text := toString . -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h|d)$" $text) }}{{ fail (printf "config.limits: %s is not a duration such as 500ms, 30s or 5m" $text) }}{{ end -}}
{{- $number := regexFind "^[0-9]+" $text | float64 -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- $factor := get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0) $unit -}}
{{- mulf $number $factor | ceil | int -}}
{{- end -}}

{{/* sidecar.yaml: what follows from the other values, and over it whatever `config` says. */}}
{{- define "sidecar.config" -}}
{{- $upstream := dict "url" (ternary (printf "http://127.0.0.1:%d" (int .Values.store.port)) .Values.store.url (eq .Values.mode "sidecar")) -}}
{{- with .Values.store.credentials -}}
{{- if .existingSecret -}}
{{- $basic := dict "username" .username "password_file" (printf "/etc/sidecar/secrets/store/%s" .key) -}}
{{- $_ := set $upstream "credentials" (dict "basic" $basic) -}}
{{- end -}}
{{- end -}}
{{- $address := printf "%s:%d" .Values.listenHost (int .Values.ports.data) -}}
{{- $listen := $address -}}
{{- if .Values.tls.existingSecret -}}
{{- $tls := dict "cert_file" (printf "/etc/sidecar/secrets/tls/%s" .Values.tls.certKey) "key_file" (printf "/etc/sidecar/secrets/tls/%s" .Values.tls.keyKey) -}}
{{- $listen = list (dict "address" $address "tls" $tls) -}}
{{- end -}}
{{- $config := dict
  "listen" $listen
  "ops" (printf "%s:%d" .Values.listenHost (int .Values.ports.ops))
  "policies" "/etc/sidecar/policies"
  "upstreams" (dict "store" $upstream)
  "limits" (dict "drain_delay" "5s" "grace" "30s")
-}}
{{- if .Values.tokenStore.enabled -}}
{{- $_ := set $config "tokens" (dict "store" "sqlite:////var/lib/sidecar/sidecar.db" "pepper_file" (printf "/etc/sidecar/secrets/tokens/%s" .Values.tokenStore.key)) -}}
{{- end -}}
{{- if or .Values.people.inline .Values.people.existingConfigMap -}}
{{- $_ := set $config "directory" (dict "file" (printf "/etc/sidecar/people/%s" .Values.people.key)) -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* "true" where something in the pod's own volume would be lost, or fought over, with a second replica. */}}
{{- define "sidecar.stateful" -}}
{{- $config := include "sidecar.config" . | fromYaml -}}
{{- $found := and $config.tokens (hasPrefix "sqlite:" (toString $config.tokens.store)) -}}
{{- range $config.upstreams -}}
{{- if hasPrefix "file:" (toString .url) }}{{ $found = true }}{{ end -}}
{{- end -}}
{{- if $found }}true{{ end -}}
{{- end -}}

{{- define "sidecar.drainSeconds" -}}
{{- $limits := (include "sidecar.config" . | fromYaml).limits -}}
{{- add (include "sidecar.seconds" $limits.drain_delay) (include "sidecar.seconds" $limits.grace) -}}
{{- end -}}

{{/* How long the store goes on after the pod was told to end: requests that are under way need it to the last. */}}
{{- define "sidecar.storeSleepSeconds" -}}
{{- if eq .Values.store.preStop "none" -}}
0
{{- else if kindIs "invalid" .Values.store.preStopSeconds -}}
{{- include "sidecar.drainSeconds" . -}}
{{- else -}}
{{- .Values.store.preStopSeconds | int -}}
{{- end -}}
{{- end -}}

{{/*
The least terminationGracePeriodSeconds. A native sidecar is told to end only after the store has ended; a plain one at
the same time. The 5 s are for what is written at the end.
*/}}
{{- define "sidecar.leastGraceSeconds" -}}
{{- $drain := include "sidecar.drainSeconds" . | int -}}
{{- if eq .Values.mode "gateway" -}}
{{- add $drain 5 -}}
{{- else -}}
{{- $store := add (include "sidecar.storeSleepSeconds" .) .Values.store.stopSeconds -}}
{{- if .Values.nativeSidecar -}}
{{- add $store $drain 5 -}}
{{- else -}}
{{- add (max $store $drain) 5 -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.graceSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- include "sidecar.leastGraceSeconds" . -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds | int -}}
{{- end -}}
{{- end -}}

{{- define "sidecar.policyConfigMap" -}}
{{- default (printf "%s-policies" (include "sidecar.fullname" .)) .Values.policy.existingConfigMap -}}
{{- end -}}

{{- define "sidecar.peopleConfigMap" -}}
{{- default (printf "%s-people" (include "sidecar.fullname" .)) .Values.people.existingConfigMap -}}
{{- end -}}
