"""The program's metrics. The law: every metric is a row of `METRICS`, and every label value comes from a closed set.

Never a label: token, user, key, path, address, User-Agent, rule, workspace. Those belong in the audit log.
Counting is plain integers in plain dicts, which prometheus_client reads at the scrape through a collector: all numbers of a
request cost 1.8 µs (measured), where cached children of prometheus_client, each behind a lock of its own, cost 3.4.
The loop's thread counts; the audit writer's thread alone touches the audit rows.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import accumulate

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sidecar.reasons import REASONS, Outcome, Reason

PREFIX = "sidecar_"
_OPENMETRICS = "application/openmetrics-text"
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Labels = tuple[str, ...]
Values = float | Mapping[Labels, float]
"""What a callback gives: one number, or numbers by their labels' values."""
Series = dict[Labels, tuple[float, ...]]
"""A metric's values by its labels': one number, or a histogram's counts by bucket (not cumulated) and then its sum."""
Snapshot = dict[str, Series]
"""All values of one moment, by the metrics' names."""

_log = logging.getLogger(__name__)


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
    Metric("request_bytes_total", _C, "Bytes of request bodies.", ("protocol",)),
    Metric("response_bytes_total", _C, "Bytes of answers' bodies.", ("protocol",)),
    Metric("requests_in_flight", _G, "Requests that are being answered."),
    Metric("connections_open", _G, "Client connections, idle ones included."),
    Metric("decisions_total", _C, "Decisions by reason; see docs/reasons.md.", ("decision", "reason")),
    Metric("policy_info", _G, "1, labelled with the digest of the policy in force.", ("sha256",)),
    Metric("policy_rules", _G, "Rules in force, of all workspaces."),
    Metric("policy_workspaces", _G, "Workspaces: ok, or bad (its file could not be loaded).", ("state",)),
    Metric("policy_last_reload_successful", _G, "1 if the last reload took every changed file."),
    Metric("policy_last_reload_success_timestamp_seconds", _G, "When a reload last took every changed file, in Unix time."),
    Metric("policy_reloads_total", _C, "Reloads of changed policy files.", ("result",)),
    Metric("token_state_sequence", _G, "The last change of the token store that has been applied."),
    Metric("token_state_last_sync_timestamp_seconds", _G, "When the token state was last known to be current, in Unix time."),
    Metric("token_state_staleness_seconds", _G, "How long ago the token state was last known to be current."),
    Metric("token_state_sync_errors_total", _C, "Failed looks at the token store's changes."),
    Metric("token_state_source_total", _C, "What brought a change of the token store to notice.", ("via",)),
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
    Metric("worker_up", _G, "1 if this worker process is up and answers; none where there is one process.", ("worker",)),
    Metric("build_info", _G, "1, labelled with what is running.", ("version", "revision", "python")),
)  # fmt: skip

METHODS = frozenset(
    [
        "GET",
        "HEAD",
        "PUT",
        "POST",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "REPORT",
        "SEARCH",
    ]
)
STAGES = ("audit", "total")
"""Waiting for a strict audit record; all until the store is asked or the answer given."""
RESULTS = ("ok", "error")
OTHER = "other"
_CODE_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "error")


