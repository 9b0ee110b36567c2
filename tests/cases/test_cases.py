"""Every numbered sentence of the policy's meaning is at least one case under config/cases, and each case holds."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml
from msgspec import Struct, convert
from sidecar.config import load
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Target
from sidecar.policy.cases import read_case_file, run_case
from sidecar.policy.compiled import Case, Route
from sidecar.policy.files import PolicyFiles
from sidecar.policy.routes import Snapshot
from sidecar.policy.source import PolicySource, compile_version
from sidecar.profiles import PROFILES, LocalAnswer
from sidecar.profiles.tenant import check_tenant
from sidecar.reasons import Reason
from sidecar.settled import Reading

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = load(CONFIG / "sidecar.example.yaml")
CASE_FILES = sorted(path for path in (CONFIG / "cases").glob("*.yaml") if path.name != "loading.yaml")

WITHOUT_A_CASE = {
    18: "operations on collections come with the WebDAV profile",
    21: "report mode is refused until it is supported",
    23: "needs files that change: tests/unit/test_policy_files.py",
    24: "needs files that change: tests/unit/test_policy_source.py",
    26: "guards are refused until they are supported",
}


@cache
def snapshot() -> Snapshot:
    source = PolicySource(
        SETTINGS.policies, issuers=SETTINGS.issuers, upstreams=SETTINGS.upstreams, profiles=PROFILES, settle=0.0
    )
    source.load_now()
    assert [status.problems for status in source.snapshot.files.values() if not status.ok] == []
    return source.snapshot


def classify(method: str, target: Target, route: Route) -> Sequence[Action] | Reason:
    """As the gate does it."""
    profile = PROFILES[route.client]
    if target.oddities & ~profile.allowed:
        raise Refused(Reason.BAD_TARGET)
    check_tenant(target.raw_query, route.workspace)
    found = profile.classify(Head(method, target, Headers({}, ())), route)
    return Reason.ANSWERED_HERE if isinstance(found, LocalAnswer) else found


def all_cases() -> list[Case]:
    return [case for path in CASE_FILES for case in read_case_file(path.read_text(), path.name, SETTINGS.issuers)]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.workspace}: {case.name}") for case in all_cases()])
def test_case(case: Case) -> None:
    result = run_case(case, snapshot(), classify)
    assert result.passed, str(result)


class LoadCase(Struct, forbid_unknown_fields=True):
    name: str
    files: dict[str, str]
    loads: int
    problems: tuple[str, ...] = ()


def load_cases() -> list[LoadCase]:
    return convert(yaml.safe_load((CONFIG / "cases/loading.yaml").read_text())["load"], list[LoadCase])


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
