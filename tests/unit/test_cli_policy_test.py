"""`sidecar policy test`: cases are found, asked of the gate, and told: for a person, for a script, for a CI system."""

import asyncio
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli.junit import junit
from sidecar.cli.policy import app
from sidecar.cli.policy_files import NamedCases, load_policies
from sidecar.cli.policy_run import Outcome, Progress, run_cases
from sidecar.cli.root import app as whole
from sidecar.errors import DocumentError
from sidecar.policy.cases import read_case_file
from sidecar.policy.routes import Snapshot

CONFIG = Path(__file__).parents[2] / "config"
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: artifacts}]\nanonymous: read\n"
RIGHT = "cases: [{name: everybody reads, who: anonymous, ask: GET /web/a, expect: allow}]\n"
WRONG = "cases: [{name: nobody reads, who: anonymous, ask: GET /web/a, expect: no_token}]\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["test", *(str(argument) for argument in arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


def test_every_case_of_the_project_holds() -> None:
    plain = run(CONFIG / "policies")
    assert (plain.exit_code, plain.stdout.splitlines()[-1].endswith("passed, 0 failed")) == (0, True)
    assert "without --config, cases about loading are left out" in plain.stderr
    checked = run("--config", CONFIG / "sidecar.example.yaml", "--json")
    assert (checked.exit_code, checked.stderr) == (0, "")
    said = json.loads(checked.stdout)
    files = {result["file"] for result in said["results"]}
    assert {"cases/web.yaml", "cases/oss.yaml", "cases/loading.yaml"} <= files
    assert (said["ok"], said["failed"]) == (True, 0)
    assert said["cases"] == len(said["results"]) > 100


def test_the_folder_above_stands_for_its_policies() -> None:
    assert run(CONFIG).stdout == run(CONFIG / "policies").stdout


