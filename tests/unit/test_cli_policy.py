"""`sidecar policy check` and `sidecar policy explain`, as a person and as a script meet them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import root
from sidecar.cli.policy import app

CONFIG = Path(__file__).parents[2] / "config"
POLICIES = list((CONFIG / "policies").glob("*.yaml"))
PROTECTED = {"sub": "repo:o/r", "repository_id": "123456", "ref_protected": "true", "event_name": "push"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIG, tmp_path / "config")
    return tmp_path / "config"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_directory_that_is_right(folder: Path) -> None:
    result = run("check", folder / "policies")
    assert result.exit_code == 0
    assert f"{len(POLICIES)} policy files are right" in result.stdout
    assert "names of issuers and upstreams are not checked" in result.stderr
    old = folder / "secrets" / "old-password"
    old.parent.mkdir(exist_ok=True)
    old.write_text("cache:hunter2")
    checked = run("check", "--config", folder / "sidecar.example.yaml")
    assert (checked.exit_code, checked.stderr) == (0, "")


def test_an_old_password_that_cannot_be_used_is_a_note(folder: Path) -> None:
    """The file may be on another machine alone."""
    checked = run("check", "--config", folder / "sidecar.example.yaml")
    assert checked.exit_code == 0
    missing = "the shared password lets nobody in: workspace cache: ../secrets/old-password: No such file or directory"
    assert checked.stderr == f"note: {missing}\n"
    one = run("check", folder / "policies" / "migration.yaml", "--config", folder / "sidecar.example.yaml")
    assert (one.exit_code, one.stderr) == (0, f"note: {missing}\n")


def test_all_problems_of_all_files_are_told(folder: Path) -> None:
    web = folder / "policies/web.yaml"
    web.write_text(web.read_text().replace("[read, write]", "[read, wirte]").replace("issuer: corp", "issuer: crop"))
    (folder / "policies/new.yaml").write_text(
        "workspace: new\nroutes: [{path: /oss/x, client: plain, upstream: local}]"
    )
    config = run("check", "--config", folder / "sidecar.example.yaml")
    assert config.exit_code == 2
    assert config.stdout == ""
    assert "policies/web.yaml:19 $.rules[0].allow: unknown permission 'wirte'; did you mean 'write'?" in config.stderr
    assert "policies/web.yaml:31 $.rules[2].issuer: unknown issuer 'crop'; did you mean 'corp'?" in config.stderr
    assert "policies/new.yaml:2 $.routes[0]: the routes /oss/x and /oss of workspace 'oss'" in config.stderr
    alone = run("check", folder / "policies")
    assert "crop" not in alone.stderr


def test_a_check_for_scripts(folder: Path) -> None:
    (folder / "policies/new.yaml").write_text("workspace: new")
    result = run("check", folder / "policies", "--json")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert (said["ok"], said["files"], said["names_checked"]) == (False, len(POLICIES) + 1, False)
    assert said["problems"][0]["file"] == "policies/new.yaml"


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_a_check_of_nothing_is_no_success(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    result = run("check", tmp_path / missing)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{tmp_path / missing}: the")


def explain(folder: Path, *arguments: object, claims: dict[str, Any] | None = None) -> Result:
    who: list[object] = ["--anonymous"]
    if claims is not None:
        (folder / "claims.json").write_text(json.dumps(claims))
        who = ["--claims", folder / "claims.json"]
    return run("explain", *who, *arguments, "--config", folder / "sidecar.example.yaml")


def test_explain_tells_rule_by_rule(folder: Path) -> None:
    result = explain(folder, "--issuer", "github", "GET", "/web/a", claims={"sub": "s", "repository_id": "123456"})
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0] == "GET /web/a"
    assert "doesn't match: claim ref_protected must be 'true', it is absent" in lines
    assert "doesn't match: its issuer is corp, the caller's is github" in lines
    assert "doesn't match: its path releases/** does not match 'a'" in lines
    assert "verdict    allowed: granted by rule 'the rest of the repository reads'" in lines
    assert any("sha256" in line for line in lines)
    assert "\x1b" not in result.stdout, "no colours where nobody sees them"


ROADS = [
    # claims, arguments, reason, status, rule
    (None, ["GET", "/oss/a"], "granted", 200, None),
    (None, ["GET", "/web/a"], "no_token", 401, None),
    (None, ["GET", "/nowhere"], "no_route", 404, None),
    (None, ["GET", "/web/../oss/a"], "bad_target", 400, None),
    (None, ["BREW", "/web/a"], "unknown_operation", 401, None),
    (None, ["OPTIONS", "/web/a"], "answered_here", 204, None),
    (PROTECTED, ["--issuer", "github", "PUT", "/web/a"], "granted", 200, "protected branches write"),
    (PROTECTED, ["--issuer", "corp", "PUT", "/web/a"], "no_rule", 403, None),
    (PROTECTED, ["--issuer", "github", "PUT", "/web/releases/a"], "existence_unknown", 503, None),
    (PROTECTED, ["--issuer", "github", "--missing", "PUT", "/web/releases/a"], "granted", 200, "protected branches write"),
    (PROTECTED, ["--issuer", "github", "--exists", "PUT", "/web/releases/a"], "rule_deny", 403, "releases stay as they are"),
    ({**PROTECTED, "iss": "https://token.actions.githubusercontent.com"}, ["PUT", "/web/a"], "granted", 200, "protected branches write"),
]  # fmt: skip


@pytest.mark.parametrize(("claims", "arguments", "reason", "status", "rule"), ROADS)
def test_explain_walks_the_road_that_requests_take(
    folder: Path, claims: dict[str, Any] | None, arguments: list[str], reason: str, status: int, rule: str | None
) -> None:
    result = explain(folder, *arguments, "--json", claims=claims)
    said = json.loads(result.stdout)
    assert (said["reason"], said["status"], said["rule"]) == (reason, status, rule)
    assert result.exit_code == (0 if said["allowed"] else 1)


def test_explain_tells_both_answers_where_it_depends_on_the_key(folder: Path) -> None:
    asked = ["--issuer", "github", "PUT", "/web/releases/a"]
    result = explain(folder, *asked, claims=PROTECTED)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert (
        "action     write 'releases/a' if it exists, which needs overwrite: denied by rule 'releases stay as they are'"
        in lines
    )
    assert "verdict    refused with 403 if it exists: rule_deny by rule 'releases stay as they are'" in lines
    assert "action     write 'releases/a' if it doesn't: granted by rule 'protected branches write'" in lines
    assert "verdict    allowed if it doesn't: granted by rule 'protected branches write'" in lines
    assert not any("existence_unknown" in line for line in lines)
    said = json.loads(explain(folder, *asked, "--json", claims=PROTECTED).stdout)
    assert (said["if_exists"]["reason"], said["if_missing"]["reason"]) == ("rule_deny", "granted")
    alone = json.loads(explain(folder, "--missing", *asked, "--json", claims=PROTECTED).stdout)
    assert (alone["if_exists"], alone["if_missing"]) == (None, None)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/web/caf%C3%A9", "client plain takes no path with a character beyond ASCII, even percent-encoded"),
        ("/web/a%2Fb", "an encoded slash (%2F) outside of a name like @scope%2fname"),
    ],
)
def test_a_spelling_that_is_refused_is_named_in_words(folder: Path, path: str, words: str) -> None:
    result = explain(folder, "GET", path)
    assert f"verdict    refused with 400: bad_target ({words})" in result.stdout
    assert "Oddity" not in result.output


def test_an_unknown_issuer_is_answered_with_the_known_ones(folder: Path) -> None:
    result = explain(folder, "--issuer", "nope", "GET", "/web/a", claims={"sub": "s"})
    assert result.exit_code == 2
    assert "--issuer 'nope' is not configured; allowed here: github, corp" in result.stderr


def test_a_method_in_lower_case_is_asked_as_it_is_and_noticed(folder: Path) -> None:
    result = explain(folder, "get", "/oss/a")
    assert "unknown_operation" in result.stdout
    assert result.stderr == "note: methods are compared as they are written; did you mean GET?\n"
    assert explain(folder, "BREW", "/oss/a").stderr == ""


def test_explain_says_what_is_the_wrong_way_round(folder: Path) -> None:
    config = folder / "sidecar.example.yaml"
    turned = run("explain", "--config", config, "--anonymous", "/web/a", "GET")
    assert turned.exit_code == 2
    assert "the method comes first: GET /web/a" in turned.stderr
    bare = run("explain", "--config", config, "--anonymous", "GET", "web/a")
    assert bare.stderr == "note: a path begins with a slash; did you mean /web/a?\n"


def test_explain_asks_who(folder: Path) -> None:
    config = ["--config", str(folder / "sidecar.example.yaml")]
    assert run("explain", "GET", "/web/a", *config).exit_code == 2
    whose = explain(folder, "GET", "/web/a", claims={"sub": "s"})
    assert whose.exit_code == 2
    assert "--issuer" in whose.output


def test_a_policy_that_is_broken_is_explained_as_such(folder: Path) -> None:
    web = folder / "policies/web.yaml"
    web.write_text(web.read_text() + "nonsense: true\n")
    result = explain(folder, "GET", "/web/a", "--json")
    said = json.loads(result.stdout)
    assert (said["reason"], said["status"]) == ("policy_missing", 503)
    assert "`sidecar policy check` says why; a running sidecar goes on with its last good version" in result.stderr


def test_explain_verifies_a_token_as_in_service(tmp_path: Path) -> None:
    def sidecar(*arguments: object) -> Result:
        return CliRunner().invoke(root.app, [str(argument) for argument in arguments])

    assert sidecar("init", tmp_path).exit_code == 0
    config = ["--config", tmp_path / "sidecar.yaml"]
    made = sidecar(
        "token", "create", "--kind", "ci", "--subject", "ci", "--workspace", "example", "--permission", "read", *config
    )
    assert made.exit_code == 0, made.output
    token = tmp_path / "token"
    token.write_text(made.stdout)

    def asked(*request_: str) -> dict[str, Any]:
        result = sidecar("policy", "explain", "--token-file", token, *request_, "--json", *config)
        assert made.stdout.strip() not in result.output, "a token is never repeated"
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    assert asked("GET", "/example/a")["reason"] == "granted"
    assert asked("PUT", "/example/a")["reason"] == "token_limit"
    whole = made.stdout.strip()
    token.write_text(whole[:-1] + ("y" if whole.endswith("x") else "x"))
    assert asked("GET", "/example/a")["reason"] == "bad_token"


def test_explain_says_that_a_persons_token_is_no_members(tmp_path: Path) -> None:
    def sidecar(*arguments: object) -> Result:
        return CliRunner().invoke(root.app, [str(argument) for argument in arguments])

    assert sidecar("init", tmp_path).exit_code == 0
    config = ["--config", tmp_path / "sidecar.yaml"]
    (tmp_path / "policies/team.yaml").write_text(
        "workspace: team\nroutes: [{path: /team, client: plain, upstream: local}]\n"
        "members: {users: [ada@example.com]}\npersonal_tokens: read\n"
    )
    said = {}
    for name in ("ada", "eve"):
        made = sidecar("token", "create", "--kind", "personal", "--subject", f"{name}@example.com", *config)
        assert made.exit_code == 0, made.output
        (tmp_path / "token").write_text(made.stdout)
        said[name] = sidecar("policy", "explain", "--token-file", tmp_path / "token", "GET", "/team/a", *config).stdout
    assert "ceiling    read\n" in said["ada"]
    assert (
        "ceiling    none: eve@example.com is neither in members.users nor in a group of members.groups\n" in said["eve"]
    )


def test_explain_knows_an_old_shared_password_as_clients_send_it(tmp_path: Path) -> None:
    def sidecar(*arguments: object) -> Result:
        return CliRunner().invoke(root.app, [str(argument) for argument in arguments])

    assert sidecar("init", tmp_path).exit_code == 0
    password = tmp_path / "old"
    password.write_text("cache:of old\n")
    policy = tmp_path / "policies/example.yaml"
    policy.write_text(policy.read_text() + "legacy: {basic_file: ../old, level: read, until: 2999-01-31}\n")

    def asked(file: str, method: str) -> str:
        config = ["--config", tmp_path / "sidecar.yaml"]
        result = sidecar("policy", "explain", file, password, method, "/example/a", "--json", *config)
        assert "of old" not in result.output
        reason: str = json.loads(result.stdout)["reason"]
        return reason

    assert asked("--basic-file", "GET") == "granted"
    assert asked("--basic-file", "PUT") == "token_limit"
    assert asked("--token-file", "GET") == "bad_token", "it is Basic's, not Bearer's"
    password.write_text("cache:of old\n\n")
    assert asked("--basic-file", "GET") == "bad_token", "the file isn't one line"


def test_claims_that_no_rule_looks_at_may_be_left_out(folder: Path) -> None:
    result = explain(folder, "--issuer", "github", "GET", "/web/a", "--json", claims={"repository_id": "123456"})
    assert json.loads(result.stdout)["reason"] == "granted"
