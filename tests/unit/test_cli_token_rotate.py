"""`sidecar token`, beyond a token's plain life: rotation, scopes, lists of what needs attention, secret managers."""

import json
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sidecar.cli.root import app
from sidecar.cli.token_scopes import parse
from sidecar.errors import DocumentError
from sidecar.tokens import TokenRequestError, WantedScope
from tests.unit.test_cli_token import CONFIG, config, create, listed, run

__all__ = ["config"]

TOKEN = re.compile(r"asc_(pat|ci)_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")


def shown(config: Path, token_id: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(config, "show", str(token_id), "--json").stdout)
    return found


def ends_in(row: dict[str, object]) -> float:
    return time.mktime(time.strptime(str(row["expires_at"]), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - time.time()


# --- rotate ---------------------------------------------------------------------------------------------------------------------


def test_rotate_prints_the_new_token_alone_and_says_how_long_the_old_one_goes_on(config: Path) -> None:
    old = create(config, "--permission", "read", "--ttl", "30d")
    result = run(config, "rotate", str(old["id"]), "--overlap", "24h")
    assert TOKEN.fullmatch(result.stdout.strip())
    assert re.search(rf"The old one, {old['id']}, works for another 86(400|399) s", result.stderr)
    new_id = result.stdout.split("_")[2]
    new, ending = shown(config, new_id), shown(config, old["id"])
    assert (new["parent"], new["family"], new["permissions"]) == (old["id"], old["id"], ["read"])
    assert ending["rotated_at"] is not None
    assert abs(ends_in(ending) - 86400) < 30
    assert abs(ends_in(new) - 30 * 86400) < 30
    assert {row["id"] for row in listed(config)} == {old["id"], new_id}
    assert len(re.findall(r"active$", run(config, "list").stdout, re.MULTILINE)) == 1
    assert len(re.findall(r"active, replaced$", run(config, "list").stdout, re.MULTILINE)) == 1
    text = run(config, "show", new_id).stdout
    assert re.search(rf"^replaces +{old['id']}$", text, re.MULTILINE)
    assert re.search("^replaced ", run(config, "show", str(old["id"])).stdout, re.MULTILINE)


@pytest.mark.parametrize("word", ["-", "stdin"])
def test_rotate_takes_a_whole_token_from_stdin(config: Path, word: str) -> None:
    old = create(config)
    new = json.loads(run(config, "rotate", word, "--overlap", "0s", "--json", stdin=f"{old['token']}\n").stdout)
    assert new["parent"] == old["id"]
    assert shown(config, old["id"])["status"] == "expired"
    assert run(config, "revoke", word, stdin=f"{new['token']}\n").exit_code == 0


def test_the_overlap_is_a_day_and_the_new_ones_life_can_be_said(config: Path) -> None:
    old = create(config, "--ttl", "50d")
    new = json.loads(run(config, "rotate", str(old["id"]), "--ttl-seconds", "7200", "--json").stdout)
    assert abs(ends_in(shown(config, old["id"])) - 86400) < 30
    assert abs(ends_in(new) - 7200) < 30


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--overlap", "soon"], 2, "--overlap 'soon': a duration"),
        (["--overlap", "9999d"], 2, "--overlap: 0s or longer"),
        (["--ttl", "101d"], 2, "--ttl: at most 100d"),
        (["--ttl", "1d", "--ttl-seconds", "5"], 2, "leave one out"),
        (["--key", "A"], 2, "--key: it says nothing here"),
    ],
)
def test_a_rotation_that_cannot_be_leaves_the_old_one_as_it_was(
    config: Path, words: list[str], code: int, said: str
) -> None:
    old = create(config)
    result = run(config, "rotate", str(old["id"]), *words, code=code)
    assert said in result.stderr
    assert result.stdout == ""
    assert [row["id"] for row in listed(config)] == [old["id"]]
    assert shown(config, old["id"])["rotated_at"] is None


def test_a_token_is_rotated_once(config: Path) -> None:
    old = create(config)
    run(config, "rotate", str(old["id"]))
    assert "replaced already" in run(config, "rotate", str(old["id"]), code=1).stderr
    run(config, "revoke", str(old["id"]))
    assert run(config, "rotate", "0" * 12, code=1).stdout == ""


# --- spellings, scopes ----------------------------------------------------------------------------------------------------------


def test_other_spellings_of_life_and_permissions_are_taken(config: Path) -> None:
    made = create(config, "--ttl-seconds", "600", "-p", "store:read", "-p", "store:write")
    assert made["permissions"] == ["read", "write"]
    assert abs(ends_in(made) - 600) < 30


