"""Alerts and dashboard: every query is valid, asks for metrics that exist, and every alert fires when it should and only then."""

import contextlib
import json
import re
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.metrics import METRICS, PREFIX
from sidecar.metrics.table import Kind
from sidecar.reasons import REASONS
from tests.docs import ROOT
from tests.e2e.process import SidecarProcess
from tests.helm.chart import CHART, one, pod, render, values
from tests.programs import require_program
from tests.test_docs import anchors

RULES = yaml.safe_load((CHART / "rules" / "sidecar.yaml").read_text())["groups"]
CASES = Path(__file__).parent / "alerts.promtool.yaml"
DASHBOARD = json.loads((CHART / "dashboards" / "sidecar.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = {rule["alert"]: rule for group in RULES for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}

LABELS = {PREFIX + metric.name: set(metric.labels) for metric in METRICS}
SERIES = {
    series: metric
    for metric in METRICS
    for series in (
        [f"{PREFIX}{metric.name}{suffix}" for suffix in ("_bucket", "_count", "_sum")]
        if metric.kind is Kind.HISTOGRAM
        else [PREFIX + metric.name]
    )
}
TARGET = {"namespace", "job", "pod"}
"""Labels of whatever is scraped."""


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def queries() -> Iterator[tuple[str, str]]:
    for group in RULES:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


every_query = pytest.mark.parametrize("query", [pytest.param(query, id=name) for name, query in queries()])
every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


# Queries, of alerts and panels alike


@every_query
def test_queries_ask_for_metrics_and_labels_that_exist(query: str) -> None:
    asked = re.findall(r"(?<![\w\"])((?:sidecar|process)[_:][\w:]*)(?:\{([^}]*)\})?", query)
    assert asked
    for name, selector in asked:
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert {"job"} <= labels, f"{name} of every job"
        if name in SERIES:
            own = set(SERIES[name].labels) | ({"le"} if name.endswith("_bucket") else set())
            assert labels <= own | TARGET, name
        else:
            assert name in RECORDED or name.startswith("process_"), name
            assert labels <= TARGET


@every_query
def test_counters_are_asked_for_their_growth_and_nothing_else_is(query: str) -> None:
    for name in re.findall(r"(?<![\w\"])(sidecar_\w+)(?=\{)", query):
        counted = SERIES[name].kind is not Kind.GAUGE
        grown = re.findall(rf"(?:rate|increase)\({name}\{{[^}}]*\}}\[\w+\](?: offset \w+)?\)", query)
        assert bool(grown) == counted, name


def test_what_queries_select_is_there_before_anything_happened(tmp_path: Path) -> None:
    """Of a sidecar that has just started: otherwise the first event of its kind would be no growth, and no alert."""
    with running(tmp_path) as scraped:
        for name, query in queries():
            for series, selector in re.findall(r"(?<![\w\"])(sidecar_\w+)\{([^}]*)\}", query):
                if SERIES[series].kind is Kind.GAUGE:
                    continue
                for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]+)"', selector):
                    if label in TARGET or "$" in value:
                        continue
                    known = {labels[label] for labels in scraped[series]}
                    wanted = value.split("|") if operator == "=~" else [re.escape(value)]
                    assert all(any(re.fullmatch(part, each) for each in known) for part in wanted), (
                        name,
                        series,
                        value,
                    )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, list[dict[str, str]]]]:
    """The labels of each series of a sidecar before an HTTP store that isn't there."""
    policy = "workspace: web\nroutes: [{path: /web, client: plain, upstream: store}]\n"
    sidecar = SidecarProcess(folder, upstreams="  store: {url: 'http://127.0.0.1:9'}", policies={"web.yaml": policy})
    try:
        sidecar.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ops_port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        found: dict[str, list[dict[str, str]]] = defaultdict(list)
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
            found[name].append(dict(re.findall(r'(\w+)="([^"]*)"', labels)))
        yield found
    finally:
        sidecar.kill()


def test_reasons_that_queries_name_exist() -> None:
    for name, query in queries():
        for said in re.findall(r'reason(?:=~|!~|=)"([^"]+)"', query):
            for part in said.split("|"):
                assert any(re.fullmatch(part, reason) for reason in REASONS), f"{name}: {part}"


