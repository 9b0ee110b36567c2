"""The page for whoever is woken leaves nothing out that may wake them."""

import re

import yaml

from sidecar.reasons import REASONS, Outcome
from tests import docs
from tests.docs import ROOT

PAGE = (ROOT / "docs" / "oncall.md").read_text()
RULES = yaml.safe_load((ROOT / "helm/sidecar/rules/sidecar.yaml").read_text())["groups"]


def section(title: str, page: str = PAGE) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_alert_is_told_with_its_severity_and_leads_to_its_paragraph() -> None:
    told = re.findall(r"^\| \[(\w+)\]\(alerts\.md#(\w+)\) \| (\w+) \|", section("Alerts"), re.MULTILINE)
    rules = [rule for group in RULES for rule in group["rules"] if "alert" in rule]
    assert [(name, severity) for name, _, severity in told] == [
        (rule["alert"], rule["labels"]["severity"]) for rule in rules
    ]
    assert all(anchor == name.lower() for name, anchor, _ in told)


def test_every_readiness_check_is_told() -> None:
    """Those of the operator's page, which is held to the program."""
    probes = section("Probes", (ROOT / "docs" / "operations.md").read_text())
    known = {word for cells in docs.rows(probes) for word in docs.codes(cells[0])}
    assert {docs.codes(cells[0])[0] for cells in docs.rows(section("Readiness"))} == known


def test_every_reason_that_is_no_fault_of_the_caller_says_what_to_do() -> None:
    told = [code for cells in docs.rows(section("Reasons")) for code in docs.codes(cells[0])]
    assert {reason for reason, row in REASONS.items() if row.outcome is Outcome.ERROR} <= set(told)
    assert set(told) <= set(REASONS)
    assert len(told) == len(set(told))
