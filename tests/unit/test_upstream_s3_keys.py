"""A bucket's keys from files and from the environment, and what can be no key."""

import asyncio
from pathlib import Path

import pytest

from sidecar.settings import S3Credentials, S3Settings, UpstreamSettings
from sidecar.upstream.own_files import Keys, Material, OwnFiles, OwnFilesUnusable, checked_keys
from tests.unit.relays import until


def settings(credentials: S3Credentials) -> UpstreamSettings:
    return UpstreamSettings("bucket", "http://store", s3=S3Settings("artifacts", credentials))


def shown(keys: Keys | None) -> tuple[str, str, str | None] | None:
    if keys is None:
        return None
    return keys.access_key_id, keys.secret.reveal(), keys.session_token and keys.session_token.reveal()


def in_files(folder: Path, *, token: bool = False) -> S3Credentials:
    (folder / "id").write_text("AKID1\n")
    (folder / "secret").write_text("secret1\n")
    (folder / "token").write_text("token1\n")
    return S3Credentials("files", folder / "id", folder / "secret", folder / "token" if token else None)


def test_keys_stand_in_files(tmp_path: Path) -> None:
    found = OwnFiles(settings(in_files(tmp_path)), lambda material: None).in_force
    assert shown(found.keys) == ("AKID1", "secret1", None)
    assert found.credential is None, "nothing is sent but signatures"


def test_temporary_keys_have_a_token(tmp_path: Path) -> None:
    found = OwnFiles(settings(in_files(tmp_path, token=True)), lambda material: None).in_force
    assert shown(found.keys) == ("AKID1", "secret1", "token1")


async def test_a_new_pair_counts_as_a_pair(tmp_path: Path) -> None:
    heard: list[Material] = []
    files = OwnFiles(settings(in_files(tmp_path)), heard.append, interval=0.01, settle=0.05)
    await files.start()
    (tmp_path / "id").write_text("AKID2")
    (tmp_path / "secret").write_text("secret2")
    await until(lambda: heard)
    (tmp_path / "secret").write_text("with space")
    await until(lambda: files.problem)
    await asyncio.sleep(0)
    await files.stop()
    assert [shown(material.keys) for material in heard] == [("AKID2", "secret2", None)]
    assert "with space" not in str(files.problem)


@pytest.mark.parametrize("token", ["", "token"])
def test_keys_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    found = OwnFiles(settings(S3Credentials("environment")), lambda material: None).in_force
    assert shown(found.keys) == ("AKID", "secret", token or None)


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_an_environment_without_keys_is_no_anonymous_access(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv(missing)
    with pytest.raises(OwnFilesUnusable, match=f"the variable {missing} is not set"):
        OwnFiles(settings(S3Credentials("environment")), lambda material: None)


def test_keys_that_somebody_else_finds_are_not_looked_for_here() -> None:
    assert OwnFiles(settings(S3Credentials("aws")), lambda material: None).in_force.keys is None


@pytest.mark.parametrize("access_key_id", ["AKID", "acme:ci", "GK31c2f218a2e44f485b94239e", "a-b_c.d@e+f"])
def test_what_servers_call_an_access_key_id(access_key_id: str) -> None:
    assert checked_keys(access_key_id, "s/e+c=", "").access_key_id == access_key_id


@pytest.mark.parametrize(
    ("access_key_id", "secret", "token"),
    [
        *[(access_key_id, "s", "") for access_key_id in ("", "a b", "a/b", "a,b", "a\r\nb", "é")],
        *[("a", secret, "") for secret in ("", "s s", "s\n")],
        *[("a", "s", token) for token in ("t\r\nx: y", "é")],
    ],
)
def test_what_would_break_out_of_a_header_is_no_key(access_key_id: str, secret: str, token: str) -> None:
    with pytest.raises(OwnFilesUnusable) as refusal:
        checked_keys(access_key_id, secret, token)
    assert "x: y" not in str(refusal.value)
