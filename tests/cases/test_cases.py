"""Every numbered sentence of the policy's meaning is at least one case under config/cases, and each case holds."""

import asyncio
import time
from functools import cache
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.policy.cases import CaseFile, LoadCase, read_case_file
from sidecar.policy.compiled import Case
from sidecar.policy.files import PolicyFiles
from sidecar.policy.routes import Snapshot
from sidecar.policy.source import PolicySource, compile_version
from sidecar.profiles import PROFILES
from sidecar.settled import Reading
from sidecar.trial import run_case

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = load(CONFIG / "sidecar.example.yaml")
CASE_FILES = sorted(path for path in (CONFIG / "cases").glob("*.yaml") if path.name != "loading.yaml")

WITHOUT_A_CASE = {
    23: "needs files that change: tests/unit/test_policy_files.py",
    24: "needs files that change: tests/unit/test_policy_source.py",
}


@cache
def snapshot() -> Snapshot:
    source = PolicySource(
        SETTINGS.policies, issuers=SETTINGS.issuers, upstreams=SETTINGS.upstreams, profiles=PROFILES, settle=0.0
    )
    source.load_now()
    assert [status.problems for status in source.snapshot.files.values() if not status.ok] == []
    return source.snapshot


def all_cases() -> list[Case]:
    return [case for path in CASE_FILES for case in case_file(path).cases]


def case_file(path: Path) -> CaseFile:
    return read_case_file(path.read_text(), path.name, SETTINGS.issuers)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.workspace}: {case.name}") for case in all_cases()])
def test_case(case: Case) -> None:
    result = asyncio.run(run_case(case, snapshot(), time.time()))
    assert result.passed, str(result)


def load_cases() -> tuple[LoadCase, ...]:
    return case_file(CONFIG / "cases/loading.yaml").loads


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in load_cases()])
def test_loading(case: LoadCase) -> None:
    files = PolicyFiles()
    files.load(
        compile_version(
            file, Reading(text.encode()), issuers=SETTINGS.issuers, upstreams=SETTINGS.upstreams, profiles=PROFILES
        )
        for file, text in case.files.items()
    )
    found = [str(p) for name in sorted(files.snapshot.files) for p in files.snapshot.files[name].problems]
    assert len(found) == len(case.problems), found
    for met, expected in zip(found, case.problems, strict=True):
        assert met.startswith(expected), found
    assert sum(not workspace.broken for workspace in files.snapshot.workspaces.values()) == case.loads


def test_each_rule_has_a_case() -> None:
    names = [case.name for case in all_cases()] + [case.name for case in load_cases()]
    numbers = {int(name.split()[0]) for name in names}
    assert numbers | WITHOUT_A_CASE.keys() == set(range(1, 27))
    assert not numbers & WITHOUT_A_CASE.keys()


def test_names_of_cases_are_unique_within_their_workspace() -> None:
    names = [(case.workspace, case.name) for case in all_cases()]
    assert [name for name in names if names.count(name) > 1] == []
