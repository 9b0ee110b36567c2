"""`sidecar token`: what a person types, what comes out where, and with which exit code."""

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar.cli import token
from sidecar.cli.options import Exit
from sidecar.cli.token_text import as_json, lines, table
from sidecar.credentials.token_row import TokenRow
from sidecar.store.tables import VERSION
from sidecar.tokens import Status

CONFIG = """\
listen: 127.0.0.1:0
ops: 127.0.0.1:0
policies: ./policies
upstreams:
  local:
    url: file://./data
tokens:
  store: sqlite:///./tokens.db
  pepper_file: ./pepper
  max_ttl: 100d
"""
PEPPER = "5f0c3b7e91d24a86b0e7c1f2a3948d6c5b7a8091e2f3d4c5b6a798081726354f"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "pepper").write_text(PEPPER)
    (tmp_path / "sidecar.yaml").write_text(CONFIG)
    return tmp_path / "sidecar.yaml"


def run(config: Path, *words: str, stdin: str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(token.app, [words[0], "--config", str(config), *words[1:]], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def create(config: Path, *words: str) -> dict[str, object]:
    made: dict[str, object] = json.loads(
        run(config, "create", "--kind", "personal", "--subject", "alice", "--json", *words).stdout
    )
    return made


def listed(config: Path, *words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run(config, "list", "--json", *words).stdout)
    return found


def test_create_prints_the_token_alone_on_stdout_and_the_rest_on_stderr(config: Path) -> None:
    result = run(config, "create", "--kind", "ci", "--subject", "build", "--workspace", "web", "--permission", "read")
    assert re.fullmatch(r"asc_ci_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\n", result.stdout)
    assert result.stdout.strip() not in result.stderr
    assert f"sidecar token revoke {result.stdout.split('_')[2]}" in result.stderr


def test_a_workspace_that_no_policy_has_is_noted_and_the_token_is_made(config: Path) -> None:
    (config.parent / "policies" / "a.yaml").write_text("workspace: web\n")
    for name in ("web", "wbe"):
        made = run(config, "create", "--kind", "ci", "--subject", "build", "--workspace", name, "--json")
        assert json.loads(made.stdout)["workspaces"] == [name]
        assert ("did you mean 'web'?" in made.stderr) is (name == "wbe")


def test_no_workspace_is_noted_where_none_was_given_or_the_policies_can_not_be_read(config: Path) -> None:
    assert "note" not in run(config, "create", "--kind", "personal", "--subject", "alice").stderr
    (config.parent / "policies").rmdir()
    assert "note" not in run(config, "create", "--kind", "ci", "--subject", "build", "--workspace", "web").stderr


@pytest.mark.slow
def test_the_real_command_does_the_same(config: Path) -> None:
    def sidecar(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sidecar", "token", *words, "--config", str(config)]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    made = sidecar("create", "--kind", "personal", "--subject", "alice")
    assert (made.returncode, made.stdout[:8]) == (0, "asc_pat_")
    revoked = sidecar("revoke", "-", stdin=made.stdout)
    assert (revoked.returncode, revoked.stderr) == (0, "")
    unknown = sidecar("show", "000000000000")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "000000000000" in unknown.stderr
    misspelled = sidecar("create", "--kind", "robot", "--subject", "alice")
    assert (misspelled.returncode, misspelled.stdout) == (2, "")


def test_everything_that_was_asked_for_is_shown(config: Path) -> None:
    words = ["--workspace", "web", "--workspace", "api", "--permission", "read-write", "--path", "releases/**"]
    made = create(config, *words, "--ttl", "12h", "--name", "laptop")
    shown = json.loads(run(config, "show", str(made["id"]), "--json").stdout)
    assert shown == {name: value for name, value in made.items() if name != "token"}
    assert shown["workspaces"] == ["api", "web"]
    assert shown["permissions"] == ["read", "write"]
    assert (shown["path"], shown["name"], shown["status"]) == ("releases/**", "laptop", "active")
    ttl = time.mktime(time.strptime(shown["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(
        time.strptime(shown["created_at"], "%Y-%m-%dT%H:%M:%SZ")
    )
    assert ttl == 12 * 3600


def test_without_limits_nothing_is_narrowed_and_the_default_lifetime_holds(config: Path) -> None:
    made = create(config)
    assert (made["workspaces"], made["permissions"], made["path"]) == (None, None, None)
    text = run(config, "show", str(made["id"])).stdout
    assert "all that the policy grants" in text
    assert "(in 90d)" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--permission", "wirte"], "--permission 'wirte' is unknown; did you mean 'write'?"),
        (["--ttl", "forever"], "--ttl 'forever': a duration such as 30s, 5m, 12h or 90d"),
        (["--ttl", "1.5h"], "30s, 5m, 12h or 90d"),
        (["--ttl", "101d"], "--ttl: at most 100d"),
        (["--ttl", "0s"], "at least 1s"),
        (["--path", "a**"], "--path 'a**': '**' is a whole segment"),
        (["--workspace", "no such name"], "--workspace 'no such name'"),
        (["--name", "\x1b[2J"], "--name: printable"),
    ],
)
def test_what_cannot_be_made_exits_with_2_and_says_what_to_write(config: Path, words: list[str], said: str) -> None:
    result = run(config, "create", "--kind", "personal", "--subject", "alice", *words, code=2)
    assert said in result.stderr
    assert result.stdout == ""
    assert listed(config, "--all") == []


def test_a_ci_token_without_a_workspace_is_refused(config: Path) -> None:
    assert "exactly one" in run(config, "create", "--kind", "ci", "--subject", "b", code=2).stderr


def test_the_creator_is_the_account_that_the_kernel_knows(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    assert create(config)["created_by"] != "somebody-else"


def test_a_list_shows_who_and_how_long_and_never_a_token(config: Path) -> None:
    made = create(config, "--name", "laptop")
    result = run(config, "list")
    head, line = result.stdout.splitlines()
    assert head.split()[:4] == ["ID", "KIND", "SUBJECT", "NAME"]
    assert line.split()[:4] == [made["id"], "personal", "alice", "laptop"]
    assert str(made["token"])[21:] not in result.output
    assert "never" in line


def test_a_list_can_be_narrowed_and_paged(config: Path) -> None:
    made = [create(config)["id"] for _ in range(3)]
    run(config, "create", "--kind", "ci", "--subject", "build", "--workspace", "web")
    assert len(listed(config)) == 4
    assert [row["subject"] for row in listed(config, "--kind", "ci")] == ["build"]
    assert [row["subject"] for row in listed(config, "--workspace", "web")] == ["build"]
    page = run(config, "list", "--subject", "alice", "--limit", "2", "--json")
    first = [row["id"] for row in json.loads(page.stdout)]
    after = page.stderr.split("--after ")[1].strip()
    rest = [row["id"] for row in listed(config, "--subject", "alice", "--after", after)]
    assert sorted(first + rest) == sorted(made)


def test_an_empty_list_says_so_and_is_still_json(config: Path) -> None:
    assert run(config, "list").stdout == ""
    assert listed(config) == []


def test_revoke_says_when_it_takes_effect_and_may_be_repeated(config: Path) -> None:
    token_id = str(create(config)["id"])
    assert "within half a second" in run(config, "revoke", token_id).stdout
    assert "revoked before" in run(config, "revoke", token_id).stdout
    assert json.loads(run(config, "revoke", token_id, "--json").stdout)["changed"] is False
    assert listed(config) == []
    assert [row["status"] for row in listed(config, "--all")] == ["revoked"]


def test_revoke_takes_a_whole_token_from_stdin(config: Path) -> None:
    made = create(config)
    run(config, "revoke", "-", stdin=f"{made['token']}\n")
    assert json.loads(run(config, "show", str(made["id"]), "--json").stdout)["status"] == "revoked"


@pytest.mark.parametrize("given", ["", "\n", "asc_pat_short", "ghp_0123456789", "Bearer x"])
def test_revoke_refuses_what_is_no_token_and_does_not_repeat_it(config: Path, given: str) -> None:
    result = run(config, "revoke", "-", stdin=given, code=2)
    assert result.stdout == ""
    assert given.strip() not in result.stderr.replace("asc_", "") or not given.strip()


@pytest.mark.parametrize("verb", ["show", "revoke"])
def test_an_unknown_id_exits_with_1(config: Path, verb: str) -> None:
    result = run(config, verb, "000000000000", code=1)
    assert "no token has the id 000000000000; sidecar token list --all shows" in result.stderr


def test_an_altered_row_is_shown_as_such(config: Path) -> None:
    made = create(config, "--permission", "read")
    with sqlite3.connect(config.parent / "tokens.db") as connection:
        connection.execute("UPDATE tokens SET permissions = 'admin', created_at = X'00', subject = char(27) || '[2J'")
    connection.close()
    assert [row["status"] for row in listed(config)] == ["altered"]
    assert "\x1b" not in run(config, "list").stdout + run(config, "show", str(made["id"])).stdout
    assert "altered" in run(config, "show", str(made["id"])).stdout


def test_a_missing_or_unfit_pepper_exits_with_3_and_says_what_to_do(config: Path) -> None:
    pepper = config.parent / "pepper"
    pepper.write_text("changeme")
    assert "sidecar init" in run(config, "list", code=3).stderr
    pepper.unlink()
    assert str(pepper) in run(config, "list", code=3).stderr


def test_a_store_that_cannot_be_opened_exits_with_3(config: Path) -> None:
    (config.parent / "tokens.db").mkdir()
    assert "tokens.db" in run(config, "list", code=3).stderr


def test_a_configuration_without_tokens_exits_with_2(config: Path) -> None:
    config.write_text(CONFIG[: CONFIG.index("tokens:")])
    assert "tokens" in run(config, "list", code=2).stderr


def test_migrate_leaves_a_current_store_as_it_is(config: Path) -> None:
    made = create(config)
    assert "up to date" in run(config, "migrate").stdout
    said = json.loads(run(config, "migrate", "--json").stdout)
    assert said == {"store": str(config.parent / "tokens.db"), "schema": VERSION}
    assert [row["id"] for row in listed(config)] == [made["id"]]


def test_migrate_leaves_a_newer_versions_store_alone_and_says_so(config: Path) -> None:
    """After a rollback, for example; the chart runs it before each start."""
    run(config, "migrate")
    with closing(sqlite3.connect(config.parent / "tokens.db")) as store, store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    result = run(config, "migrate", code=3)
    assert result.stdout == ""
    assert "a newer version of this program has upgraded it" in result.stderr


def test_migrate_makes_a_store_that_the_others_use(config: Path) -> None:
    run(config, "migrate")
    create(config)
    assert os.stat(config.parent / "tokens.db").st_mode & 0o777 == 0o600


def test_times_are_told_for_people_and_for_machines() -> None:
    row = TokenRow(
        "id", "personal", "a", "", None, None, None, 0, "root", 86400 * 3 + 5, None, None, "", "", "", 86400 - 120
    )
    text = "\n".join(lines(row, Status.ACTIVE, 86400))
    assert "1970-01-04T00:00:05Z (in 2d)" in text
    assert "1970-01-01T00:00:00Z (1d ago) by root" in text
    assert "(2m ago)" in text
    assert as_json(row, Status.ACTIVE)["expires_at"] == "1970-01-04T00:00:05Z"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s ago"), (59, "in 59s"), (89, "in 1m"), (91, "in 2m"), (90 * 86400 - 1, "in 90d"), (3600 * 36 - 1, "in 1d")],
)
def test_a_distance_is_the_nearest_whole_number(seconds: int, said: str) -> None:
    row = TokenRow("id", "ci", "a", "", None, None, None, 0, "root", 1000 + seconds, None, None, "", "", "", None)
    assert f"({said})" in "\n".join(lines(row, Status.ACTIVE, 1000))


def test_a_list_fits_its_terminal_and_cuts_only_what_somebody_wrote() -> None:
    row = TokenRow(
        "0123456789ab", "personal", "somebody.with.a.long.name@example.com", "a note " * 9, "web api docs",
        "read write", "releases/**", 0, "root", 86400 * 400, None, None, "", "", "", 0,
    )  # fmt: skip
    for width in (80, 100):
        shown = list(table([(row, Status.ACTIVE)], 86400, width))
        assert max(map(len, shown)) <= width
        assert shown[1].split()[:2] == ["0123456789ab", "personal"]
        assert shown[1].split()[-5:] == ["in", "399d", "1d", "ago", "active"]
    wide = list(table([(row, Status.ACTIVE)], 86400, 300))[1]
    assert "somebody.with.a.long.name@example.com" in wide
    assert "web api docs read write releases/**" in wide


def test_a_person_whom_the_directory_does_not_know_is_noted_and_gets_the_token(config: Path) -> None:
    config.write_text(f"{CONFIG}directory:\n  file: ./people.yaml\n")
    (config.parent / "people.yaml").write_text("users: {ada: {}, build: {active: false}}\n")
    made = run(config, "create", "--kind", "personal", "--subject", "adda")
    assert made.stdout.startswith("asc_pat_")
    assert "doesn't know 'adda'" in made.stderr
    assert "note: " not in run(config, "create", "--kind", "personal", "--subject", "ada").stderr
    (config.parent / "policies" / "web.yaml").write_text("workspace: web\n")
    ci = run(config, "create", "--kind", "ci", "--subject", "build", "--workspace", "web")
    assert "note: " not in ci.stderr


# Access keys, for S3 tools

MASTER = "3f8a1c5e7b9d2046f1e3d5c7b9a8067452310fedcba98765a1b2c3d4e5f60718"
CI = ("create", "--kind", "ci", "--subject", "build", "--workspace", "web")
PAIR = re.compile(r"AWS_ACCESS_KEY_ID=(SCK[A-Z2-7]{17})\nAWS_SECRET_ACCESS_KEY=([0-9A-Za-z]{40})\n")


@pytest.fixture
def s3(config: Path) -> Path:
    (config.parent / "master").write_text(MASTER)
    config.write_text(f"{CONFIG}  access_key_master_file: ./master\n")
    return config


def test_a_token_for_s3_prints_an_access_key_id_and_a_secret_and_nothing_else(s3: Path) -> None:
    made = run(s3, *CI, "--s3")
    found = PAIR.fullmatch(made.stdout)
    assert found
    assert found[2] not in made.stderr
    assert "asc_ci_" not in made.output
    assert "This is the only time that the secret access key is shown." in made.stderr
    (row,) = listed(s3)
    assert row["access_key_id"] == found[1]
    assert found[1] in run(s3, "show", str(row["id"])).stdout
    assert found[2] not in run(s3, "show", str(row["id"]), "--json").stdout


def test_in_json_the_token_is_beside_its_access_key(s3: Path) -> None:
    made = json.loads(run(s3, *CI, "--s3", "--json").stdout)
    assert made["token"].startswith("asc_ci_")
    assert PAIR.fullmatch(
        f"AWS_ACCESS_KEY_ID={made['access_key_id']}\nAWS_SECRET_ACCESS_KEY={made['secret_access_key']}\n"
    )
    assert "secret_access_key" not in json.loads(run(s3, *CI, "--json").stdout)


def test_rotating_it_gives_another_access_key(s3: Path) -> None:
    first = json.loads(run(s3, *CI, "--s3", "--json").stdout)
    second = PAIR.fullmatch(run(s3, "rotate", first["id"]).stdout)
    assert second
    assert second[1] != first["access_key_id"]
    assert second[2] != first["secret_access_key"]


@pytest.mark.parametrize(("words", "names"), [((), []), (("--key", "TOKEN"), ["TOKEN"])])
def test_a_file_of_variables_gets_the_pair_and_the_token_where_a_key_is_named(
    s3: Path, tmp_path: Path, words: tuple[str, ...], names: list[str]
) -> None:
    file = tmp_path / "s3.env"
    file.write_text("OTHER=1\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n")
    done = run(s3, *CI, "--s3", "--to", "env-file", "--file", str(file), *words)
    values = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert list(values) == ["OTHER", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", *names]
    assert PAIR.search(file.read_text())
    assert values["AWS_SECRET_ACCESS_KEY"] not in done.output
    assert f"Written: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY{', TOKEN' if names else ''} in {file}." in done.stderr


def test_a_kubernetes_secret_gets_the_pair(s3: Path) -> None:
    manifest = json.loads(run(s3, *CI, "--s3", "--to", "k8s-secret", "--json").stdout)
    assert list(manifest["data"]) == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert base64.b64decode(manifest["data"]["AWS_ACCESS_KEY_ID"]).startswith(b"SCK")
    assert len(base64.b64decode(manifest["data"]["AWS_SECRET_ACCESS_KEY"])) == 40


def test_without_a_master_key_it_is_said_what_to_set(config: Path) -> None:
    refused = run(config, *CI, "--s3", code=Exit.INVALID)
    assert refused.stderr.startswith(
        "--s3: no access keys are made here; name a file as tokens.access_key_master_file: "
    )
    assert "`openssl rand -hex 32` fills" in refused.stderr
    assert listed(config) == []


def test_a_master_key_that_is_gone_or_unfit_is_told_and_no_token_is_made(s3: Path) -> None:
    for text in (None, "short"):
        (s3.parent / "master").unlink(missing_ok=True)
        if text is not None:
            (s3.parent / "master").write_text(text)
        refused = run(s3, *CI, "--s3", code=Exit.MISSING)
        assert "access key master file" in refused.stderr
        assert "openssl rand" in refused.stderr
    assert listed(s3) == []
