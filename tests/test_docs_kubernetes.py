"""The page on Kubernetes says what the chart takes: its table is that of the schema and the defaults, its examples render."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from sidecar.cli import root
from tests import docs
from tests.docs import ROOT
from tests.helm.chart import CHART, lay_out, one, pod, render, value_rows

PAGE = ROOT / "docs" / "kubernetes.md"
EXAMPLES = [yaml.safe_load(text) for text in docs.yaml_blocks(PAGE, "values")]


def test_the_table_of_values_is_the_charts() -> None:
    """Where this fails, the right side is what the page should say."""
    table = PAGE.read_text().partition("\n## Values\n")[2]
    assert [line for line in table.splitlines() if line.startswith("| `")] == value_rows()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.get("mode", "sidecar"))
def test_examples_render_and_the_sidecar_takes_them(example: dict[str, Any], tmp_path: Path) -> None:
    file = lay_out(render(example), tmp_path)
    done = CliRunner().invoke(root.app, ["config", "check", "--config", str(file)])
    assert (done.exit_code, done.stderr) == (0, "")


def test_what_the_page_says_of_the_end_holds_for_its_example() -> None:
    (example,) = [each for each in EXAMPLES if "limits" in each.get("config", {})]
    spec = pod(render(example))
    assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 305
    assert spec["terminationGracePeriodSeconds"] > 2 * 305


def test_the_page_names_the_charts_own_names() -> None:
    text = PAGE.read_text()
    name = one(render(EXAMPLES[0]), "Deployment")["metadata"]["name"].replace("rel", "cache")
    assert f"exec deploy/{name} -c sidecar" in text
    assert f"helm install cache {CHART.relative_to(ROOT)}" in text
    said = {path for value in ("values", "ci") for path in re.findall(rf"`helm/sidecar/{value}[\w./-]*`", text)}
    assert all((ROOT / path.strip("`")).exists() for path in said)