def test_cases_in_the_policy_s_own_file(folder: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    result = run(folder)
    assert (result.exit_code, result.stdout) == (0, "1 case in 1 file: 1 passed, 0 failed\n")


def test_a_case_that_does_not_hold_is_shown_and_explained(folder: Path) -> None:
    more = "rules: [{name: closed, deny: [read], path: secret/**}]\n"
    case = "cases: [{name: open, who: {ci: web}, ask: GET /web/secret/a, expect: allow, rule: openness}]\n"
    (folder / "web.yaml").write_text(HEAD + more + case)
    result = run(folder)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "policies/web.yaml:5 open"
    assert lines[1:5] == ["  - expect: allow", "  - rule: openness", "  + expect: rule_deny", "  + rule: closed"]
    assert "    GET /web/secret/a" in lines
    assert "    caller     ci ci of web" in lines
    assert "    rule       closed (line 4): deny read on secret/**" in lines
    assert "    verdict    refused with 403: rule_deny by rule 'closed'" in lines
    assert lines[-1] == "1 case in 1 file: 0 passed, 1 failed"
    assert "\x1b" not in result.stdout, "no colours where nobody sees them"


def test_the_answer_for_scripts(folder: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + WRONG)
    result = run(folder, "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["ok"], said["cases"], said["failed"]) == (False, 1, 1)
    [told] = said["results"]
    explanation = told.pop("explanation")
    assert told == {
        "file": "policies/web.yaml",
        "line": 4,
        "workspace": "web",
        "name": "nobody reads",
        "asked": "GET /web/a",
        "passed": False,
        "expected": {"expect": "no_token"},
        "got": {"expect": "allow", "rule": None},
    }
    assert (explanation["allowed"], explanation["anonymous_level"]) == (True, ["read"])


def test_files_of_cases_are_where_they_are_said_to_be(folder: Path, tmp_path: Path) -> None:
    (folder / "web.yaml").write_text(HEAD)
    for place in ("cases", "elsewhere"):
        (tmp_path / place).mkdir()
    (tmp_path / "cases" / "any.yaml").write_text("workspace: web\n" + WRONG)
    (tmp_path / "elsewhere" / "web.yml").write_text("workspace: web\n" + RIGHT)
    (tmp_path / "elsewhere" / "notes.txt").write_text("{")
    assert "cases/any.yaml:2 nobody reads" in run(folder).stdout
    assert run(folder, "--cases", tmp_path / "elsewhere").exit_code == 0
    assert run(folder, "--cases", tmp_path / "elsewhere" / "web.yml").exit_code == 0
    both = run(folder, "--cases", tmp_path / "elsewhere", "--cases", tmp_path / "cases")
    assert both.stdout.endswith("2 cases in 2 files: 1 passed, 1 failed\n")


def test_a_guard_is_told_of_as_any_case(folder: Path) -> None:
    """`serve` and `check` refuse the file; here its author sees why."""
    (folder / "web.yaml").write_text(HEAD + "guard: true\n" + WRONG)
    tested = run(folder)
    assert (tested.exit_code, "+ expect: allow" in tested.stdout) == (1, True)
    checked = CliRunner().invoke(app, ["check", str(folder)])
    assert checked.exit_code == 2
    assert "policies/web.yaml:5 $.cases: the guard nobody reads: expected no_token, got allow" in checked.stderr


def test_a_check_runs_the_cases(folder: Path, tmp_path: Path) -> None:
    """Rule 26."""
    (folder / "web.yaml").write_text(HEAD + WRONG)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "web.yaml").write_text("workspace: web\n" + WRONG)
    checked = CliRunner().invoke(app, ["check", str(folder)])
    assert checked.exit_code == 2
    for file, line in (("policies/web.yaml", 4), ("cases/web.yaml", 2)):
        assert f"{file}:{line} $.cases: the case nobody reads: expected no_token, got allow" in checked.stderr
    (tmp_path / "cases" / "web.yaml").write_text("workspace: web\n")
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    checked = CliRunner().invoke(app, ["check", str(folder)])
    assert "cases/web.yaml:1 $: the key 'cases' is missing" in checked.stderr
    (tmp_path / "cases" / "web.yaml").unlink()
    assert CliRunner().invoke(app, ["check", str(folder)]).exit_code == 0


@pytest.mark.parametrize(
    ("policy", "cases", "problem"),
    [
        (HEAD, None, "there is no case"),
        (HEAD + "mood: good\n", None, "unknown key 'mood'"),
        (HEAD + "cases: [{name: a}]\n", None, "the key 'who' is missing"),
        (HEAD, b"workspace: web\ncases: {}", "expected a list"),
        (HEAD, b"\xff", "the file is not UTF-8 text"),
        (None, None, "there is no policy file"),
    ],
)
def test_what_can_not_be_tested(
    folder: Path, tmp_path: Path, policy: str | None, cases: bytes | None, problem: str
) -> None:
    if policy is not None:
        (folder / "web.yaml").write_text(policy)
    if cases is not None:
        (tmp_path / "cases").mkdir()
        (tmp_path / "cases" / "web.yaml").write_bytes(cases)
    with pytest.raises(DocumentError, match=problem):
        CliRunner().invoke(app, ["test", str(folder)], catch_exceptions=False)


def test_what_is_not_right_is_told_to_scripts_too(folder: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + "mood: good\n")
    for command in (["test", folder], ["diff", folder, folder, "--cases", folder]):
        result = CliRunner().invoke(app, [*map(str, command), "--json"])
        assert (result.exit_code, result.stderr) == (2, "")
        said = json.loads(result.stdout)
        assert (said["ok"], said["problems"][0]["path"]) == (False, "$.mood")


@pytest.mark.parametrize(("place", "problem"), [("nowhere", "can't be read"), ("empty", "there is no file of cases")])
def test_cases_that_are_not_there(folder: Path, tmp_path: Path, place: str, problem: str) -> None:
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match=problem):
        CliRunner().invoke(app, ["test", str(folder), "--cases", str(tmp_path / place)], catch_exceptions=False)


# JUnit


def test_junit(folder: Path, tmp_path: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "web.yaml").write_text("workspace: web\n" + WRONG)
    result = run(folder, "--junit", tmp_path / "results.xml")
    assert result.exit_code == 1
    root = ElementTree.parse(tmp_path / "results.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "2", "1")
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("policies/web.yaml", "1", "0"),
        ("cases/web.yaml", "1", "1"),
    ]
    [case] = root[1]
    assert (case.get("classname"), case.get("name"), case.get("line")) == ("web", "nobody reads", "2")
    [failure] = case
    assert failure.get("message") == "- expect: no_token; + expect: allow"
    assert failure.text is not None
    assert "verdict    allowed: granted" in failure.text
    assert [len(case) for case in root[0]] == [0]


