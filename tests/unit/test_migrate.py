"""`sidecar migrate`: what it shows, what it writes, what it never opens and never tells."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import migrate
from sidecar.cli.options import Exit
from sidecar.cli.root import app

SECRET = "hunter2-very-secret"
FILES = {
    "nx.json": f'{{\n  "nxCloudAccessToken": "{SECRET}",\n  "parallel": 3\n}}\n',
    "web/.npmrc": f"registry=https://r/\n//r/:_authToken={SECRET}\n",
    "ccache.conf": f"remote_storage = http://u:{SECRET}@old/\nmax_size = 5G\n",
    ".bazelrc": f"build --remote_header=x-other-token={SECRET}x\nbuild --remote_cache=https://old\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def run(root: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["migrate", str(root), *args])


def test_the_change_is_shown_and_not_made(repository: Path) -> None:
    said = run(repository)
    assert said.exit_code == Exit.FAILED
    assert "nx.json:2: nx: nxCloudAccessToken: a token in plain sight, to be removed" in said.stdout
    assert "--- a/web/.npmrc\n+++ b/web/.npmrc\n" in said.stdout
    assert "+//r/:_authToken=${SIDECAR_TOKEN}\n" in said.stdout
    assert "-//r/:_authToken=REDACTED\n" in said.stdout
    assert SECRET not in said.output
    assert "sidecar client-config nx" in said.stderr
    assert {name: (repository / name).read_text() for name in FILES} == FILES


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("nx.json", '{"nxCloudAccessToken": "x", "nxCloudUrl": "https://ada:SECRET@nx.example"}'),
        (".npmrc", "//r/:_authToken=x\nregistry=https://SECRET@r.example/npm"),
        (".bazelrc", "build --remote_cache=grpcs://old --remote_downloader_header=X-Key=SECRET"),
        ("gradle.properties", "cacheToken=x\ncachePwd=SECRET\norg.gradle.caching=true"),
    ],
)
def test_what_else_is_secret_in_a_file_is_not_shown(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).write_text(line.replace("SECRET", "hunter2hunter2") + "\n")
    said = run(tmp_path).output
    assert "hunter2" not in said
    assert "REDACTED" in said


def test_the_change_is_made(repository: Path) -> None:
    (repository / "nx.json").chmod(0o640)
    said = run(repository, "--write")
    assert (said.exit_code, SECRET in said.output) == (0, False)
    assert (repository / "nx.json").read_text() == '{\n  "parallel": 3\n}\n'
    assert (repository / "nx.json").stat().st_mode & 0o777 == 0o640
    assert (repository / "ccache.conf").read_text() == "max_size = 5G\n"
    assert sorted(path.name for path in repository.rglob("*") if path.is_file()) == sorted(
        Path(name).name for name in FILES
    )
    again = run(repository)
    assert (again.exit_code, again.stdout) == (0, "nothing found\n")


def test_what_is_left_to_a_person_keeps_the_exit_at_1(repository: Path) -> None:
    (repository / "gradle.properties").write_text(f"signing.password={SECRET}\n")
    said = run(repository, "--write", "--json")
    told = json.loads(said.stdout)
    assert (said.exit_code, SECRET in said.output, told["written"]) == (Exit.FAILED, False, True)
    assert {"file": "gradle.properties", "line": 1, "client": "gradle", "what": "signing.password", "kind": "token", "change": "none"} in told["findings"]  # fmt: skip


def test_secrets_in_lines_around_a_change_are_not_shown(repository: Path) -> None:
    (repository / "ccache.conf").write_text("redis_password = another-secret\nremote_storage = http://old/\n")
    assert "another-secret" not in run(repository).output
    assert "another-secret" not in run(repository, "--json").output


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_nothing_outside_is_ever_opened_or_changed(repository: Path, tmp_path: Path, write: tuple[str, ...]) -> None:
    outside = tmp_path / "outside"
    (outside / ".cargo").mkdir(parents=True)
    victim = outside / ".npmrc"
    victim.write_text(f"//r/:_authToken={SECRET}\n")
    for folder in ("a", "b"):
        (repository / folder).mkdir()
    (repository / "a/.npmrc").symlink_to(victim)
    (repository / "b/.npmrc").symlink_to(repository / "web/.npmrc")
    (repository / "linked").symlink_to(outside)
    (repository / "loop").symlink_to(repository)
    told = json.loads(run(repository, "--json", *write).stdout)
    assert victim.read_text() == f"//r/:_authToken={SECRET}\n"
    assert {each["file"] for each in told["findings"]} == set(FILES)
    assert [each for each in told["skipped"] if each["why"] == "a symbolic link"] == [
        {"file": "a/.npmrc", "why": "a symbolic link"},
        {"file": "b/.npmrc", "why": "a symbolic link"},
    ]


def test_what_is_no_text_of_a_bearable_size_is_skipped(repository: Path) -> None:
    cases = {"big": b"x" * (migrate.MAX_SIZE + 1), "binary": b"//r/:_authToken=x\n\0"}
    for name, content in cases.items():
        (repository / name).mkdir()
        (repository / name / ".npmrc").write_bytes(content)
    (repository / "pipe").mkdir()
    os.mkfifo(repository / "pipe/.npmrc")
    (repository / "folder/.npmrc").mkdir(parents=True)
    told = json.loads(run(repository, "--json").stdout)
    assert {each["file"]: each["why"] for each in told["skipped"]} == {
        "big/.npmrc": "larger than 1 MiB",
        "binary/.npmrc": "no text",
        "pipe/.npmrc": "no regular file",
    }


def test_bytes_that_are_no_utf_8_stay(repository: Path) -> None:
    (repository / "ccache.conf").write_bytes(b"# caf\xe9\r\nremote_storage = http://old\r\n\x0bx\xff\r\n")
    assert run(repository, "--write").exit_code == 0
    assert (repository / "ccache.conf").read_bytes() == b"# caf\xe9\r\n\x0bx\xff\r\n"


def test_a_name_that_would_steer_the_terminal_does_not(repository: Path) -> None:
    folder = repository / "\x1b[31mred"
    folder.mkdir()
    (folder / ".npmrc").write_text(f"//r/:_authToken={SECRET}\n")
    said = run(repository)
    assert "\x1b" not in said.output
    assert "\N{REPLACEMENT CHARACTER}[31mred/.npmrc:1" in said.stdout


def test_a_file_that_changes_meanwhile_is_left_alone(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrate._write

    def slow(directory: Path, file: migrate._File) -> None:
        (directory / file.name).write_text("edited meanwhile\n")
        real(directory, file)

    monkeypatch.setattr(migrate, "_write", slow)
    said = run(repository, "--write", "--json")
    assert said.exit_code == Exit.FAILED
    assert {each["why"] for each in json.loads(said.stdout)["skipped"]} == {"not written: it changed meanwhile"}
    assert (repository / "nx.json").read_text() == "edited meanwhile\n"


def test_other_peoples_folders_are_not_entered(repository: Path) -> None:
    for name in ("node_modules/x", ".git/x"):
        (repository / name).mkdir(parents=True)
        (repository / name / ".npmrc").write_text(f"//r/:_authToken={SECRET}\n")
    assert {each["file"] for each in json.loads(run(repository, "--json").stdout)["findings"]} == set(FILES)


def test_a_file_is_no_directory(repository: Path) -> None:
    assert run(repository / "nx.json").exit_code == Exit.INVALID
