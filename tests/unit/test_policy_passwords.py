"""Files with old shared passwords: what counts as one, and that a file which goes away takes its password with it."""

import hashlib
import logging
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.model import LEVELS
from sidecar.policy.compiled import Legacy, Workspace
from sidecar.policy.passwords import MAX_PASSWORD, PasswordFiles
from sidecar.policy.routes import Snapshot
from tests.waiting import until_in_loop as until

BASIC = Legacy("basic", "old", LEVELS["read"], 2e9)
BEARER = replace(BASIC, scheme="bearer")


def snapshot_of(*olds: Legacy | None) -> Snapshot:
    names = [f"w{number}" for number in range(len(olds))]
    return Snapshot(
        workspaces={
            name: Workspace(name, f"{name}.yaml", "0" * 64, legacy=old) for name, old in zip(names, olds, strict=True)
        }
    )


def loaded(folder: Path, *olds: Legacy | None) -> PasswordFiles:
    snapshot = snapshot_of(*olds)
    files = PasswordFiles(folder, lambda: snapshot, settle=0.0)
    files.load_now()
    return files


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"cache:hunter2", b"cache:hunter2"),
        (b"cache:hunter2\n", b"cache:hunter2"),
        (b"cache:hunter2\r\n", b"cache:hunter2"),
        (b"cache:correct horse: battery \n", b"cache:correct horse: battery "),
        ("käse:größe\n".encode(), "käse:größe".encode()),
        ("käse:größe".encode("latin-1"), "käse:größe".encode("latin-1")),
        (b":only-a-password", b":only-a-password"),
        (b"u:" + b"x" * (MAX_PASSWORD - 2) + b"\r\n", b"u:" + b"x" * (MAX_PASSWORD - 2)),
    ],
)
def test_the_password_is_the_file_s_one_line_to_the_byte(tmp_path: Path, content: bytes, line: bytes) -> None:
    (tmp_path / "old").write_bytes(content)
    files = loaded(tmp_path, BASIC, BEARER)
    assert files.digest(BASIC) == files.digest(BEARER) == sha256(line)
    assert files.problems() == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\r\n", "it is empty"),
        (b"cache:hunter2\n\n", "it is more than one line of text"),
        (b"cache:hunter2\nother:pass\n", "it is more than one line of text"),
        (b"cache:hun\0ter2", "it is more than one line of text"),
        (b"u:" + b"x" * MAX_PASSWORD, f"it has more than {MAX_PASSWORD} bytes"),
        (b"u:" + b"x" * 100_000, f"it has more than {MAX_PASSWORD + 2} bytes"),
    ],
)
def test_a_file_of_another_form_has_no_password(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "old").write_bytes(content)
    files = loaded(tmp_path, BEARER)
    assert files.digest(BEARER) is None
    assert files.problems() == [f"workspace w0: old: {problem}"]


@pytest.mark.parametrize("content", [b"hunter2", b"cache:", b":"])
def test_a_pair_has_a_password_after_its_colon(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "old").write_bytes(content)
    files = loaded(tmp_path, BASIC, BEARER)
    assert files.digest(BASIC) is None
    assert files.digest(BEARER) == sha256(content)
    assert files.problems() == ["workspace w0: old: it is not user:password"]


def test_where_there_is_no_file_there_is_no_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "old")  # opening one waits for whoever writes
    missing = replace(BASIC, file="missing")
    with caplog.at_level(logging.WARNING):
        files = loaded(tmp_path, BASIC, missing, None)
    assert files.digest(BASIC) is files.digest(missing) is None
    assert files.problems() == [
        "workspace w0: old: it is not a regular file",
        "workspace w1: missing: No such file or directory",
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"the shared password lets nobody in: {problem}" for problem in files.problems()
    ]


def test_a_relative_file_lies_beside_the_policies_and_another_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "secret").write_text("cache:hunter2")
    for name in ("../secret", str(tmp_path / "secret")):
        old = replace(BASIC, file=name)
        assert loaded(tmp_path / "policies", old).digest(old) == sha256(b"cache:hunter2")


def test_no_message_repeats_a_byte_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old").write_text("hunter2\nhunter3")
    with caplog.at_level(logging.DEBUG):
        files = loaded(tmp_path, BASIC)
    assert "hunter" not in caplog.text + repr(files.problems()) + repr(vars(files))


async def test_changes_of_files_and_of_policies_are_followed(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("cache:one")
    (tmp_path / "new").write_text("cache:three")
    snapshot = snapshot_of(BASIC)
    files = PasswordFiles(tmp_path, lambda: snapshot, interval=0.005, settle=0.01)
    files.load_now()
    await files.start()
    try:
        assert files.digest(BASIC) == sha256(b"cache:one")
        (tmp_path / "old").write_text("cache:two")
        await until(lambda: files.digest(BASIC) == sha256(b"cache:two"))
        (tmp_path / "old").unlink()
        await until(lambda: files.digest(BASIC) is None)
        (tmp_path / "old").write_text("cache:back")
        await until(lambda: files.digest(BASIC) == sha256(b"cache:back"))
        moved = replace(BASIC, file="new")
        assert files.digest(moved) is None
        snapshot = snapshot_of(moved)
        await until(lambda: files.digest(moved) == sha256(b"cache:three"))
        assert files.digest(BASIC) is None
        snapshot = snapshot_of(None)
        await until(lambda: files.digest(moved) is None and files.problems() == [])
    finally:
        await files.stop()