def test_junit_is_xml_whatever_a_case_is_called() -> None:
    name = "]]> & <a> \x00\x1b\ud800\ufffe ü"
    outcome = Outcome("a.yaml", 1, "web", name, "GET /", False, {"expect": name}, {"expect": "allow"})
    [[case]] = ElementTree.fromstring(junit([outcome]))
    assert case.get("name") == "]]> & <a> \ufffd\ufffd\ufffd\ufffd ü"


def test_results_that_can_not_be_written_are_no_success(folder: Path, tmp_path: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    result = run(folder, "--junit", tmp_path / "nowhere" / "results.xml")
    assert result.exit_code == 1
    assert "can't be written: No such file or directory" in str(result.exception)


# Cases about loading


def test_cases_about_loading_are_compared_by_how_problems_begin(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "config" / "policies" / "migration.yaml").unlink()
    cases = tmp_path / "config" / "cases" / "loading.yaml"
    cases.write_text(
        "load:\n"
        "  - {name: bad level, files: {a.yaml: 'workspace: a'}, loads: 1, problems: ['a.yaml:1 $: the key', 'b.yaml']}\n"
        "  - {name: only the number, files: {a.yaml: 'workspace: a'}, loads: 1, problems: ['a.yaml:1 $: the key']}\n"
        "  - {name: only the text, files: {a.yaml: 'workspace: a'}, loads: 0, problems: ['a.yaml:1 $: a key']}\n"
        "  - {name: bad key, files: {a.yaml: 'workspace: a'}, loads: 0, problems: ['a.yaml:1 $: the key']}\n"
    )
    result = run("--config", tmp_path / "config" / "sidecar.example.yaml", "--cases", cases)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "cases/loading.yaml:2 bad level",
        "  - loads: 1",
        "    problems: a.yaml:1 $: the key",
        "  - problems: b.yaml",
        "  + loads: 0",
        "",
        "cases/loading.yaml:3 only the number",
        "  - loads: 1",
        "    problems: a.yaml:1 $: the key",
        "  + loads: 0",
        "",
        "cases/loading.yaml:4 only the text",
        "    loads: 0",
        "  - problems: a.yaml:1 $: a key",
        "  + problems: a.yaml:1 $: the key 'routes' is missing",
        "",
        "4 cases in 1 file: 1 passed, 3 failed",
    ]


# Progress


def test_a_log_of_unknown_length_says_how_much_was_read() -> None:
    moments = iter([0.0, 1.0, 2.5, 3.0])
    said: list[str] = []
    progress = Progress(None, "lines of the log read", said.append, lambda: next(moments))
    for _ in range(3):
        progress.step()
    assert said == ["2 lines of the log read"]


def test_a_long_run_says_how_far_it_is() -> None:
    moments = iter([0.0, 1.0, 2.5, 3.0, 4.6, 9.0])
    said: list[str] = []
    progress = Progress(5, "cases", said.append, lambda: next(moments))
    for _ in range(5):
        progress.step()
    assert said == ["2 of 5 cases", "4 of 5 cases"]


def test_each_case_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Progress, "step", lambda self: steps.append(self._total))
    read = read_case_file("workspace: web\n" + WRONG, "web.yaml", None)
    outcomes = asyncio.run(run_cases([NamedCases("web.yaml", read)] * 3, Snapshot(), None, 0.0, steps.append))  # type: ignore[arg-type]
    assert ([outcome.got["expect"] for outcome in outcomes], steps) == (["no_route"] * 3, [3, 3, 3])


# One file


def test_one_file_of_policies(folder: Path) -> None:
    (folder / "web.yaml").write_text(HEAD + RIGHT)
    (folder / "other.yaml").write_text("mine: all")
    assert CliRunner().invoke(whole, ["policy", "test", str(folder / "web.yaml")]).exit_code == 0
    assert next(str(problem) for problem in load_policies(folder / "other.yaml", None).problems).startswith(
        "policies/other.yaml:1"
    )


def test_one_file_has_the_cases_of_its_name_beside_it(folder: Path, tmp_path: Path) -> None:
    (folder / "web.yaml").write_text(HEAD)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "web.yaml").write_text("workspace: web\n" + RIGHT)
    (tmp_path / "cases" / "other.yaml").write_text("workspace: other\n" + WRONG)
    assert run(folder / "web.yaml").stdout == "1 case in 1 file: 1 passed, 0 failed\n"
