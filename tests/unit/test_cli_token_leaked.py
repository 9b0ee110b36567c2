"""`sidecar token leaked`: what is ours and only that, wherever it was left; what it did; and no token on any output."""

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from sidecar.audit.access import Completion
from sidecar.credentials.opaque import TokenFormat, checksum
from sidecar.model import Action, Permission, Principal, PrincipalKind
from tests import jose
from tests.unit.test_audit_query import DONE, opaque, record
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
    (tmp_path / "sidecar.yaml").write_text(CONFIG + ISSUERS + "audit: [{file: ./audit.jsonl}]\n")
    return tmp_path / "sidecar.yaml"


def jwt(**claims: object) -> str:
    now = int(time.time())  # not when the suite began
    body = {"iss": "https://ci.example", "aud": "cache", "sub": "job", "iat": now, "exp": now + 600, **claims}
    return jose.sign({"alg": "ES256"}, body, jose.private_key("ES256"), "ES256")


def told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def leaked(config: Path, *words: str, stdin: str | None = None, code: int = 0) -> dict[str, Any]:
    return told(run(config, "leaked", "--json", *words, stdin=stdin, code=code))


def wrote(
    token_id: str, key: str, at: int, permission: Permission = Permission.WRITE, end: Completion | None = DONE
) -> bytes:
    return record(opaque(token_id), at, end, permission, actions=(Action(permission, key),))