class _Histogram:
    """Counts by bucket (not cumulated; the last is +Inf) and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """All metrics of one process. `profiles`, `upstreams`, `kinds` and `issuers` come from the configuration and bound the labels."""

    def __init__(
        self,
        *,
        profiles: Iterable[str] = (),
        upstreams: Iterable[str] = (),
        kinds: Iterable[str] = (),
        issuers: Iterable[str] = (),
        sinks: Iterable[str] = (),
        build: tuple[str, str, str] = ("", "", ""),
    ) -> None:
        """`build`: version, revision, Python's version."""
        self._counters: dict[str, dict[tuple[object, ...], float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self._readers: dict[str, Callable[[], Values]] = {}
        self._rows = {metric.name: metric for metric in METRICS}
        for metric in METRICS:
            if metric.kind is Kind.COUNTER:
                self._counters[metric.name] = {} if metric.labels else {(): 0}
            elif metric.kind is Kind.HISTOGRAM:
                self._histograms[metric.name] = {}
        self._requests = self._counters["http_requests_total"]
        self._decisions = self._counters["decisions_total"]
        self._bytes_in = self._counters["request_bytes_total"]
        self._bytes_out = self._counters["response_bytes_total"]
        self._upstream_requests = self._counters["upstream_requests_total"]
        self._durations = self._histograms["http_request_duration_seconds"]
        self._profiles = frozenset(profiles)
        self._sow(self._profiles, tuple(upstreams), tuple(kinds), tuple(issuers), tuple(sinks))
        self._total = self._histograms["overhead_seconds"][("total",)]
        self.read("build_info", lambda: {build: 1.0})
        self._registry = registry_of(self.snapshot)
        ProcessCollector(registry=self._registry)

    def finished(
        self,
        profile: str,
        method: str,
        status: int,
        outcome: Outcome,
        reason: Reason,
        duration: float,
        overhead: float,
        bytes_in: int = 0,
        bytes_out: int = 0,
    ) -> None:
        """A request has ended, whichever way. Times in seconds; `overhead` is the sidecar's own part of `duration`."""
        key = profile, method, status, outcome
        try:
            self._requests[key] += 1
        except KeyError:
            profile, method, status = self._bounded(profile, method, status)
            key = profile, method, status, outcome
            self._requests[key] = self._requests.get(key, 0) + 1
        if profile not in self._profiles:
            profile = OTHER
        self._durations[profile, outcome].observe(duration)
        self._total.observe(overhead)
        decision = outcome, reason
        self._decisions[decision] = self._decisions.get(decision, 0) + 1
        self._bytes_in[(profile,)] += bytes_in
        self._bytes_out[(profile,)] += bytes_out

    def turned_away(self, reason: Reason) -> None:
        """A connection was ended before it had made a request."""
        decision = REASONS[reason].outcome, reason
        self._decisions[decision] = self._decisions.get(decision, 0) + 1

    def upstream_answered(self, upstream: str, status: int | None, seconds: float) -> None:
        """A store has sent its answer's head after `seconds`; `status` is `None` where it didn't answer."""
        code_class = "error" if status is None or not 100 <= status <= 599 else _CODE_CLASSES[status // 100 - 1]
        key = upstream, code_class
        self._upstream_requests[key] = self._upstream_requests.get(key, 0) + 1
        self._observe("upstream_request_duration_seconds", (upstream,), seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """The sidecar's own time in one of `STAGES` of one request."""
        self._observe("overhead_seconds", (stage,), seconds)

    def verified(self, kind: str, seconds: float) -> None:
        """A credential of this kind was verified, well or badly; not called for what the identity cache knew."""
        self._observe("verify_seconds", (kind,), seconds)

    def audit_written(self, sink: str, result: str, count: int, seconds: float) -> None:
        """An audit sink took (`ok`) or refused (`error`) `count` records; or they never came to it (`dropped`)."""
        self.count("audit_records_total", sink, result, by=count)
        if result != "dropped":
            self._observe("audit_write_seconds", (sink,), seconds)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """For what is rare. `labels` in the order of the metric's row; the caller answers for their being bounded."""
        counter = self._counters[name]
        if len(labels) != len(self._rows[name].labels):
            raise ValueError(f"{name} has the labels {self._rows[name].labels}")
        counter[labels] = counter.get(labels, 0) + by

    def read(self, name: str, reader: Callable[[], Values]) -> None:
        """For a gauge or counter that lives elsewhere: `reader` is called at each scrape, in the loop's thread."""
        if self._rows[name].kind is Kind.HISTOGRAM or name in self._readers:
            raise ValueError(f"{name} can't be read this way, or already is")
        self._readers[name] = reader

    def expose(self, accept: str) -> tuple[bytes, str]:
        """The scrape's body and its Content-Type."""
        return encoded(self._registry, accept)

    def snapshot(self) -> Snapshot:
        """Every row of `METRICS`, in its order."""
        return {metric.name: self.series(metric.name) for metric in METRICS}

    def series(self, name: str) -> Series:
        """One metric's values. Empty if its reader fails."""
        if self._rows[name].kind is Kind.HISTOGRAM:
            return {
                labels: (*histogram.counts, histogram.total)
                for labels, histogram in list(self._histograms[name].items())
            }
        return {tuple(map(str, labels)): (value,) for labels, value in self._samples(name)}

    def _samples(self, name: str) -> Iterable[tuple[tuple[object, ...], float]]:
        reader = self._readers.get(name)
        if reader is None:
            return list(self._counters.get(name, {}).items())
        try:
            values = reader()
        except Exception:  # one part that fails must not blind the whole scrape
            _log.exception("the metric %s could not be read", name)
            return []
        return list(values.items()) if isinstance(values, Mapping) else [((), values)]

    def _bounded(self, profile: str, method: str, status: int) -> tuple[str, str, int]:
        return (
            profile if profile in self._profiles else OTHER,
            method if method in METHODS else OTHER,
            status if 100 <= status <= 599 else 0,
        )

    def _observe(self, name: str, labels: Labels, value: float) -> None:
        series = self._histograms[name]
        try:
            histogram = series[labels]
        except KeyError:
            histogram = series[labels] = _Histogram(self._rows[name].buckets)
        histogram.observe(value)

    def _sow(self, profiles: frozenset[str], upstreams: Labels, kinds: Labels, issuers: Labels, sinks: Labels) -> None:
        """Zeros for all that can be foreseen, so that `rate()` and alerts work before the first event."""
        for profile in (*profiles, OTHER):
            self._bytes_in[(profile,)] = self._bytes_out[(profile,)] = 0
            for outcome in Outcome:
                self._sow_histogram("http_request_duration_seconds", profile, outcome)
        for reason, row in REASONS.items():
            self._decisions[row.outcome, reason] = 0
            if row.status == 403:  # an anonymous caller is asked for a token instead (rule 20)
                self._decisions[Outcome.UNAUTHENTICATED, reason] = 0
        for stage in STAGES:
            self._sow_histogram("overhead_seconds", stage)
        for upstream in upstreams:
            self._sow_histogram("upstream_request_duration_seconds", upstream)
            for code_class in _CODE_CLASSES:
                self.count("upstream_requests_total", upstream, code_class, by=0)
        for kind in kinds:
            self._sow_histogram("verify_seconds", kind)
        for result in RESULTS:
            self.count("policy_reloads_total", result, by=0)
            for issuer in issuers:
                self.count("jwks_refreshes_total", issuer, result, by=0)
        for sink in sinks:
            self._sow_histogram("audit_write_seconds", sink)
            for result in (*RESULTS, "dropped"):
                self.count("audit_records_total", sink, result, by=0)

    def _sow_histogram(self, name: str, *labels: str) -> None:
        self._histograms[name][labels] = _Histogram(self._rows[name].buckets)


def registry_of(snapshot: Callable[[], Snapshot]) -> CollectorRegistry:
    """What a scrape sees; `snapshot` is called at each, and further collectors may join."""
    registry = CollectorRegistry()
    registry.register(_Reader(snapshot))
    return registry


def encoded(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Body and Content-Type: OpenMetrics where the `Accept` header asks for it, else the text format."""
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(registry), content_type


class _Reader(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        snapshot = self._snapshot()
        for metric in METRICS:
            name, samples = PREFIX + metric.name, snapshot[metric.name]
            if metric.kind is Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(name, metric.help, labels=metric.labels)
                for labels, (*counts, total) in samples.items():
                    histogram.add_metric(labels, _cumulated(metric.buckets, counts), total)
                yield histogram
                continue
            family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(
                name, metric.help, labels=metric.labels
            )
            for labels, (value,) in samples.items():
                family.add_metric(labels, value)
            yield family


def _cumulated(bounds: tuple[float, ...], counts: list[float]) -> list[tuple[str, float]]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(map(float, counts)), strict=True))