def test_a_token_for_several_places_says_which(config: Path, tmp_path: Path) -> None:
    (tmp_path / "scopes.yaml").write_text(
        "- {workspace: docs}\n- {workspace: api, path: 'x,y/**', permissions: [read]}\n"
    )
    words = [
        "--scope",
        "workspace=web,path=releases/**,permissions=read+write",
        "--scope-file",
        str(tmp_path / "scopes.yaml"),
    ]
    made = create(config, *words)
    assert made["scopes"] == [
        {"workspace": "web", "path": "releases/**", "permissions": ["read", "write"]},
        {"workspace": "docs", "path": None, "permissions": None},
        {"workspace": "api", "path": "x,y/**", "permissions": ["read"]},
    ]
    assert (made["workspaces"], made["permissions"], made["path"]) == (["api", "docs", "web"], None, None)
    text = run(config, "show", str(made["id"])).stdout
    assert re.search(r"^scope 1 +web, read write, releases/\*\*$", text, re.MULTILINE)
    assert re.search(r"^scope 2 +docs, all that the policy grants, every key$", text, re.MULTILINE)
    assert "3 scopes" in run(config, "list").stdout
    assert [row["id"] for row in listed(config, "--workspace", "docs")] == [made["id"]]


def test_a_ci_tokens_scopes_name_its_workspace(config: Path) -> None:
    words = [
        "--kind",
        "ci",
        "--subject",
        "b",
        "--scope",
        "workspace=web,path=a/**",
        "--scope",
        "workspace=web,path=b/**",
    ]
    assert json.loads(run(config, "create", *words, "--json").stdout)["workspaces"] == ["web"]
    assert "exactly one" in run(config, "create", *words, "--scope", "workspace=api", code=2).stderr


def test_an_explanation_tells_the_scopes(config: Path) -> None:
    policy = "workspace: web\nroutes: [{path: /web, client: plain, upstream: local}]\npersonal_tokens: read\nanonymous: read\n"
    (config.parent / "policies" / "web.yaml").write_text(policy)
    made = create(config, "--scope", "workspace=web,path=releases/**,permissions=read")
    (config.parent / "token").write_text(str(made["token"]))
    words = [
        "policy",
        "explain",
        "--config",
        str(config),
        "--token-file",
        str(config.parent / "token"),
        "GET",
        "/web/a",
    ]
    result = CliRunner().invoke(app, words)
    assert "limit      scope workspace=web,path=releases/**,permissions=read" in result.stdout
    assert "token_limit" in result.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web",
        "path=a",
        "workspace=web,colour=red",
        "workspace=web,workspace=api",
        "workspace=web,",
        "workspace=web,path=a,b",
    ],
)
def test_a_scope_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(TokenRequestError, match="--scope"):
        parse(text)


def test_a_scope_is_read_as_it_is_written() -> None:
    assert parse("workspace=web") == WantedScope("web")
    assert parse("permission=read , path=a=b/**, workspace=web") == WantedScope("web", "a=b/**", ("read",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "at least one scope"),
        ("{workspace: web}", "expected a list"),
        ("- {path: a}", "'workspace' is missing"),
        ("- {workspace: web, permissions: []}", "name at least one"),
        ("- {workspace: web, until: x}", "unknown key 'until'"),
        ("- {workspace: web}\n- [", "scopes.yaml"),
    ],
)
def test_a_file_of_scopes_is_read_strictly(config: Path, tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "scopes.yaml"
    file.write_text(content)
    words = [
        "token",
        "create",
        "--config",
        str(config),
        "--kind",
        "personal",
        "--subject",
        "a",
        "--scope-file",
        str(file),
    ]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DocumentError)
    assert said in str(result.exception)
    file.unlink()
    assert "No such file" in run(config, "create", *words[4:], code=2).stderr


# --- lists ----------------------------------------------------------------------------------------------------------------------


def test_what_ends_soon_and_what_nobody_uses_is_listed(config: Path) -> None:
    soon, later = create(config, "--ttl", "6d"), create(config, "--ttl", "8d")
    assert [row["id"] for row in listed(config, "--expiring", "7d")] == [soon["id"]]
    assert listed(config, "--unused", "90d") == []
    assert {row["id"] for row in listed(config, "--unused", "0s")} == {soon["id"], later["id"]}
    assert len(listed(config, "--created-by", str(soon["created_by"]))) == 2
    assert listed(config, "--created-by", "nobody-at-all") == []
    assert "--expiring 'week'" in run(config, "list", "--expiring", "week", code=2).stderr


# --- secret managers ------------------------------------------------------------------------------------------------------------


