"""What is counted comes out at the scrape, under bounded labels, with zeros from the start."""

import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.metrics import METRICS, Kind, Metrics
from sidecar.reasons import REASONS, Outcome, Reason
from tests.programs import require_program

FORBIDDEN_LABELS = {
    "token",
    "token_id",
    "user",
    "subject",
    "key",
    "path",
    "bucket",
    "client",
    "ip",
    "user_agent",
    "rule",
    "workspace",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        profiles=["plain"],
        upstreams=["artifacts"],
        kinds=["opaque", "jwt"],
        issuers=["github"],
        sinks=["file"],
        build=("0.1.0", "abc", "3.11"),
    )


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, _ = metrics.expose("")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scraped(metrics).get((f"sidecar_{name}", frozenset(labels.items())))


def finish(metrics: Metrics, **fields: Any) -> None:
    known: dict[str, Any] = {
        "profile": "plain",
        "method": "GET",
        "status": 200,
        "outcome": Outcome.ALLOW,
        "reason": Reason.GRANTED,
        "duration": 0.004,
        "overhead": 0.0002,
    }
    metrics.finished(**(known | fields))


def test_a_finished_request_is_counted_everywhere(metrics: Metrics) -> None:
    finish(metrics, bytes_in=3, bytes_out=1024)
    finish(metrics, status=403, outcome=Outcome.DENY, reason=Reason.RULE_DENY)
    metrics.upstream_answered("artifacts", 200, 0.003)
    expected: Mapping[str, dict[str, str]] = {
        "http_requests_total": {"protocol": "plain", "method": "GET", "code": "200", "decision": "allow"},
        "http_request_duration_seconds_count": {"protocol": "plain", "decision": "allow"},
        "decisions_total": {"decision": "deny", "reason": "rule_deny"},
        "upstream_requests_total": {"upstream": "artifacts", "code_class": "2xx"},
        "upstream_request_duration_seconds_count": {"upstream": "artifacts"},
    }
    assert {name: value(metrics, name, **labels) for name, labels in expected.items()} == dict.fromkeys(expected, 1.0)
    assert value(metrics, "overhead_seconds_count", stage="total") == 2.0
    assert value(metrics, "request_bytes_total", protocol="plain") == 3.0
    assert value(metrics, "response_bytes_total", protocol="plain") == 1024.0


@pytest.mark.parametrize(
    ("seconds", "first_bucket"),
    [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (60.0, "60.0"), (61.0, "+Inf")],
)
def test_a_bucket_holds_what_is_at_most_its_bound(metrics: Metrics, seconds: float, first_bucket: str) -> None:
    finish(metrics, duration=seconds)
    buckets = {
        dict(labels)["le"]: count
        for (name, labels), count in scraped(metrics).items()
        if name == "sidecar_http_request_duration_seconds_bucket"
        and ("protocol", "plain") in labels
        and ("decision", "allow") in labels
    }
    assert min((float(bound), bound) for bound, count in buckets.items() if count == 1.0)[1] == first_bucket
    assert buckets["+Inf"] == 1.0
    assert value(metrics, "http_request_duration_seconds_sum", protocol="plain", decision="allow") == seconds


def test_every_reason_is_zero_at_the_start(metrics: Metrics) -> None:
    for reason, row in REASONS.items():
        assert value(metrics, "decisions_total", decision=row.outcome, reason=reason) == 0.0
    assert value(metrics, "audit_records_total", sink="file", result="dropped") == 0.0
    assert value(metrics, "jwks_refreshes_total", issuer="github", result="error") == 0.0
    assert value(metrics, "upstream_requests_total", upstream="artifacts", code_class="error") == 0.0
    assert value(metrics, "verify_seconds_count", kind="jwt") == 0.0
    assert value(metrics, "identity_cache_hits_total") == 0.0


def test_hostile_methods_statuses_and_profiles_add_no_series(metrics: Metrics) -> None:
    finish(metrics, method="BREW", status=999, profile="x")
    before = len(scraped(metrics))
    for n in range(500):
        finish(metrics, method=f"M{n}", status=600 + n, profile=f"p{n}")
        metrics.upstream_answered("artifacts", 600 + n, 0.1)
    assert len(scraped(metrics)) == before
    assert value(metrics, "http_requests_total", protocol="other", method="other", code="0", decision="allow") == 501.0


def test_an_upstream_that_did_not_answer_is_an_error(metrics: Metrics) -> None:
    metrics.upstream_answered("artifacts", None, 2.0)
    assert value(metrics, "upstream_requests_total", upstream="artifacts", code_class="error") == 1.0


def test_gauges_are_read_at_the_scrape(metrics: Metrics) -> None:
    state = {"rules": 1.0}
    metrics.read("policy_rules", lambda: state["rules"])
    metrics.read("policy_workspaces", lambda: {("ok",): 2.0, ("bad",): 1.0})
    assert value(metrics, "policy_rules") == 1.0
    state["rules"] = 5.0
    assert value(metrics, "policy_rules") == 5.0
    assert value(metrics, "policy_workspaces", state="bad") == 1.0


def test_a_reader_that_fails_does_not_blind_the_scrape(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> float:
        raise RuntimeError("no")

    metrics.read("policy_rules", broken)
    assert value(metrics, "policy_rules") is None
    assert value(metrics, "build_info", version="0.1.0", revision="abc", python="3.11") == 1.0
    assert "policy_rules" in caplog.text


@pytest.mark.parametrize("name", ["nope", "verify_seconds", "build_info"])
def test_what_cannot_be_read_by_a_callback_is_refused(metrics: Metrics, name: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        metrics.read(name, lambda: 1.0)


def test_rare_events_are_counted_by_name(metrics: Metrics) -> None:
    metrics.count("policy_reloads_total", "ok")
    metrics.count("token_state_sync_errors_total")
    assert value(metrics, "policy_reloads_total", result="ok") == 1.0
    assert value(metrics, "token_state_sync_errors_total") == 1.0
    with pytest.raises(ValueError, match="labels"):
        metrics.count("policy_reloads_total")


def test_stages_verifications_and_audit_writes_have_their_histograms(metrics: Metrics) -> None:
    metrics.stage("authn", 0.0001)
    metrics.verified("jwt", 0.0003)
    metrics.audit_written("file", "ok", 64, 0.0003)
    metrics.audit_written("file", "dropped", 2, 0.0)
    assert value(metrics, "overhead_seconds_bucket", stage="authn", le="0.0001") == 1.0
    assert value(metrics, "verify_seconds_count", kind="jwt") == 1.0
    assert value(metrics, "audit_records_total", sink="file", result="ok") == 64.0
    assert value(metrics, "audit_records_total", sink="file", result="dropped") == 2.0
    assert value(metrics, "audit_write_seconds_count", sink="file") == 1.0


def test_both_formats_parse_and_have_no_created_series(metrics: Metrics) -> None:
    finish(metrics)
    text, text_type = metrics.expose("text/plain;version=0.0.4")
    assert text_type.startswith("text/plain; version=0.0.4")
    body, content_type = metrics.expose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert b"_created" not in text + body
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert {"sidecar_" + metric.name.removesuffix("_total") for metric in METRICS} <= names


def test_the_process_reports_itself(metrics: Metrics) -> None:
    assert scraped(metrics)["process_resident_memory_bytes", frozenset()] > 0


def test_names_and_labels_follow_the_conventions() -> None:
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not FORBIDDEN_LABELS & set(metric.labels)
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_promtool_has_nothing_to_say(metrics: Metrics) -> None:
    promtool = require_program("promtool")
    finish(metrics)
    body, _ = metrics.expose("")
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
