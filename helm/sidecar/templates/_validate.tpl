{{/* Everything that contradicts itself or is missing, told at once, each with what to do. */}}
{{- define "sidecar.validate" -}}
{{- $values := .Values -}}
{{- $name := include "sidecar.fullname" . -}}
{{- $problems := list -}}
{{- if not $values.image.repository -}}
{{- $problems = append $problems "image.repository is required: build the image with the Dockerfile, push it to your registry and name it here" -}}
{{- end -}}
{{- if and $values.tokenStore.enabled (not $values.tokenStore.existingSecret) -}}
{{- $problems = append $problems (printf "tokenStore.existingSecret is required: make the secret once with `kubectl -n %s create secret generic %s-tokens --from-literal=%s=$(openssl rand -hex 32)`, keep a copy of it, and name it here; or set tokenStore.enabled=false where no personal or CI tokens are wanted" .Release.Namespace $name $values.tokenStore.key) -}}
{{- end -}}
{{- with $values.store.credentials -}}
{{- if and .username (not .existingSecret) -}}
{{- $problems = append $problems (printf "store.credentials.existingSecret is required: make it with `kubectl -n %s create secret generic %s-store --from-file=%s=FILE` and name it here" $.Release.Namespace $name .key) -}}
{{- end -}}
{{- if and .existingSecret (not .username) -}}
{{- $problems = append $problems "store.credentials.username is required with store.credentials.existingSecret; for a bearer token or another header, use secrets and config.upstreams.store.credentials" -}}
{{- end -}}
{{- end -}}
{{- if eq $values.mode "sidecar" -}}
{{- if not $values.store.container -}}
{{- $problems = append $problems "store.container is required with mode: sidecar: the store's container, as `{image: ..., args: [...]}`; it should listen on 127.0.0.1 alone. For a store that runs elsewhere, set mode: gateway" -}}
{{- else if not $values.store.container.image -}}
{{- $problems = append $problems "store.container.image is required" -}}
{{- end -}}
{{- if not $values.store.port -}}
{{- $problems = append $problems "store.port is required with mode: sidecar: the port on which the store listens at 127.0.0.1" -}}
{{- else if or (eq (int $values.store.port) (int $values.ports.data)) (eq (int $values.store.port) (int $values.ports.ops)) -}}
{{- $problems = append $problems "store.port is one of the sidecar's own ports: containers of a pod share them; set ports.data, ports.ops or the store's to others" -}}
{{- end -}}
{{- if $values.store.url -}}
{{- $problems = append $problems "store.url is for mode: gateway; beside a store, store.port says where it is" -}}
{{- end -}}
{{- if $values.autoscaling.enabled -}}
{{- $problems = append $problems "autoscaling is for mode: gateway: beside a store, the store would be multiplied too" -}}
{{- end -}}
{{- if and (eq $values.store.preStop "sleep") (semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version) -}}
{{- $problems = append $problems "store.preStop: sleep needs Kubernetes 1.30; set store.preStop=exec, which runs the `sleep` of the store's image" -}}
{{- end -}}
{{- if and $values.store.container.lifecycle (ne $values.store.preStop "none") -}}
{{- $problems = append $problems "store.container.lifecycle is set: set store.preStop=none, and keep the store from ending before the sidecar's requests have" -}}
{{- end -}}
{{- else -}}
{{- if not $values.store.url -}}
{{- $problems = append $problems "store.url is required with mode: gateway, as http://store.example.svc:8081" -}}
{{- end -}}
{{- if or $values.store.container $values.store.volumes $values.store.port -}}
{{- $problems = append $problems "store.container, store.port and store.volumes are for mode: sidecar; a gateway has store.url" -}}
{{- end -}}
{{- end -}}
{{- if and $values.policy.inline $values.policy.existingConfigMap -}}
{{- $problems = append $problems "policy.inline and policy.existingConfigMap exclude each other; keep one" -}}
{{- else if not (or $values.policy.inline $values.policy.existingConfigMap) -}}
{{- $problems = append $problems "policies are required: policy.inline, as --set-file policy.inline.web\\.yaml=policies/web.yaml, or policy.existingConfigMap" -}}
{{- end -}}
{{- if and $values.people.inline $values.people.existingConfigMap -}}
{{- $problems = append $problems "people.inline and people.existingConfigMap exclude each other; keep one" -}}
{{- end -}}
{{- range $key := list "ops" "policies" -}}
{{- if hasKey $values.config $key -}}
{{- $problems = append $problems (printf "config.%s is the chart's to set: see %s" $key (get (dict "ops" "ports.ops" "policies" "policy") $key)) -}}
{{- end -}}
{{- end -}}
{{- range $reserved := list "store" "tls" "tokens" -}}
{{- if hasKey $values.secrets $reserved -}}
{{- $problems = append $problems (printf "secrets.%s is taken by the chart; give it another name" $reserved) -}}
{{- end -}}
{{- end -}}
{{- if eq (int $values.ports.data) (int $values.ports.ops) -}}
{{- $problems = append $problems "ports.data and ports.ops are the same: health and metrics are never served to clients" -}}
{{- end -}}
{{- if and (include "sidecar.stateful" .) (or (gt (int $values.replicas) 1) $values.autoscaling.enabled) -}}
{{- $problems = append $problems "more than one replica needs state that they share: SQLite (config.tokens.store) and file:// stores are for one; set replicas=1 and autoscaling.enabled=false, or tokenStore.enabled=false where JWTs are enough" -}}
{{- end -}}
{{- if lt (include "sidecar.graceSeconds" . | int) (include "sidecar.leastGraceSeconds" . | int) -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds is less than the %s s that an orderly end may take; leave it out, or lower config.limits.grace" (include "sidecar.leastGraceSeconds" .)) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n  %s\n" (join "\n  " $problems)) -}}
{{- end -}}
{{- end -}}
