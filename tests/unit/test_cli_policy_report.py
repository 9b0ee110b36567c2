"""`sidecar policy report`, as a person and as a script meet it."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli.policy import app
from sidecar.errors import SidecarError
from tests.unit.test_audit_summary import HOLDER, line

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(CONFIG, tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(folder: Path, *lines: bytes, name: str = "audit.jsonl") -> Path:
    (folder / name).write_bytes(b"".join(each + b"\n" for each in lines))
    return folder / name


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)], input=stdin)


def test_who_would_have_been_refused_and_what_would_fit_them(folder: Path) -> None:
    file = audit(folder, line("a/b/c"), line("a/b/d", time="2026-11-23T00:00:00.000000Z"))
    result = run("--audit", file, "--config", "config/sidecar.example.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.sub(r"\(line \d+\)", "(line N)", result.stdout) == (
        "2 audit records, 2026-11-22T04:00:00Z to 2026-11-23T00:00:00Z\n"
        "\n"
        "Report mode let through 2 requests that will be refused:\n"
        "\n"
        "web: jwt build of issuer corp, groups ci, web\n"
        "  2 requests to read, 2026-11-22T04:00:00Z to 2026-11-23T00:00:00Z: no_rule\n"
        "  keys   below a/b, such as a/b/c, a/b/d\n"
        "  from   10.0.0.1 (2)\n"
        "  fits   the rule 'the web team reads' (line N) fits, if 'build' is in one of its groups (web-team)\n"
        "  fits   a rule for this caller alone\n"
        '           - name: "build reads"\n'
        "             allow: [read]\n"
        '             issuer: "corp"\n'
        '             users: ["build"]\n'
        '             path: "a/b/**"\n'
    )


def test_who_still_uses_the_old_password(folder: Path) -> None:
    used = line(actor=HOLDER, would_deny=None)
    file = audit(folder, used, used, line(actor=HOLDER, would_deny=None, reason="expired", peer="10.0.0.2"))
    printed = run("--audit", file).stdout
    assert "Nobody would have been refused" in printed
    moment = "2026-11-22T04:00:00Z"
    assert f"  web  10.0.0.1  2 requests, {moment} to {moment}, curl/8\n" in printed
    assert f"  web  10.0.0.2  1 request, 1 refused, {moment} to {moment}, curl/8\n" in printed


@pytest.mark.parametrize("lines", [[], [b"serving on 127.0.0.1:8080"], [b"{}", b'{"kind": "access"}']])
def test_a_file_without_any_audit_record_is_no_agreement(folder: Path, lines: list[bytes]) -> None:
    with pytest.raises(SidecarError, match="there is no audit record in --audit"):
        CliRunner().invoke(app, ["report", "--audit", str(audit(folder, *lines))], catch_exceptions=False)


def test_for_scripts(folder: Path) -> None:
    file = audit(folder, line("a/b/c"), line(actor=HOLDER, would_deny=None))
    said = json.loads(run("--audit", file, "--json").stdout)
    [row] = said["would_deny"]
    fits = row.pop("fits")
    assert row == {
        "workspace": "web",
        "kind": "jwt",
        "issuer": "corp",
        "principal": "build",
        "groups": ["ci", "web"],
        "permissions": ["read"],
        "reason": "no_rule",
        "count": 1,
        "first": "2026-11-22T04:00:00.000000Z",
        "last": "2026-11-22T04:00:00.000000Z",
        "below": "a/b",
        "keys": ["a/b/c"],
        "peers": {"10.0.0.1": 1},
        "more_peers": 0,
    }
    assert [fit["kind"] for fit in fits] == ["rule"]
    [use] = said["legacy"]
    assert (use["workspace"], use["peer"], use["count"], use["refused"]) == ("web", "10.0.0.1", 1, 0)
    assert (said["records"], said["unreadable"], said["not_told_apart"]) == (2, 0, 0)


def test_several_files_and_standard_input_are_one_report(folder: Path) -> None:
    first, second = audit(folder, line(), name="audit.jsonl.000001"), audit(folder, line())
    result = run("--audit", first, "--audit", second, "--audit", "-", "--json", stdin=line() + b"\n")
    assert json.loads(result.stdout)["would_deny"][0]["count"] == 3


def test_one_workspace_and_only_the_most_frequent(folder: Path) -> None:
    callers = [line(actor={"type": "ci", "owner": "web", "principal": f"c{n}"}) for n in range(3)]
    file = audit(folder, *callers, callers[1], line(workspace="api"))
    said = json.loads(run("--audit", file, "--workspace", "web", "--limit", "1", "--json").stdout)
    assert [(row["principal"], row["count"]) for row in said["would_deny"]] == [("c1", 2)]
    assert said["not_told_apart"] == 2
    assert "--limit lists more" in run("--audit", file, "--limit", "1").stdout


def test_what_callers_sent_does_not_reach_the_terminal_as_it_is(folder: Path) -> None:
    evil = "a\x1b[2J\u202e\u009b"
    used = {"actor": {**HOLDER}, "request": {"user_agent": evil}, "would_deny": None}
    file = audit(folder, line(f"{evil}/b", workspace=evil, actor={"type": evil, "principal": evil}), line(**used))
    printed = run("--audit", file).stdout
    assert not set(evil[1:]) & set(printed) - set("[2J")
    assert "a\N{REPLACEMENT CHARACTER}[2J" in printed


def test_lines_that_are_no_records_are_told(folder: Path) -> None:
    result = run("--audit", audit(folder, b"torn", line()))
    assert result.exit_code == 0
    assert "note: 1 line is no audit record" in result.stderr


@pytest.mark.parametrize("arguments", [("--audit", "missing.jsonl"), ("--audit", "."), ("--audit", "x", "--limit", 0)])
def test_wrong_usage(folder: Path, arguments: tuple[object, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_without_audit_it_reads_what_the_configuration_writes_with_all_that_were_rotated(folder: Path) -> None:
    (folder / "sidecar.yaml").write_text(
        "listen: 127.0.0.1:8080\nops: 127.0.0.1:9090\npolicies: ./config/policies\n"
        "upstreams: {artifacts: {url: http://127.0.0.1:3000}}\naudit: [{file: ./audit.jsonl}]\n"
    )
    audit(folder, line(), name="audit.jsonl.000001")
    audit(folder, line())
    assert json.loads(run("--json").stdout)["would_deny"][0]["count"] == 2
    (folder / "audit.jsonl.000001").unlink()
    audit(folder)
    with pytest.raises(SidecarError, match="there is no audit record yet in the configuration's"):
        CliRunner().invoke(app, ["report"], catch_exceptions=False)


def test_without_audit_and_configuration_it_says_what_is_missing(folder: Path) -> None:
    with pytest.raises(SidecarError, match=r"sidecar\.yaml: can't be read"):
        CliRunner().invoke(app, ["report"], catch_exceptions=False)


def test_without_a_policy_directory_it_says_so_and_goes_on(folder: Path) -> None:
    shutil.rmtree("config/policies")
    result = run("--audit", audit(folder, line()), "--config", "config/sidecar.example.yaml")
    assert result.exit_code == 0
    assert "rules that are there are not looked at" in result.stderr
    assert "a rule for this caller alone" in result.stdout
