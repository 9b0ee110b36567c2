"""From the metrics of several processes to those of one. The law: a counter never goes back, whatever becomes of the process
that counted; a gauge tells of those that are there now.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sidecar.metrics import METRICS, Kind, Labels, Snapshot

GAUGES: dict[str, Callable[[Iterable[float]], float]] = {
    # Who sees the store down is believed, also where others have not asked lately.
    "upstream_up": min,
    "upstream_circuit_open": max,
    "upstream_addresses": max,
    "upstream_client_certificate_not_after_timestamp_seconds": min,
    "upstream_connections": sum,
    "upstream_queue_depth": sum,
    "embedded_store_objects": max,
    "embedded_store_bytes": max,
    "embedded_store_limit_bytes": max,
    "embedded_store_oldest_use_timestamp_seconds": max,
    "requests_in_flight": sum,
    "connections_open": sum,
    # One series while all agree; two that differ are shown as two.
    "policy_info": max,
    "policy_rules": max,
    "policy_workspaces": max,
    "policy_report_mode": max,
    # The same peer comes to several workers: at least so many.
    "legacy_peers": max,
    # Of what each follows for itself, the one that is furthest behind.
    "policy_last_reload_successful": min,
    "policy_last_reload_success_timestamp_seconds": min,
    "tls_certificate_last_reload_successful": min,
    "tls_certificate_expiry_timestamp_seconds": min,
    "token_state_sequence": min,
    "token_state_last_sync_timestamp_seconds": min,
    "token_state_staleness_seconds": max,
    "jwks_age_seconds": max,
    # The same identity is in several caches, and takes memory in each.
    "identity_cache_entries": sum,
    "audit_queue_depth": sum,
    "audit_queue_capacity": sum,
    # The sink is one: whoever wrote last has shown that it works.
    "audit_last_success_timestamp_seconds": max,
    "build_info": max,
}
"""How a gauge of several workers is told as one; `worker_up` is the parent's own."""


def merged(live: Sequence[Snapshot], counted: Snapshot) -> Snapshot:
    """The gauges of the workers that answered just now, beside `counted`, the counters and histograms of all there ever were."""
    result: Snapshot = {metric.name: counted.get(metric.name, {}) for metric in METRICS}
    for name, rule in GAUGES.items():
        series: dict[Labels, list[float]] = {}
        for snapshot in live:
            for labels, (value,) in snapshot.get(name, {}).items():
                series.setdefault(labels, []).append(value)
        result[name] = {labels: (rule(values),) for labels, values in series.items()}
    return result


def summed(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The counters and histograms alone."""
    names = [metric.name for metric in METRICS if metric.kind is not Kind.GAUGE]
    result: Snapshot = {name: {} for name in names}
    for snapshot in snapshots:
        for name in names:
            series = result[name]
            for labels, values in snapshot.get(name, {}).items():
                known = series.get(labels)
                series[labels] = values if known is None else tuple(map(sum, zip(known, values, strict=True)))
    return result


class Processes(Collector):
    """`process_*` over several processes: sums, but for the start, which is the first one's. CPU time of the dead is kept."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        """`pids` are alive, or were a moment ago."""
        self._pids = pids
        self._cpu: dict[int, float] = {}
        self._cpu_of_the_dead = 0.0

    def collect(self) -> Iterator[Family]:
        gauges: dict[str, tuple[str, list[float]]] = {}
        pids = set(self._pids())
        for pid in pids:
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                (sample,) = family.samples
                if isinstance(family, CounterMetricFamily):
                    self._cpu[pid] = sample.value
                else:
                    gauges.setdefault(family.name, (family.documentation, []))[1].append(sample.value)
        for pid in self._cpu.keys() - pids:
            self._cpu_of_the_dead += self._cpu.pop(pid)
        for name, (documentation, values) in gauges.items():
            yield GaugeMetricFamily(
                name, documentation, min(values) if name == "process_start_time_seconds" else sum(values)
            )
        yield CounterMetricFamily(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            self._cpu_of_the_dead + sum(self._cpu.values()),
        )