def test_buckets_that_queries_name_exist() -> None:
    for _, query in queries():
        for name, bound in re.findall(r"(sidecar_\w+_bucket)\{[^}]*le=\"([\d.]+)\"", query):
            assert float(bound) in SERIES[name].buckets


def test_dashboards_queries_are_promql(tmp_path: Path) -> None:
    """As recording rules: promtool reads no bare queries."""
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$\w+", "x", query)}
        for number, (_, query) in enumerate(queries())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


# Alerts


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", "--lint-fatal", CHART / "rules" / "sidecar.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    fires, quiet = set(), set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for test in case["alert_rule_test"]:
            (fires if test["exp_alerts"] else quiet).add(test["alertname"])
    assert fires == quiet == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_it_means_and_where_help_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor == name.lower()
    assert anchor in anchors(ROOT / page)


def test_the_page_of_alerts_has_these_and_no_other_in_their_order() -> None:
    titles = re.findall(r"^### (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert titles == list(ALERTS)
    page = (ROOT / "docs" / "alerts.md").read_text()
    for name, section in zip(titles, re.split(r"^### .*$", page, flags=re.MULTILINE)[1:], strict=True):
        assert f"({ALERTS[name]['labels']['severity']})" in section, name
        assert "**What it means.**" in section, name
        assert "**What to do.**" in section, name


# What the chart makes of them


def monitored(**over: Any) -> list[dict[str, Any]]:
    return render(values("gateway-replicas", **over))


def test_what_is_scraped_is_what_rules_and_dashboard_ask_for() -> None:
    documents = monitored()
    monitor = one(documents, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = {port["name"] for port in pod(documents)["containers"][0]["ports"]}
    assert endpoint["port"] in ports
    assert endpoint["path"] == "/metrics"
    name = one(documents, "Deployment")["metadata"]["name"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": name}]
    for group in one(documents, "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            assert f'namespace="cache",job="{name}"' in rule["expr"]
            assert 'job="sidecar"' not in rule["expr"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_promtool_takes_what_the_chart_makes_of_the_rules(tmp_path: Path) -> None:
    spec = one(monitored(), "PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    done = promtool("check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(spec["groups"]) == len(RULES)


def test_runbooks_are_where_they_are_published() -> None:
    def links(documents: list[dict[str, Any]]) -> set[str]:
        groups = one(documents, "PrometheusRule")["spec"]["groups"]
        return {
            rule["annotations"]["runbook_url"].partition("#")[0]
            for group in groups
            for rule in group["rules"]
            if "alert" in rule
        }

    assert links(monitored()) == {"https://docs.example.com/sidecar/alerts"}
    assert links(monitored(metrics={"prometheusRule": {"runbookBase": ""}})) == {"docs/alerts.md"}


def test_grafana_gets_the_dashboard_as_it_is() -> None:
    given = one(monitored(), "ConfigMap", "-dashboard")
    assert json.loads(given["data"]["sidecar.json"]) == DASHBOARD
    assert given["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert given["metadata"]["annotations"] == {"grafana_folder": "Platform"}


def test_nothing_of_it_is_made_unasked() -> None:
    kinds = {document["kind"] for document in render(values("gateway"))}
    assert not kinds & {"PodMonitor", "PrometheusRule"}


# The dashboard


@every_panel
def test_panels_say_what_they_show(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@every_panel
def test_panels_are_narrowed_by_the_variables_and_rated_by_grafanas_interval(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        query = target["expr"]
        selectors = re.findall(r"\{([^}]*)\}", query)
        assert all('namespace=~"$namespace",job=~"$job",pod=~"$pod"' in selector for selector in selectors)
        assert re.findall(r"\[(?!\$__rate_interval\])", query) == []
        assert target["legendFormat"]


def test_the_dashboard_has_its_variables() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "job", "pod"]
    assert variables["datasource"]["label"] == "Data Source"
    assert all(variables[name]["multi"] and variables[name]["allValue"] == ".+" for name in ("namespace", "job", "pod"))
    assert DASHBOARD["editable"] is False


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
