"""Which metrics there are. The law: every metric is a row of `METRICS`, and every label value comes from a closed set.

Never a label: token, user, key, path, a peer's address, User-Agent, rule, workspace. Those belong in the audit log.
"""

from enum import StrEnum

from msgspec import Struct

PREFIX = "sidecar_"
Labels = tuple[str, ...]
Series = dict[Labels, tuple[float, ...]]
"""A metric's values by its labels': one number, or a histogram's counts by bucket (not cumulated) and then its sum."""
Snapshot = dict[str, Series]
"""All values of one moment, by the metrics' names."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(Struct, frozen=True):
    name: str
    """Without the prefix."""
    kind: Kind
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()


_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OWN_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: tuple[Metric, ...] = (
    Metric("http_requests_total", _C, "Requests by how they ended.", ("protocol", "method", "code", "decision")),
    Metric("http_request_duration_seconds", _H, "From a request's head to its answer's end.", ("protocol", "decision"), _REQUEST_BUCKETS),
    Metric("overhead_seconds", _H, "Time of the sidecar itself, without waiting for the store or the client.", ("stage",), _OWN_BUCKETS),
    Metric("upstream_requests_total", _C, "Answers of the stores.", ("upstream", "code_class")),
    Metric("upstream_request_duration_seconds", _H, "From sending a request to a store to the first byte of its answer.", ("upstream",), _REQUEST_BUCKETS),
    Metric("upstream_up", _G, "1 if the store answered when it was last asked.", ("upstream",)),
    Metric("upstream_connections", _G, "Connections to a store.", ("upstream", "state")),
    Metric("upstream_queue_depth", _G, "Requests that wait for a connection to a store.", ("upstream",)),
    Metric("upstream_queue_refusals_total", _C, "Requests that the queue refused: full, or late (they waited in vain).", ("upstream", "why")),
    Metric("upstream_addresses", _G, "Addresses of a store: used, or left out.", ("upstream", "state")),
    Metric("upstream_ejections_total", _C, "How often an address of a store was left out.", ("upstream",)),
    Metric("upstream_circuit_open", _G, "1 if no address of the store answers, so that requests are refused at once.", ("upstream",)),
    Metric("upstream_circuit_openings_total", _C, "How often a store's circuit opened.", ("upstream",)),
    Metric("upstream_files_reloads_total", _C, "New versions of a store's credentials and certificates.", ("upstream", "result")),
    Metric("upstream_key_refreshes_total", _C, "New keys for a bucket from the AWS chain, and looks that failed.", ("upstream", "result")),
    Metric("upstream_client_certificate_not_after_timestamp_seconds", _G, "When the certificate shown to a store ends, in Unix time.", ("upstream",)),
    Metric("embedded_store_objects", _G, "Objects of an embedded store with a max_size.", ("upstream",)),
    Metric("embedded_store_bytes", _G, "Bytes of its objects' files.", ("upstream",)),
    Metric("embedded_store_limit_bytes", _G, "Its max_size.", ("upstream",)),
    Metric("embedded_store_oldest_use_timestamp_seconds", _G, "When the object that would be evicted first was last used, in Unix time.", ("upstream",)),
    Metric("embedded_store_evictions_total", _C, "Objects that made room for others.", ("upstream",)),
    Metric("embedded_store_evicted_bytes_total", _C, "Bytes of those.", ("upstream",)),
    Metric("request_bytes_total", _C, "Bytes of request bodies.", ("protocol",)),
    Metric("response_bytes_total", _C, "Bytes of answers' bodies.", ("protocol",)),
    Metric("requests_in_flight", _G, "Requests that are being answered."),
    Metric("connections_open", _G, "Client connections, idle ones included."),
    Metric("decisions_total", _C, "Decisions by reason; see docs/reasons.md.", ("decision", "reason")),
    Metric("would_deny_total", _C, "Requests that report mode let through, by the reason that will refuse them.", ("reason",)),
    Metric("legacy_requests_total", _C, "Requests with a workspace's old shared password: accepted, or ended (after its last day).", ("result",)),
    Metric("legacy_peers", _G, "Peers that sent an old shared password in the last 24 hours; at most 1,024 are told apart."),
    Metric("policy_info", _G, "1, labelled with the digest of the policy in force.", ("sha256",)),
    Metric("policy_rules", _G, "Rules in force, of all workspaces."),
    Metric("policy_workspaces", _G, "Workspaces: ok, or bad (its file could not be loaded).", ("state",)),
    Metric("policy_report_mode", _G, "Workspaces whose report mode is on: what nothing grants gets through there."),
    Metric("policy_last_reload_successful", _G, "1 if the last reload took every changed file."),
    Metric("policy_last_reload_success_timestamp_seconds", _G, "When a reload last took every changed file, in Unix time."),
    Metric("policy_reloads_total", _C, "Reloads of changed policy files.", ("result",)),
    Metric("token_state_sequence", _G, "The last change of the token store that has been applied."),
    Metric("token_state_last_sync_timestamp_seconds", _G, "When the token state was last known to be current, in Unix time."),
    Metric("token_state_staleness_seconds", _G, "How long ago the token state was last known to be current."),
    Metric("token_state_sync_errors_total", _C, "Failed looks at the token store's changes."),
    Metric("token_state_source_total", _C, "What brought a change of the token store to notice.", ("via",)),
    Metric("token_reuses_total", _C, "Rotated tokens that were used after their overlap: once an hour for each."),
    Metric("identity_cache_hits_total", _C, "Credentials whose identity was in the cache."),
    Metric("identity_cache_misses_total", _C, "Credentials that had to be verified."),
    Metric("identity_cache_negative_hits_total", _C, "Credentials that the cache knew to be bad."),
    Metric("identity_cache_evictions_total", _C, "Entries that made room for others."),
    Metric("identity_cache_entries", _G, "Identities in the cache."),
    Metric("verify_seconds", _H, "Verifying a credential that was not in the cache.", ("kind",), _OWN_BUCKETS),
    Metric("jwks_age_seconds", _G, "How long ago an issuer's keys were last fetched.", ("issuer",)),
    Metric("jwks_refreshes_total", _C, "Fetches of an issuer's keys.", ("issuer", "result")),
    Metric("audit_records_total", _C, "Audit records by sink: ok, error (the sink refused), dropped (the queue was full).", ("sink", "result")),
    Metric("audit_queue_depth", _G, "Audit records that wait to be written."),
    Metric("audit_queue_capacity", _G, "The most audit records that may wait."),
    Metric("audit_write_seconds", _H, "One write of an audit sink, of one record or of many.", ("sink",), _OWN_BUCKETS),
    Metric("audit_last_success_timestamp_seconds", _G, "When a sink last took a record, in Unix time.", ("sink",)),
    Metric("audit_suppressed_total", _C, "Refusals of unknown callers that were counted instead of recorded."),
    Metric("rate_limited_total", _C, "Requests refused because a limit was reached.", ("scope", "limit")),
    Metric("tls_handshakes_total", _C, "TLS handshakes with clients.", ("listen", "result")),
    Metric("tls_certificate_reloads_total", _C, "Versions of a listener's certificate and key that were read: ok, or error (not served).", ("listen", "result")),
    Metric("tls_certificate_last_reload_successful", _G, "1 if the certificate on disk is the one that is served.", ("listen",)),
    Metric("tls_certificate_expiry_timestamp_seconds", _G, "When the certificate that is served ends, in Unix time.", ("listen",)),
    Metric("worker_up", _G, "1 if this worker process is up and answers; none where there is one process.", ("worker",)),
    Metric("build_info", _G, "1, labelled with what is running.", ("version", "revision", "python")),
)  # fmt: skip

METHODS = frozenset({
    "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS",
    "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH",
})  # fmt: skip
RATE_SCOPES, RATE_LIMITS = ("token", "workspace"), ("requests", "bytes", "streams")
STAGES = ("audit", "total")
"""Waiting for a strict audit record; all until the store is asked or the answer given."""
RESULTS = ("ok", "error")
OTHER = "other"
CODE_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "error")
