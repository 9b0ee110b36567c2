"""`docs/metrics.md` names every metric that a scrape shows, with its type and labels, and no other."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sidecar.metrics import METRICS, PREFIX, Metrics

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, tuple[str, ...], str]]:
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in ROW.findall(PAGE.read_text())
    }


def test_the_table_is_the_programs_own() -> None:
    assert rows() == {PREFIX + metric.name: (metric.kind, metric.labels, metric.help) for metric in METRICS}


def test_a_scrape_shows_what_the_table_says_and_nothing_else() -> None:
    body, _ = Metrics().expose("")
    families = {family.name: family.type for family in text_string_to_metric_families(body.decode())}
    ours = {name: kind for name, kind in families.items() if not name.startswith(("process_", "python_"))}
    assert ours == {name.removesuffix("_total"): kind for name, (kind, _, _) in rows().items()}


def test_the_text_speaks_of_no_metric_that_is_not_there() -> None:
    known = set(rows())
    mentioned = set(re.findall(r"\bsidecar_[a-z_]+[a-z]", PAGE.read_text()))
    assert mentioned <= known
