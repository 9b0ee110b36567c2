"""Results of policy cases in the form that CI systems read: JUnit's XML, one suite for each file of cases."""

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree import ElementTree

from sidecar.cli.policy_run import Outcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 §2.2 has no way to write, not even escaped."""


def junit(outcomes: Sequence[Outcome]) -> bytes:
    """The whole document, UTF-8."""
    failed = sum(not outcome.passed for outcome in outcomes)
    root = ElementTree.Element("testsuites", name="sidecar policy test", tests=str(len(outcomes)), failures=str(failed))
    for file, group in groupby(outcomes, key=lambda outcome: outcome.file):
        members = list(group)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_text(file),
            tests=str(len(members)),
            failures=str(sum(not member.passed for member in members)),
            errors="0",
            skipped="0",
        )
        for member in members:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=_text(member.workspace or file),
                name=_text(member.name),
                file=_text(file),
                line=str(member.line),
            )
            if not member.passed:
                failure = ElementTree.SubElement(case, "failure", message=_text("; ".join(member.diff())))
                failure.text = _text("\n".join(report(member)))
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def report(outcome: Outcome) -> list[str]:
    """A case that doesn't hold, for a person: the difference, and how the answer came about."""
    lines = outcome.explanation.lines() if outcome.explanation is not None else []
    return [*outcome.diff(), *(line for line, _ in lines)]


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
