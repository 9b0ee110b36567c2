"""Several processes' metrics as one's: each gauge has its rule, and no counter ever goes back."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import METRICS, Kind, Metrics, Snapshot, encoded, registry_of
from sidecar.reasons import Outcome, Reason
from sidecar.workers.merge import GAUGES, Processes, merged, summed


def test_every_gauge_has_a_rule_but_the_parent_s_own() -> None:
    assert set(GAUGES) | {"worker_up"} == {metric.name for metric in METRICS if metric.kind is Kind.GAUGE}


WORST = {
    "upstream_up": 1,
    "upstream_circuit_open": 4,
    "upstream_addresses": 4,
    "upstream_client_certificate_not_after_timestamp_seconds": 1,
    "upstream_connections": 7,
    "upstream_queue_depth": 7,
    "policy_last_reload_successful": 1,
    "policy_last_reload_success_timestamp_seconds": 1,
    "token_state_sequence": 1,
    "token_state_last_sync_timestamp_seconds": 1,
    "token_state_staleness_seconds": 4,
    "jwks_age_seconds": 4,
    "embedded_store_objects": 4,
    "embedded_store_bytes": 4,
    "embedded_store_limit_bytes": 4,
    "embedded_store_oldest_use_timestamp_seconds": 4,
    "requests_in_flight": 7,
    "connections_open": 7,
    "identity_cache_entries": 7,
    "audit_queue_depth": 7,
    "audit_queue_capacity": 7,
    "policy_info": 4,
    "policy_rules": 4,
    "policy_workspaces": 4,
    "policy_report_mode": 4,
    "legacy_peers": 4,
    "tls_certificate_last_reload_successful": 1,
    "tls_certificate_expiry_timestamp_seconds": 1,
    "audit_last_success_timestamp_seconds": 4,
    "build_info": 4,
}
"""What workers with 1, 4 and 2 are as one."""


@pytest.mark.parametrize("name", GAUGES)
def test_a_gauge_of_three_workers(name: str) -> None:
    live = [{name: {("x",): (value,)}} for value in (1.0, 4.0, 2.0)]
    assert merged(live, {})[name] == {("x",): (WORST[name],)}


def test_one_policy_is_one_series_and_two_are_two() -> None:
    same: Snapshot = {"policy_info": {("abc",): (1.0,)}}
    other: Snapshot = {"policy_info": {("def",): (1.0,)}}
    assert merged([same, same], {})["policy_info"] == {("abc",): (1.0,)}
    assert merged([same, other], {})["policy_info"] == {("abc",): (1.0,), ("def",): (1.0,)}


def test_gauges_tell_of_live_workers_and_counters_of_all() -> None:
    gone: Snapshot = {"requests_in_flight": {(): (5.0,)}, "identity_cache_hits_total": {(): (3.0,)}}
    alive: Snapshot = {"requests_in_flight": {(): (1.0,)}, "identity_cache_hits_total": {(): (4.0,)}}
    whole = merged([alive], summed([gone, alive]))
    assert whole["requests_in_flight"] == {(): (1.0,)}
    assert whole["identity_cache_hits_total"] == {(): (7.0,)}


def test_without_any_worker_there_is_every_family_and_no_sample() -> None:
    assert merged([], {}) == {metric.name: {} for metric in METRICS}


def counted(requests: int, duration: float) -> Metrics:
    metrics = Metrics(profiles=["plain"])
    for _ in range(requests):
        metrics.finished("plain", "GET", 200, Outcome.ALLOW, Reason.GRANTED, duration, 0.001, 1, 10)
    return metrics


def test_two_processes_count_as_one_that_did_all() -> None:
    """Histograms' buckets too: the text of the scrape is the same."""
    one = Metrics(profiles=["plain"])
    for duration, times in ((0.02, 3), (0.3, 4)):
        for _ in range(times):
            one.finished("plain", "GET", 200, Outcome.ALLOW, Reason.GRANTED, duration, 0.001, 1, 10)
    several = merged([], summed([counted(3, 0.02).snapshot(), counted(4, 0.3).snapshot()]))
    assert _counters(several) == _counters(merged([], summed([one.snapshot()])))
    durations = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(_text(several))
        for sample in family.samples
        if sample.name == "sidecar_http_request_duration_seconds_bucket"
        and (sample.labels["protocol"], sample.labels["decision"]) == ("plain", "allow")
    }
    assert (durations["0.01"], durations["0.025"], durations["0.25"], durations["0.5"], durations["+Inf"]) == (
        0,
        3,
        3,
        7,
        7,
    )


def _text(snapshot: Snapshot) -> str:
    return encoded(registry_of(lambda: snapshot), "")[0].decode()


def _counters(snapshot: Snapshot) -> dict[str, object]:
    return {
        name: {labels: tuple(round(v, 9) for v in values) for labels, values in series.items()}
        for name, series in snapshot.items()
    }


LABELS = st.sampled_from([("plain",), ("other",)])
SERIES = st.dictionaries(LABELS, st.integers(0, 100).map(lambda value: (float(value),)))
COUNTERS = st.fixed_dictionaries({"request_bytes_total": SERIES})


@given(st.lists(COUNTERS, max_size=4), COUNTERS)
def test_one_more_process_never_lowers_a_counter(snapshots: list[Snapshot], one_more: Snapshot) -> None:
    before, after = summed(snapshots), summed([*snapshots, one_more])
    for labels, (value,) in before["request_bytes_total"].items():
        assert after["request_bytes_total"][labels] >= (value,)


@given(st.lists(COUNTERS, max_size=4))
def test_sums_of_sums_are_sums(snapshots: list[Snapshot]) -> None:
    assert summed([summed(snapshots[:2]), summed(snapshots[2:])]) == summed(snapshots)


def _process(collector: Processes) -> dict[str, float]:
    return {sample.name: sample.value for family in collector.collect() for sample in family.samples}


def test_processes_are_shown_as_one_whose_cpu_time_outlives_them() -> None:
    pids = [os.getpid(), os.getppid()]
    collector = Processes(lambda: pids)
    both = _process(collector)
    alone = _process(Processes(lambda: [os.getpid()]))
    assert both.keys() == alone.keys()
    assert both["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"] > 0
    assert 0 < both["process_start_time_seconds"] <= alone["process_start_time_seconds"]
    pids.pop()
    after = _process(collector)
    assert after["process_cpu_seconds_total"] >= both["process_cpu_seconds_total"] > 0


def test_a_process_that_has_just_ended_is_passed_over() -> None:
    assert (
        _process(Processes(lambda: [os.getpid(), 2**22 + 1])).keys()
        == _process(Processes(lambda: [os.getpid()])).keys()
    )