def test_a_token_that_goes_into_a_file_is_shown_nowhere(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "ci.env"
    words = ["--kind", "ci", "--subject", "b", "--workspace", "web", "--to", "env-file", "--file", str(file)]
    for json_too in ([], ["--json"]):
        result = run(config, "create", *words, *json_too)
        token = file.read_text().removeprefix("SIDECAR_TOKEN=").strip()
        assert TOKEN.fullmatch(token)
        assert TOKEN.search(result.stdout + result.stderr) is None
        assert str(file) in result.stdout + result.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(config, "revoke", "-", stdin=token).exit_code == 0, "it is the token that was made"


def test_a_manifest_is_all_that_is_on_stdout(config: Path) -> None:
    words = ["--kind", "ci", "--subject", "b", "--workspace", "web", "--to", "k8s-secret", "--secret", "web-cache"]
    result = run(config, "create", *words)
    assert yaml.safe_load(result.stdout)["metadata"]["name"] == "web-cache"
    as_json = run(config, "create", *words, "--json")
    assert json.loads(as_json.stdout)["kind"] == "Secret"
    assert as_json.stderr.startswith("note: no policy")
    assert TOKEN.search(result.stdout + result.stderr) is None


def test_a_token_that_could_not_be_handed_over_is_revoked(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("VAULT_TOKEN", "s.x")
    old = create(config)
    result = run(config, "rotate", str(old["id"]), "--to", "vault", code=1)
    assert "can't be asked" in result.stderr
    assert "revoked" in result.stderr
    assert [row["id"] for row in listed(config)] == [old["id"]]
    assert shown(config, old["id"])["rotated_at"] is None


def test_what_is_wrong_with_the_place_is_said_before_a_token_is_made(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    for words, said in ((["--to", "vault"], "VAULT_ADDR"), (["--to", "k8s-secret", "--secret", "A"], "--secret 'A'")):
        assert said in run(config, "create", "--kind", "personal", "--subject", "a", *words, code=2).stderr
    assert listed(config, "--all") == []


# --- whose it is ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_people(config: Path) -> Path:
    config.write_text(f"{CONFIG}directory:\n  file: ./people.yaml\n")
    (config.parent / "people.yaml").write_text("users: {alice: {id: u-17}, bob: {}}\n")
    return config


def test_a_persons_token_remembers_the_id_and_not_only_the_name(with_people: Path) -> None:
    made = create(with_people)
    assert made["owner_id"] == "u-17"
    assert "owner id     u-17" in run(with_people, "show", str(made["id"])).stdout
    bob = json.loads(run(with_people, "create", "--kind", "personal", "--subject", "bob", "--json").stdout)
    assert bob["owner_id"] is None
    ci = run(with_people, "create", "--kind", "ci", "--subject", "alice", "--workspace", "web", "--json")
    assert json.loads(ci.stdout)["owner_id"] is None, "a CI token is nobody's"
    (with_people.parent / "people.yaml").write_text("users: {alice: {id: u-18}, bob: {id: u-19}}\n")
    assert json.loads(run(with_people, "rotate", str(made["id"]), "--json").stdout)["owner_id"] == "u-17"
    assert json.loads(run(with_people, "rotate", str(bob["id"]), "--json").stdout)["owner_id"] == "u-19"


@pytest.mark.parametrize("content", [None, "users: [alice]\n"])
def test_where_nobody_can_say_whose_it_is_no_personal_token_is_made(with_people: Path, content: str | None) -> None:
    people = with_people.parent / "people.yaml"
    people.unlink() if content is None else people.write_text(content)
    result = run(with_people, "create", "--kind", "personal", "--subject", "alice", code=3)
    assert "whose a token is" in result.stderr
    assert listed(with_people, "--all") == []


# --- nobody got it ----------------------------------------------------------------------------------------------------------------

CREATE = ["create", "--kind", "ci", "--subject", "build", "--workspace", "web", "--permission", "read"]
LOST = {
    "create": CREATE,
    "create as JSON": [*CREATE, "--json"],
    "create for Kubernetes": [*CREATE, "--to", "k8s-secret", "--secret", "build"],
    "a Biscuit": ["create", "--kind", "biscuit", "--subject", "build", "--permission", "read", "--ttl", "1d"],
    "rotate": ["rotate", "OLD"],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", LOST.values(), ids=LOST)
def test_a_token_that_could_not_be_printed_is_revoked(config: Path, words: list[str]) -> None:
    old = create(config)["id"]
    command = [sys.executable, "-m", "sidecar", "token", *(str(old) if word == "OLD" else word for word in words)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--config", str(config)], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "the token couldn't be printed: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    rows = json.loads(run(config, "list", "--all", "--json").stdout)
    assert {row["status"] for row in rows if row["id"] != old} == {"revoked"}
    assert [(row["status"], row["rotated_at"]) for row in rows if row["id"] == old] == [("active", None)]


def test_a_path_that_no_key_can_match_makes_no_token(config: Path) -> None:
    for path, meant in (("/releases/**", "write 'releases/**'"), ("../x", "")):
        assert meant in run(config, *CREATE, "--path", path, code=2).output
    assert listed(config) == []
