"""`sidecar token revoke`: what may be named, how, and what a person reads."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from biscuit_auth import BiscuitBuilder, BlockBuilder, KeyPair

from tests import jose
from tests.unit.test_cli_token import CONFIG, PEPPER, create, listed, run

ISSUERS = """
issuers:
  ci: {issuer: "https://ci.example", audience: cache, pem_file: ./ci.pem, algorithms: [ES256]}
"""
NOW = int(time.time())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "pepper").write_text(PEPPER)
    (tmp_path / "ci.pem").write_bytes(jose.pem(jose.private_key("ES256")))
    (tmp_path / "sidecar.yaml").write_text(CONFIG + ISSUERS)
    return tmp_path / "sidecar.yaml"


def jwt(**claims: object) -> str:
    body = {
        "iss": "https://ci.example",
        "aud": "cache",
        "sub": "job",
        "iat": NOW,
        "exp": int(time.time()) + 600,
        **claims,
    }
    return jose.sign({"alg": "ES256"}, body, jose.private_key("ES256"), "ES256")


def revocations(config: Path) -> dict[str, int | None]:
    """Name -> issued before."""
    with sqlite3.connect(config.parent / "tokens.db") as connection:
        found = dict(connection.execute("SELECT name, before FROM revocations").fetchall())
    connection.close()
    return found


def said(config: Path, *words: str, stdin: str | None = None) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(config, "revoke", "--json", *words, stdin=stdin).stdout)
    return found


@pytest.mark.parametrize("way", ["id", "argument", "-", "stdin"])
def test_a_token_is_named_by_its_id_or_whole_as_an_argument_or_on_standard_input(config: Path, way: str) -> None:
    made, other = create(config), create(config)
    token, token_id = str(made["token"]), str(made["id"])
    words = {"id": [token_id], "argument": [token]}.get(way, [way])
    result = run(config, "revoke", *words, stdin=token + "\n" if way in ("-", "stdin") else None)
    assert (
        result.stdout == f"Revoked {token_id}. Every running sidecar on this store refuses it within half a second.\n"
    )
    assert token not in result.output
    assert [row["id"] for row in listed(config)] == [other["id"]]


@pytest.mark.parametrize("as_argument", [True, False])
def test_a_jwt_is_revoked_by_its_jti(config: Path, as_argument: bool) -> None:
    token = jwt(jti="j-1")
    words, stdin = ([token], None) if as_argument else (["-"], token)
    assert said(config, *words, stdin=stdin)["name"] == "jwt:ci:j-1"
    assert revocations(config) == {"jwt:ci:j-1": None}


def test_a_jwt_without_jti_takes_along_what_its_subject_was_issued_by_then(config: Path) -> None:
    assert said(config, jwt(iat=NOW - 30))["name"] == "subject:ci:job"
    assert revocations(config) == {"subject:ci:job": NOW - 30}


def test_a_jwt_may_be_named_by_issuer_and_jti(config: Path) -> None:
    assert said(config, "--issuer", "ci", "--jti", "j-2") == {
        "name": "jwt:ci:j-2", "changed": True, "tokens": [], "count": 0,
    }  # fmt: skip
    assert said(config, "--issuer", "ci", "--jti", "j-2")["changed"] is False
    assert "was revoked before" in run(config, "revoke", "--issuer", "ci", "--jti", "j-2").stdout


@pytest.mark.parametrize(
    "time_", ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "1767323045", "2026-01-02 03:04:05"]
)
def test_a_subject_and_a_time(config: Path, time_: str) -> None:
    said(config, "--subject", "job", "--issuer", "ci", "--issued-before", time_)
    assert revocations(config) == {"subject:ci:job": 1767323045}


def test_everything_of_a_person(config: Path) -> None:
    made, other = create(config), create(config, "--subject", "zoe")
    result = run(config, "revoke", "--subject", "alice")
    assert str(made["id"]) in result.stdout
    assert [row["id"] for row in listed(config)] == [other["id"]]
    assert list(revocations(config)) == ["subject:*:alice"]


def test_a_subject_that_nobody_has_is_told(config: Path) -> None:
    create(config)
    assert (
        "no token that was issued here and is active has the subject 'alcie'"
        in run(config, "revoke", "--subject", "alcie").stderr
    )
    assert run(config, "revoke", "--subject", "alice").stderr == ""


def test_what_a_person_was_issued_here_alone(config: Path) -> None:
    assert said(config, "--subject", "alice", "--issuer", "sidecar")["name"] == "subject::alice"


def test_a_biscuit_is_revoked_by_its_last_block_and_never_its_parent(config: Path) -> None:
    root = BiscuitBuilder('token_id("t")').build(KeyPair().private_key)
    narrowed = root.append(BlockBuilder("check if true"))
    parent, block = narrowed.revocation_ids
    assert said(config, "-", stdin=narrowed.to_base64())["name"] == f"biscuit:{block}"
    assert list(revocations(config)) == [f"biscuit:{block}"]
    assert said(config, parent)["name"] == f"biscuit:{parent}"


def test_everything_under_a_pepper(config: Path) -> None:
    create(config), create(config)
    pepper = str(listed(config)[0]["pepper"])
    result = run(config, "revoke", "--key", pepper)
    assert "2 tokens" in result.stdout
    assert "new tokens are made under this pepper" in result.stderr
    assert listed(config) == []
    assert list(revocations(config)) == [f"key:pepper:{pepper}"]


def test_everything_under_a_root_key_and_the_next_biscuit_is_under_another(config: Path) -> None:
    biscuit = ("--kind", "biscuit", "--permission", "read", "--ttl", "1d")
    first, second = (create(config, *biscuit) for _ in range(2))
    assert first["root_key"] == second["root_key"] == 1
    assert said(config, "--key", "1") == {"name": "key:biscuit:1", "changed": True, "tokens": [], "count": 2}
    assert said(config, "--key", "1")["changed"] is False
    assert listed(config) == []
    third = create(config, *biscuit)
    assert third["root_key"] == 2
    assert [row["id"] for row in listed(config)] == [third["id"]]


def test_everything_under_a_root_key_of_somebody_else(config: Path) -> None:
    assert said(config, "--key", "7")["name"] == "key:biscuit:7"


def test_what_replaced_a_token_ends_with_it_where_that_is_asked_for(config: Path) -> None:
    first = str(create(config)["id"])
    second = json.loads(run(config, "rotate", first, "--json").stdout)["id"]
    third = json.loads(run(config, "rotate", second, "--json").stdout)["id"]
    assert said(config, second, "--derived")["derived"] == [{"id": third, "changed": True}]
    assert [row["id"] for row in listed(config)] == [first]


WRONG = {
    "nothing": ([], "say what to revoke"),
    "two things": (["000000000000", "--subject", "a"], "say what to revoke"),
    "a time alone": (
        ["000000000000", "--issued-before", "2026-01-01T00:00:00Z"],
        "--issued-before: it goes with --subject",
    ),
    "no time": (["--subject", "a", "--issued-before", "yesterday"], "a time such as"),
    "an unknown issuer": (["--subject", "a", "--issuer", "nobody"], "there are ci, sidecar"),
    "a jti of anybody": (["--jti", "j"], "say whose with --issuer"),
    "an issuer alone": (["000000000000", "--issuer", "ci"], "it goes with --subject or --jti"),
    "an unknown key": (["--key", "nothing"], "neither a pepper"),
    "derived of nothing": (["--subject", "a", "--derived"], "--derived: it goes with"),
    "no token": (["hunter2-hunter2"], "neither an id nor a token"),
    "a stranger's": ([jwt(iss="https://elsewhere.example")], "not valid"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_and_nothing_is_revoked(config: Path, words: list[str], message: str) -> None:
    made = create(config)
    result = run(config, "revoke", *words, code=2)
    assert message in result.stderr
    assert "hunter2" not in result.output
    assert [row["id"] for row in listed(config)] == [made["id"]]
    assert revocations(config) == {}
