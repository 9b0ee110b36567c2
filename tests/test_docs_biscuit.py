"""The page about Biscuits: its tables are the published facts and limits, its examples do what it says of them."""

import re

import pytest

from sidecar.credentials.biscuit import conditions, profile, spelling
from sidecar.credentials.biscuit.facts import FACTS, OPERATIONS
from sidecar.errors import CredentialRefused
from tests import docs
from tests.biscuits import made, narrowed, principal
from tests.docs import ROOT

PAGE = (ROOT / "docs" / "biscuit.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n{title}\n")[2].partition("\n## ")[0]


def cells(title: str) -> list[list[str]]:
    """Of the section's table, without its headings."""
    rows = [line.strip("|").split(" | ") for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_every_fact_is_described_with_its_types_and_no_other() -> None:
    table = section("## Facts").partition("\n### ")[0]
    described = {}
    for code, types, _ in docs.rows(table):
        name, terms = docs.codes(code)[0].removesuffix(")").split("(")
        described[name] = (terms.count(",") + 1, types.split(", "))
    words = {"a date": "date", "a text": "text", "a set of texts": "set of texts"}
    assert described == {
        name: (len(fact.types), [words[type_] for type_ in fact.types]) for name, fact in FACTS.items()
    }


def test_facts_that_may_be_absent_say_so() -> None:
    for code, _, meaning in docs.rows(section("## Facts").partition("\n### ")[0]):
        name = docs.codes(code)[0].partition("(")[0]
        assert ("absent" in meaning.lower()) is not FACTS[name].always, name


def test_every_set_of_operations_is_described() -> None:
    described = {
        frozenset(re.findall(r'"([^"]+)"', docs.codes(operations)[0])) for _, operations in cells("### Operations")
    }
    assert described == set(OPERATIONS.values())


def test_limits_are_those_of_the_profile() -> None:
    said = dict(cells("## Checks"))
    for part, numbers in {
        "a check": (profile.MOST_QUERIES,),
        "an alternative": (profile.MOST_PREDICATES, profile.MOST_EXPRESSIONS, conditions.MOST_OPERATIONS),
        "regular expressions": (profile.MATCHING_BUDGET,),
        "in all": (
            profile.MOST_BLOCKS,
            profile.MOST_CHECKS,
            profile.MOST_CHECKS_IN_ALL,
            profile.MOST_MEMBERS,
            spelling.MAX_BYTES,
        ),
    }.items():
        found = [int(number.replace(",", "")) for number in re.findall(r"(?<![a-z\[-])\d[\d,]*\b(?!-)", said[part])]
        assert found == list(numbers), part


def test_of_the_checks_shown_the_array_is_refused_and_the_others_are_accepted() -> None:
    shown = [fence.strip() for fence in docs.fences(PAGE, "text") if fence.startswith("check if")]
    refused = [check for check in shown if "[" in check]
    assert (len(shown), len(refused)) == (3, 1)
    for check in shown:
        if check in refused:
            with pytest.raises(CredentialRefused, match=re.escape('!$ops.contains("account:write")')):
                principal(narrowed(made(), check))
        else:
            assert principal(narrowed(made(), check))
