"""`sidecar key`, and `sidecar token` about Biscuits: what a person types, what comes out where, with which exit code."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import key, token
from sidecar.cli.root import app
from sidecar.credentials.biscuit.library import PrivateKey
from tests.unit.test_cli_token import CONFIG, PEPPER

CREATE = ("--kind", "biscuit", "--subject", "ci", "--workspace", "web", "-p", "store:read", "-p", "store:write")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store is; the commands run elsewhere."""
    home = tmp_path / "home"
    (home / "policies").mkdir(parents=True)
    (home / "pepper").write_text(PEPPER)
    (home / "sidecar.yaml").write_text(CONFIG)
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    return home / "sidecar.yaml"


def run(*words: str, stdin: str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(app, words, input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def at_home(config: Path, *words: str, stdin: str | None = None, code: int = 0) -> Result:
    return run(*words, "--config", str(config), stdin=stdin, code=code)


def made(config: Path, *words: str) -> str:
    return at_home(config, "token", "create", *CREATE, "--ttl-seconds", "2592000", *words).stdout.strip()


def public_key(config: Path) -> str:
    found = json.loads(at_home(config, "key", "list", "--json").stdout)
    return str(found[-1]["public_key"])


def inspected(token_: str, public: str, code: int = 0) -> dict[str, object]:
    shown: dict[str, object] = json.loads(
        run("token", "inspect", "--json", "--public-key", public, stdin=token_, code=code).stdout
    )
    return shown


# --- keys ---------------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_retired(config: Path) -> None:
    created = at_home(config, "key", "create")
    file = config.parent / "biscuit-keys" / "1.pem"
    assert created.stdout.startswith("ed25519/")
    assert str(file) in created.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "PRIVATE KEY" in file.read_text()
    assert json.loads(at_home(config, "key", "create", "--json").stdout)["id"] == 2
    listed = at_home(config, "key", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["ID", "STATUS"], ["1", "active"], ["2", "active"]]
    assert created.stdout.strip() in listed[1]
    assert "Retired 1" in at_home(config, "key", "retire", "1").stdout
    assert not file.exists()
    assert "nothing changed" in at_home(config, "key", "retire", "1").stdout
    assert json.loads(at_home(config, "key", "list", "--json").stdout)[0]["status"] == "retired"
    assert "no root key has the id 9" in at_home(config, "key", "retire", "9", code=1).stderr


def test_nothing_shows_a_private_key(config: Path) -> None:
    said = "".join(at_home(config, "key", *words).output for words in (("create",), ("list",), ("list", "--json")))
    assert "PRIVATE" not in said
    secret = (config.parent / "biscuit-keys" / "1.pem").read_text().splitlines()[1]
    assert secret not in said


def test_tokens_are_made_under_the_newest_key_and_old_ones_go_on_until_it_is_retired(config: Path) -> None:
    at_home(config, "key", "create")
    first, old_key = made(config), public_key(config)
    at_home(config, "key", "create")
    second, new_key = made(config), public_key(config)
    assert (inspected(first, old_key)["root_key"], inspected(second, new_key)["root_key"]) == (1, 2)
    at_home(config, "key", "retire", "2")
    assert inspected(made(config), old_key)["root_key"] == 1
    for token_, status in ((first, 0), (second, 1)):
        at_home(config, "token", "inspect", stdin=token_, code=status)
    rows = json.loads(at_home(config, "token", "list", "--all", "--json").stdout)
    assert {(row["root_key"], row["status"]) for row in rows} == {(1, "active"), (2, "revoked")}


def test_a_private_key_that_is_missing_or_another_is_told(config: Path) -> None:
    at_home(config, "key", "create")
    file = config.parent / "biscuit-keys" / "1.pem"
    text = file.read_text()
    for content, said in ((None, "No such file"), ("noise", "not an Ed25519 key"), ("other", "it isn't the key 1")):
        file.unlink(missing_ok=True)
        if content == "other":
            at_home(config, "key", "create")
            content = (file.parent / "2.pem").read_text()
            at_home(config, "key", "retire", "2")
        if content is not None:
            file.write_text(content)
        refused = at_home(config, "token", "create", *CREATE, "--ttl", "1h", code=1)
        assert said in refused.stderr
    file.write_text(text)
    assert made(config)


def test_a_key_of_whoever_writes_to_the_database_is_not_believed(config: Path) -> None:
    import sqlite3

    token_ = made(config)
    with sqlite3.connect(config.parent / "tokens.db") as database:
        database.execute("UPDATE root_keys SET public_key = 'ed25519/' || ?", ("ab" * 32,))
    assert json.loads(at_home(config, "key", "list", "--json").stdout)[0]["status"] == "altered"
    at_home(config, "token", "inspect", stdin=token_, code=1)


# --- create -------------------------------------------------------------------------------------------------------------------


def test_permissions_and_expiry_are_mandatory(config: Path) -> None:
    refused = at_home(config, "token", "create", "--kind", "biscuit", "--subject", "ci", code=2)
    assert refused.stderr.splitlines()[:2] == [
        "--permission: a Biscuit says what it may; name some, or say --all-permissions",
        "--ttl: a Biscuit says when it ends, and there is no default; say --ttl 30d, or --ttl-seconds",
    ]
    at_home(config, "token", "create", "--kind", "biscuit", "--subject", "ci", "--all-permissions", code=2)
    at_home(config, "token", "create", *CREATE, code=2)
    at_home(config, "token", "create", *CREATE, "--ttl", "1000d", code=2)
    at_home(config, "token", "create", *CREATE, "--ttl", "1h", "--all-permissions", code=2)


def test_a_biscuit_is_listed_and_shown_like_other_tokens(config: Path) -> None:
    shown = json.loads(at_home(config, "token", "create", *CREATE, "--ttl", "1h", "--name", "x", "--json").stdout)
    listed = json.loads(at_home(config, "token", "list", "--kind", "biscuit", "--json").stdout)
    assert [row["id"] for row in listed] == [shown["id"]]
    assert (shown["workspaces"], shown["permissions"], shown["name"]) == (["web"], ["read", "write"], "x")
    assert "Biscuit" in at_home(config, "token", "rotate", shown["id"], code=1).stderr
    assert shown["id"] in at_home(config, "token", "revoke", shown["id"]).stdout


def test_the_first_key_is_made_where_there_is_none(config: Path) -> None:
    created = at_home(config, "token", "create", *CREATE, "--ttl", "1h")
    assert "there was no root key, so 1 was made" in created.stderr
    assert created.stdout.count("\n") == 1


def test_all_permissions_and_no_workspace(config: Path) -> None:
    created = at_home(
        config, "token", "create", "--kind", "biscuit", "--subject", "ci", "--all-permissions", "--ttl", "1h"
    )
    blocks = inspected(created.stdout, public_key(config))["blocks"]
    assert [[check["says"][:5] for check in block["checks"]] for block in blocks] == [["until"]]  # type: ignore[attr-defined]


# --- attenuate and inspect ----------------------------------------------------------------------------------------------------


def test_narrowing_needs_the_public_key_alone(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, public = made(config), public_key(config)
    for file in sorted(config.parent.rglob("*"), reverse=True):  # there is nothing left but the key
        file.rmdir() if file.is_dir() else file.unlink()
    flags = ("--permission", "read", "--path", "releases/**", "--ttl", "10m", "--workspace", "web")
    child = run("token", "attenuate", "--public-key", public, *flags, stdin=parent)
    assert child.stdout.count("\n") == 1
    shown = inspected(child.stdout, public)
    assert [check["says"] for check in shown["blocks"][1]["checks"]][:2] == [  # type: ignore[index]
        "only store:read",
        'only the key "releases" or keys that begin with "releases/"',
    ]
    assert shown["verified"] is True
    assert shown["revocation_ids"][0] == inspected(parent, public)["revocation_ids"][0]  # type: ignore[index]
    assert len(shown["revocation_ids"]) == 2  # type: ignore[arg-type]
    grandchild = run("token", "attenuate", "--public-key", public, "--ttl-seconds", "60", stdin=child.stdout)
    assert len(inspected(grandchild.stdout, public)["blocks"]) == 3  # type: ignore[arg-type]


def test_the_public_key_may_stand_in_a_file_or_come_from_the_store(config: Path) -> None:
    parent, public = made(config), public_key(config)
    file = config.parent / "root.pub"
    file.write_text(f"# ours\n{public}\n")
    for words in (("--public-key", str(file)), ("--public-key", f"1={public}"), ("--config", str(config))):
        assert run("token", "attenuate", "-p", "read", *words, stdin=parent).stdout.strip()
    refused = run("token", "attenuate", "-p", "read", stdin=parent, code=2)
    assert "--public-key" in refused.stderr
    assert "ed25519/" in run("token", "attenuate", "-p", "read", "--key", "ab" * 32, stdin=parent, code=2).stderr


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--check", 'check if operations($ops), !($ops.contains(["account:write"]))'), '"account:write"', 1),
        (("--check", 'check if resource("a")'), "no fact 'resource'", 1),
        (("--check", 'check if path($p), $p.starts_with("/a")'), 'write "a"', 1),
        (("--check", "check if true"), "says nothing about the request", 1),
        (("--check", "check if ["), "parsing", 1),
        (("--check", 'path("a")'), "holds checks alone", 1),
        (("--check", "// check if time($t), $t < 2030-01-01T00:00:00Z"), "check if", 1),
        (("-p", "read", "--check", "/* nothing"), "", 1),
        (("-p", "delete"), "nothing would be left", 1),
        (("--workspace", "docs"), "nothing would be left", 1),
        (("--path", "**"), "narrows nothing", 2),
        (("--path", "/releases/**"), "no leading slash", 2),
        (("--path", "a**"), "whole segment", 2),
        (("-p", "reed"), "did you mean 'read'", 2),
        (("--workspace", 'a"b'), "letters, digits", 2),
        (("--ttl", "soon"), "a duration", 2),
        (("--ttl", "1h", "--ttl-seconds", "5"), "leave one out", 2),
        ((), "say what to narrow it to", 2),
    ],
)
def test_what_would_not_do_what_it_seems_to_is_not_made(
    config: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    parent = made(config)
    refused = run("token", "attenuate", "--public-key", public_key(config), *words, stdin=parent, code=code)
    assert refused.stdout == ""
    assert said in refused.stderr


def test_an_own_check_is_taken(config: Path) -> None:
    parent, public = made(config), public_key(config)
    check = 'check if operations($ops), !$ops.contains("account:write")'
    child = run("token", "attenuate", "--public-key", public, "--check", check, "--json", stdin=parent)
    shown = json.loads(child.stdout)
    assert shown["checks"] == [f"only if the check holds: {check}"]
    assert inspected(shown["token"], public)["revocation_ids"] == shown["revocation_ids"]


def test_a_longer_life_than_its_parent_s_is_noted(config: Path) -> None:
    parent = at_home(config, "token", "create", *CREATE, "--ttl", "1h").stdout
    child = run("token", "attenuate", "--public-key", public_key(config), "--ttl", "2h", stdin=parent)
    assert "all the same" in child.stderr


@pytest.mark.parametrize("text", ["", "asc_ci_x", "eyJhbGciOiJIUzI1NiJ9.e30.x", "hello"])
def test_other_tokens_are_not_narrowed(config: Path, text: str) -> None:
    for command in ("attenuate", "inspect"):
        refused = run("token", command, "--public-key", PrivateKey.fresh().public, stdin=text, code=2)
        assert "that is not a Biscuit" in refused.stderr


def test_what_does_not_verify_is_shown_and_said_so(config: Path) -> None:
    parent = made(config)
    shown = inspected(parent, PrivateKey.fresh().public, code=1)
    assert shown["verified"] is False
    assert len(shown["revocation_ids"]) == 1  # type: ignore[arg-type]
    told = run("token", "inspect", stdin=parent, code=1)
    assert told.stdout.startswith("verified     NO")
    assert "only store:read, store:write" in told.stdout
    with_key = run("token", "inspect", "--public-key", public_key(config), stdin=parent)
    assert with_key.stdout.startswith("verified     yes, with root key 1")


def test_the_commands_are_where_they_are_looked_for() -> None:
    assert {command.name or command.callback.__name__ for command in key.app.registered_commands} == {  # type: ignore[union-attr]
        "create",
        "list",
        "retire",
    }
    names = {command.name or command.callback.__name__ for command in token.app.registered_commands}  # type: ignore[union-attr]
    assert {"create", "attenuate", "inspect"} <= names
