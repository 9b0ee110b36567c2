"""What a run found: to a file and back, as a table, against the marks."""

import pytest

from bench import marks, report
from bench.__main__ import Cores, choose_cores
from bench.peers import PEERS
from bench.results import Cell, Results, RowResult, decode, encode
from bench.rows import ROWS

TITLES = {"haproxy": "HAProxy", "haproxy-jwt": "HAProxy, jwt_verify", "sidecar": "sidecar"}


def results(**cells: list[float]) -> Results:
    """One row, `hot`; names with `_` for `-`."""
    row = RowResult("hot", "hot token", "µs", {name.replace("_", "-"): Cell(found) for name, found in cells.items()})
    return Results("2026-01-01T00:00:00+00:00", {"cpu": "some"}, {"rounds": 3}, dict(TITLES), {}, {}, [row])


def test_a_file_comes_back_as_it_was_and_says_medians_and_extremes() -> None:
    found = results(haproxy=[3.0, 1.0, 2.5])
    text = encode(found)
    assert decode(text) == found
    assert b'"median": 2.5' in text
    assert b'"min": 1' in text
    assert b'"max": 3' in text


def test_the_table_gives_ratios_and_not_times_alone() -> None:
    lines = report.render(results(haproxy=[20.0], haproxy_jwt=[40.0], sidecar=[50.0, 60.0, 70.0])).splitlines()
    cells = [cell.strip() for cell in lines[4].split("|")]
    assert cells == ["", "", "sidecar", "60.0", "50.0–70.0", "3.00", "1.50", "–", ""]
    assert len({len(line) for line in lines[:5]}) == 1, "it reads as plain text too"


def test_what_failed_or_is_missing_is_named_and_has_no_number() -> None:
    found = results(haproxy=[20.0])
    found.rows[0].failed["sidecar"] = "status 502"
    found.missing["haproxy-jwt"] = "haproxy isn't installed"
    text = report.render(found)
    assert "failed: hot, sidecar: status 502" in text
    assert "left out: haproxy-jwt: haproxy isn't installed" in text
    assert "| sidecar" in text
    assert "| failed |" in text


@pytest.mark.parametrize(("value", "text"), [(0.354, "0.35"), (9.994, "9.99"), (31.04, "31.0"), (123.4, "123")])
def test_numbers_have_three_figures(value: float, text: str) -> None:
    assert report.number(value) == text


def test_a_page_keeps_all_but_what_lies_between_its_markers() -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    filled = report.fill(page, "new")
    assert filled == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    assert report.fill(filled, "new") == filled
    with pytest.raises(ValueError, match="lacks"):
        report.fill("no markers", "new")


HOT = marks.Mark("hot", 1.5, "haproxy-jwt")


def test_a_mark_may_compare_with_another_row() -> None:
    found = results(sidecar=[95.0])
    found.rows.append(RowResult("cold", "cold token", "µs", {"sidecar": Cell([10.0])}))
    for bound, passed in ((9.5, True), (9.4, False)):
        judged = marks.judge(marks.Mark("hot", bound, "sidecar", "sidecar", "cold"), found)
        assert (judged.passed, "cold token" in judged.text) == (passed, True)
    assert not marks.judge(marks.Mark("hot", 99.0, "sidecar", "sidecar", "absent"), found).passed


@pytest.mark.parametrize(
    ("mark", "cells", "passed"),
    [
        (HOT, {"haproxy_jwt": [40.0], "sidecar": [60.0]}, True),
        (HOT, {"haproxy_jwt": [40.0], "sidecar": [60.1]}, False),
        (HOT, {"haproxy_jwt": [40.0], "sidecar": [10.0, 99.0, 99.0]}, False),
        (HOT, {"sidecar": [60.0]}, False),
        (HOT, {"haproxy_jwt": [40.0]}, False),
        (marks.Mark("memory", 96.0), {"sidecar": [60.0]}, False),
        (marks.Mark("hot", 96.0), {"sidecar": [96.0]}, True),
        (marks.Mark("hot", 96.0), {"sidecar": [97.0]}, False),
    ],
    ids=["at it", "above", "median", "no reference", "not measured", "no row", "absolute", "absolute, above"],
)
def test_a_mark_is_reached_only_by_what_was_measured(
    mark: marks.Mark, cells: dict[str, list[float]], passed: bool
) -> None:
    assert marks.judge(mark, results(**cells)).passed is passed


def test_marks_and_tables_name_what_exists() -> None:
    rows, peers = {row.name for row in ROWS}, {peer.name for peer in PEERS}
    assert len(rows) == len(ROWS)
    assert len(peers) == len(PEERS)
    assert {mark.row for mark in marks.MARKS} <= rows
    assert {mark.reference for mark in marks.MARKS if mark.reference} <= peers
    assert set(report.REFERENCES) <= peers


@pytest.mark.parametrize(
    ("usable", "cores"), [([3], Cores(3, 3, 3)), ([0, 1], Cores(0, 1, 1)), ([0, 2, 4, 6], Cores(0, 2, 4))]
)
def test_the_proxy_shares_its_core_only_where_there_is_one(usable: list[int], cores: Cores) -> None:
    assert choose_cores(usable) == cores
