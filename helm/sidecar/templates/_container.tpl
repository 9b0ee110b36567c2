{{/*
The sidecar's container: in `initContainers` as a native sidecar, in `containers` otherwise.

No probe asks for the store. A native sidecar's startup probe holds the store back, which starts after it; and a store
that fails must not make every pod in front of it unready.
*/}}
{{- define "sidecar.container" -}}
name: sidecar
image: {{ include "sidecar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if and (eq .Values.mode "sidecar") .Values.nativeSidecar }}
restartPolicy: Always
{{- end }}
command: [sidecar, serve]
env:
  # For `sidecar serve`, and for whoever runs a command in the container.
  - {name: SIDECAR_CONFIG, value: /etc/sidecar/config/sidecar.yaml}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - {name: data, containerPort: {{ .Values.ports.data }}, protocol: TCP}
  - {name: ops, containerPort: {{ .Values.ports.ops }}, protocol: TCP}
startupProbe:
  httpGet: {path: /livez, port: {{ .Values.ports.ops }}}
  {{- toYaml .Values.probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: {{ .Values.ports.ops }}}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: {{ .Values.ports.ops }}}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - {name: sidecar-config, mountPath: /etc/sidecar/config, readOnly: true}
  - {name: sidecar-policies, mountPath: /etc/sidecar/policies, readOnly: true}
  {{- if or .Values.people.inline .Values.people.existingConfigMap }}
  - {name: sidecar-people, mountPath: /etc/sidecar/people, readOnly: true}
  {{- end }}
  {{- range $name, $_ := include "sidecar.secretNames" . | fromYaml }}
  - {name: sidecar-secret-{{ $name }}, mountPath: /etc/sidecar/secrets/{{ $name }}, readOnly: true}
  {{- end }}
  - {name: sidecar-data, mountPath: /var/lib/sidecar}
  - {name: sidecar-tmp, mountPath: /tmp}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
Upgrades the token store's tables, all or none, before the sidecar opens it; where there is nothing to do it is over in a second.
The old pod has ended by then (Recreate): nobody else has the file open. It needs no secret.
*/}}
{{- define "sidecar.migrateContainer" -}}
name: migrate
image: {{ include "sidecar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [sidecar, token, migrate]
env:
  - {name: SIDECAR_CONFIG, value: /etc/sidecar/config/sidecar.yaml}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  - {name: sidecar-config, mountPath: /etc/sidecar/config, readOnly: true}
  - {name: sidecar-data, mountPath: /var/lib/sidecar}
  - {name: sidecar-tmp, mountPath: /tmp}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Mount's name -> Secret's name. */}}
{{- define "sidecar.secretNames" -}}
{{- $names := dict -}}
{{- if and .Values.tokenStore.enabled .Values.tokenStore.existingSecret }}{{ $_ := set $names "tokens" .Values.tokenStore.existingSecret }}{{ end -}}
{{- with .Values.store.credentials.existingSecret }}{{ $_ := set $names "store" . }}{{ end -}}
{{- with .Values.tls.existingSecret }}{{ $_ := set $names "tls" . }}{{ end -}}
{{- range $name, $secret := .Values.secrets }}{{ $_ := set $names $name $secret.existingSecret }}{{ end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* Whole directories: a mount with subPath would never change again. */}}
{{- define "sidecar.volumes" -}}
- name: sidecar-config
  configMap: {name: {{ include "sidecar.fullname" . }}-config}
- name: sidecar-policies
  configMap: {name: {{ include "sidecar.policyConfigMap" . }}}
{{- if or .Values.people.inline .Values.people.existingConfigMap }}
- name: sidecar-people
  configMap: {name: {{ include "sidecar.peopleConfigMap" . }}}
{{- end }}
{{- range $name, $secret := include "sidecar.secretNames" . | fromYaml }}
- name: sidecar-secret-{{ $name }}
  secret: {secretName: {{ $secret }}, defaultMode: 288} # 0440: the pod's fsGroup reads it
{{- end }}
- name: sidecar-data
  {{- if include "sidecar.stateful" . }}
  persistentVolumeClaim: {claimName: {{ default (printf "%s-data" (include "sidecar.fullname" .)) .Values.persistence.existingClaim }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: sidecar-tmp
  emptyDir: {sizeLimit: 64Mi}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The store's container. Its preStop hook keeps it running while the sidecar finishes what is under way: a native sidecar
is told to end only after the store has, a plain one at the same moment.
*/}}
{{- define "sidecar.storeContainer" -}}
{{- $own := dict "name" "store" "securityContext" (dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL"))) -}}
{{- $seconds := include "sidecar.storeSleepSeconds" . | int -}}
{{- if and (eq .Values.store.preStop "sleep") (gt $seconds 0) -}}
{{- $_ := set $own "lifecycle" (dict "preStop" (dict "sleep" (dict "seconds" $seconds))) -}}
{{- else if and (eq .Values.store.preStop "exec") (gt $seconds 0) -}}
{{- $_ := set $own "lifecycle" (dict "preStop" (dict "exec" (dict "command" (list "sleep" (toString $seconds))))) -}}
{{- end -}}
{{- mergeOverwrite $own (deepCopy .Values.store.container) | toYaml -}}
{{- end -}}