def test_a_token_on_standard_input_is_revoked_and_told_with_all_that_it_did(config: Path) -> None:
    made, other = create(config, "--name", "laptop"), create(config)
    token, token_id = str(made["token"]), str(made["id"])
    lines = [record(opaque(token_id), at) for at in range(20)]
    lines += [wrote(token_id, "a.tar", 30), wrote(token_id, "b.tar", 31, Permission.DELETE)]
    lines += [
        wrote(token_id, "c.tar", 32, end=None),
        wrote(token_id, "d.tar", 33, end=Completion(status=409, duration=0.1)),
    ]
    lines += [wrote(str(other["id"]), "e.tar", 34), wrote("fresh0000000", "f.tar", 35)]
    replacement = Principal(PrincipalKind.CI, "build", token_id="fresh0000001", parent=token_id, family=token_id)
    lines += [record(replacement, 36, DONE, Permission.WRITE, actions=(Action(Permission.WRITE, "g.tar"),))]
    (config.parent / "audit.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    result = run(config, "leaked", stdin=f"{token}\n")
    assert f"personal {token_id}: revoked now" in result.stdout
    assert "alice, laptop" in result.stdout.replace("  ", " ")
    assert "1 credential of this sidecar in 1 file" in result.stdout
    assert token not in result.output
    assert [row["id"] for row in listed(config)] == [other["id"]]
    again = leaked(config, stdin=token)
    (leak,) = again["leaks"]
    assert (leak["state"], leak["revoked"], leak["places"]) == ("revoked", False, ["-:1"])
    assert leak["requests"] == 25
    assert len(leak["last_uses"]) == 10
    assert sorted(leak["wrote"]) == [f"store web:{key}.tar" for key in "abcg"]


def test_files_and_folders_are_searched_and_each_place_is_told(config: Path) -> None:
    made = create(config)
    token = str(made["token"])
    project = config.parent / "project"
    (project / "deep" / "er").mkdir(parents=True)
    (project / ".npmrc").write_text(f"# first\n//store.example/:_authToken={token}\n")
    (project / "deep" / "nx.json").write_text(f'{{"a": 1,\n"b": 2,\n"accessToken": "{token}"}}')
    (project / "deep" / "er" / "ci.log").write_text("x" * 3_000_000 + f"\n\n{token}\n")
    (project / "link").symlink_to(project)
    os.mkfifo(project / "pipe")
    found = leaked(config, str(project))
    (leak,) = found["leaks"]
    assert [place.removeprefix(f"{project}/") for place in leak["places"]] == [
        ".npmrc:2", "deep/nx.json:3", "deep/er/ci.log:3",
    ]  # fmt: skip
    assert (found["files"], found["unreadable"], leak["revoked"]) == (3, [], True)


def test_a_dry_run_revokes_nothing(config: Path) -> None:
    made = create(config)
    (leak,) = leaked(config, "--dry-run", stdin=str(made["token"]))["leaks"]
    assert (leak["state"], leak["revoked"]) == ("active", False)
    assert [row["id"] for row in listed(config)] == [made["id"]]
    assert "nothing was revoked" in run(config, "leaked", "--dry-run", stdin=str(made["token"])).stdout


def test_a_text_that_only_names_a_token_takes_nothing_along(config: Path) -> None:
    """Ids are no secrets: whoever has read one may write a token with it, check digits included."""
    made = create(config)
    body = f"asc_pat_{made['id']}_{'A' * 43}"
    forged = [body + checksum(body), TokenFormat("asc").mint(PrincipalKind.CI)[1].reveal(), "asc_pat_" + "x" * 62]
    key = jose.private_key("ES256", "another")
    forged += [
        jose.sign({"alg": "ES256"}, {"iss": "https://ci.example", "sub": "job", "jti": "j", "exp": NOW}, key, "ES256")
    ]
    found = leaked(config, stdin="\n".join(forged))
    assert (found["leaks"], found["others"]) == ([], 3)
    assert [row["id"] for row in listed(config)] == [made["id"]]
    with sqlite3.connect(config.parent / "tokens.db") as connection:
        assert connection.execute("SELECT count(*) FROM revocations").fetchone() == (0,)
    connection.close()


def test_a_jwt_is_revoked_by_its_jti_and_one_that_has_expired_is_only_told(config: Path) -> None:
    found = leaked(config, stdin=f"{jwt(jti='j-1')} {jwt(jti='j-2', iat=NOW - 900, exp=NOW - 300)}")
    assert [
        (leak["id"], leak["issuer"], leak["subject"], leak["state"], leak["revoked"]) for leak in found["leaks"]
    ] == [
        ("j-1", "ci", "job", "active", True),
        ("j-2", "ci", "job", "expired", False),
    ]
    with sqlite3.connect(config.parent / "tokens.db") as connection:
        assert connection.execute("SELECT name FROM revocations").fetchall() == [("jwt:ci:j-1",)]
    connection.close()
    assert leaked(config, stdin=jwt(jti="j-1"))["leaks"][0]["state"] == "revoked"


def test_a_biscuit_is_revoked_by_its_last_block(config: Path) -> None:
    made = told(
        run(
            config,
            "create",
            "--kind",
            "biscuit",
            "--subject",
            "b",
            "--workspace",
            "web",
            "-p",
            "read",
            "--ttl",
            "1h",
            "--json",
        )
    )
    narrowed = run(config, "attenuate", "--path", "releases/**", stdin=str(made["token"])).stdout.strip()
    (leak,) = leaked(config, stdin=narrowed)["leaks"]
    assert (leak["kind"], leak["subject"], leak["revoked"]) == ("biscuit", "b", True)
    assert [row["id"] for row in listed(config)] == [made["id"]]
    (leak,) = leaked(config, stdin=str(made["token"]))["leaks"]
    assert leak["state"] == "active"
    assert listed(config) == []


def test_an_access_key_counts_where_its_secret_stands_beside_it(config: Path) -> None:
    (config.parent / "master").write_text("0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978")
    text = config.read_text().replace("  max_ttl: 100d\n", "  max_ttl: 100d\n  access_key_master_file: ./master\n")
    config.write_text(text)
    made = create(config, "--s3")
    key, secret = str(made["access_key_id"]), str(made["secret_access_key"])
    assert leaked(config, stdin=f"aws_access_key_id = {key}\n")["leaks"] == []
    (leak,) = leaked(config, stdin=f"aws_access_key_id = {key}\naws_secret_access_key = {secret}\n")["leaks"]
    assert (leak["kind"], leak["id"], leak["revoked"]) == ("access_key", made["id"], True)
    assert listed(config) == []


def test_what_cannot_be_read_is_said_and_fails(config: Path) -> None:
    found = leaked(config, str(config.parent / "nowhere"), code=1)
    assert "No such file" in found["unreadable"][0]


def test_nothing_found_is_said(config: Path) -> None:
    assert run(config, "leaked", stdin="nothing here").stdout == "0 credentials of this sidecar in 1 file\n"


def test_an_audit_log_elsewhere_is_said(config: Path) -> None:
    config.write_text(config.read_text().replace("./audit.jsonl", "stdout"))
    assert "there is no audit file here" in run(config, "leaked", stdin=str(create(config)["token"])).stdout


def test_rules_are_of_the_configured_brand(config: Path) -> None:
    config.write_text(config.read_text().replace("max_ttl: 100d", "max_ttl: 100d\n  brand: acme"))
    assert "\\bacme_(?:pat|ci)_" in run(config, "rules").stdout
    assert [rule["id"] for rule in json.loads(run(config, "rules", "--json").stdout)] == [
        "sidecar-token", "sidecar-biscuit", "sidecar-access-key",
    ]  # fmt: skip
