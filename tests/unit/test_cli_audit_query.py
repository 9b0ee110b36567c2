"""`sidecar audit query`: over the configuration's files with those that were rotated, over named files, over standard input."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidecar.audit.record import Records
from sidecar.audit.schema import Instance, rfc3339
from sidecar.cli import audit, audit_files
from sidecar.cli.audit_files import read, with_rotated
from sidecar.credentials.master_key import AccessKeyId
from sidecar.credentials.opaque import TokenFormat
from sidecar.model import PrincipalKind
from tests.unit.test_audit_query import NOW, opaque, record
from tests.unit.test_cli_token import CONFIG, PEPPER

RECORDS = Records(Instance(), b"k" * 32)
TOKEN_ID, TOKEN = TokenFormat("asc").mint(PrincipalKind.CI)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "pepper").write_text(PEPPER)
    (tmp_path / "sidecar.yaml").write_text(CONFIG + "audit: [{file: ./audit.jsonl}]\n")
    return tmp_path


def run(*words: str, stdin: bytes | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(audit.app, ["query", *words], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def told(*words: str) -> list[float]:
    uses: list[dict[str, Any]] = json.loads(run(*words, "--json").stdout)["uses"]
    return [round(float(use["key"])) for use in uses]


def line(at: int, token_id: str = TOKEN_ID) -> bytes:
    from sidecar.model import Action, Permission

    return record(opaque(token_id), at, actions=(Action(Permission.READ, str(at)),)) + b"\n"


def test_rotated_files_are_read_first_the_oldest_before_the_newest(folder: Path) -> None:
    for at, name in enumerate(["audit.jsonl.000009", "audit.jsonl.000010", "audit.jsonl.1000000", "audit.jsonl"]):
        (folder / name).write_bytes(line(at) + line(100, "another"))
    (folder / "audit.jsonl.bak").write_bytes(line(50))
    assert told("--token", TOKEN_ID) == [0, 1, 2, 3]


def test_a_whole_token_is_taken_from_standard_input_and_never_shown(folder: Path) -> None:
    (folder / "audit.jsonl").write_bytes(line(0))
    result = run("--token", "-", stdin=TOKEN.reveal().encode() + b"\n")
    assert TOKEN_ID in result.stdout
    assert TOKEN.reveal() not in result.output
    broken = run("--token", TOKEN.reveal()[:-1] + "_", code=2)
    assert TOKEN.reveal()[:-1] not in broken.output


def test_an_access_key_stands_for_its_token(folder: Path) -> None:
    (folder / "audit.jsonl").write_bytes(line(0))
    assert told("--token", str(AccessKeyId(1, TOKEN_ID))) == [0]


def test_named_files_need_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(line(1))
    (tmp_path / "b").write_bytes(line(2))
    assert told("--token", TOKEN_ID, "--audit", "b", "--audit", "a") == [2, 1]
    assert TOKEN_ID in run("--token", TOKEN_ID, "--audit", "-", stdin=line(1)).stdout


def test_a_line_says_when_which_what_came_of_it_from_where_and_for_what(folder: Path) -> None:
    hostile = record(opaque(TOKEN_ID), user_agent="curl\x1b[2J", query="x=1")
    (folder / "audit.jsonl").write_bytes(hostile + b"\ntorn {\n" + line(1))
    result = run("--token", TOKEN_ID)
    first, _, last = result.stdout.splitlines()
    assert first == f"{rfc3339(NOW)[:19]}Z  {TOKEN_ID}  allow  10.0.0.9  GET web:a  curl\N{REPLACEMENT CHARACTER}[2J"
    assert last == "2 requests, 0 refused"
    assert "1 line is no audit record" in result.stderr


def test_nothing_found_is_said_and_is_still_json(folder: Path) -> None:
    (folder / "audit.jsonl").write_bytes(line(0))
    assert run("--token", "000000000000").stdout == "0 requests, 0 refused\n"
    assert json.loads(run("--token", "000000000000", "--json").stdout) == {
        "token": "000000000000", "uses": [], "replaced_by": [], "records": 0, "unreadable": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("since", "code"), [("7d", 0), ("1s", 0), ("yesterday", 2), ("7", 2)])
def test_since(folder: Path, since: str, code: int) -> None:
    (folder / "audit.jsonl").write_bytes(line(0))
    run("--token", TOKEN_ID, "--since", since, code=code)


def test_files_that_are_missing_are_said(folder: Path) -> None:
    assert "no such file" in run("--token", TOKEN_ID, code=3).stderr
    (folder / "sidecar.yaml").write_text(CONFIG + "audit: [{file: stdout}]\n")
    assert "standard output alone" in run("--token", TOKEN_ID, code=3).stderr


def test_a_file_that_is_rotated_while_it_is_read_loses_nothing(tmp_path: Path) -> None:
    current = tmp_path / "audit.jsonl"
    for at, name in enumerate(["audit.jsonl.000001", "audit.jsonl.000002", "audit.jsonl"]):
        (tmp_path / name).write_bytes(b"%d\n" % at)
    reading = read(with_rotated(current), lambda text: None)
    assert next(reading) == b"0"
    os.rename(current, tmp_path / "audit.jsonl.000003")
    current.write_bytes(b"later\n")
    (tmp_path / "audit.jsonl.000002").unlink()
    assert list(reading) == [b"2"]


def test_a_file_that_was_rotated_before_the_rest_was_listed_is_read_once(tmp_path: Path) -> None:
    current = tmp_path / "audit.jsonl"
    current.write_bytes(b"0\n")
    os.link(current, tmp_path / "audit.jsonl.000001")
    assert list(read(with_rotated(current), lambda text: None)) == [b"0"]


def test_a_long_run_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_files, "_LOOK_EVERY", 1)
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"x" * 1000 + b"\n" + b"y\n" * 5)
    said: list[str] = []
    ticks = iter(range(0, 1000, 1))
    assert len(list(read([file], said.append, clock=lambda: float(next(ticks))))) == 6
    assert said == ["read 0 of 0 MiB"] * 3


def test_an_id_that_no_record_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_bytes(b"")
    done = run("--token", "nosuchid1234", "--audit", str(tmp_path / "audit.jsonl"))
    assert done.stdout == "0 requests, 0 refused\n"
    assert "no record that was asked for names it" in done.stderr
