"""`sidecar client-config`: each client's text holds the route's real path and the token, once a shell or the client has read it."""

import json
import shutil
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import botocore.session
import pytest
from typer.testing import CliRunner, Result

from sidecar.cli.client_texts import CLIENTS
from sidecar.cli.options import Exit
from sidecar.cli.root import app
from sidecar.profiles import PROFILES
from tests.e2e.echo_store import EchoStore
from tests.programs import require_program

TOKEN = "asc_ci_aB3dE6gH9kLm_secret"
CONFIG = """\
listen: 0.0.0.0:8080
ops: 127.0.0.1:9090
policies: policies
upstreams: {local: {url: "file://./data"}, bucket: {url: "http://127.0.0.1:9"}}
tokens: {store: "sqlite:///./tokens.db", pepper_file: ./pepper}
"""
POLICY = """\
workspace: web
routes:
  - {path: /nx/deep, client: nx, upstream: local}
  - {path: /turbo, client: turborepo, upstream: local}
  - {path: /bazel, client: bazel, upstream: local}
  - {path: /gradle, client: gradle, upstream: local}
  - {path: /nix, client: nix, upstream: local}
  - {path: /dav, client: webdav, upstream: local}
  - {path: /web, client: plain, upstream: local}
  - {path: /more, client: plain, upstream: local}
  - {path: /objects/web, client: s3, upstream: bucket}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIG)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/web.yaml").write_text(POLICY)
    (tmp_path / "pepper").write_text("p" * 64)
    (tmp_path / "token's file").write_text(TOKEN + "\n")
    return file


def run(config: Path, *args: str) -> Result:
    return CliRunner().invoke(app, ["client-config", *args, "--config", str(config)])


def told(config: Path, client: str, *args: str, token: bool = True) -> str:
    file = ("--token-file", str(config.parent / "token's file")) if token else ()
    said = run(config, client, "--workspace", "web", "--url", "https://cache.example.com", *file, *args)
    assert said.exit_code == 0, said.stderr
    return said.stdout


ENVIRONMENTS = {
    "nx": {
        "NX_SELF_HOSTED_REMOTE_CACHE_SERVER": "https://cache.example.com/nx/deep",
        "NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN": TOKEN,
    },
    "turborepo": {"TURBO_API": "https://cache.example.com/turbo", "TURBO_TOKEN": TOKEN, "TURBO_TEAM": "web"},
    "ccache": {"CCACHE_REMOTE_STORAGE": f"https://cache.example.com/dav|bearer-token={TOKEN}"},
    "sccache": {
        "SCCACHE_WEBDAV_ENDPOINT": "https://cache.example.com",
        "SCCACHE_WEBDAV_KEY_PREFIX": "dav",
        "SCCACHE_WEBDAV_TOKEN": TOKEN,
    },
    "pip": {"PIP_INDEX_URL": f"https://__token__:{TOKEN}@cache.example.com/web/simple/"},
    "rclone": {
        "RCLONE_CONFIG_WEB_TYPE": "webdav",
        "RCLONE_CONFIG_WEB_URL": "https://cache.example.com/dav",
        "RCLONE_CONFIG_WEB_VENDOR": "other",
        "RCLONE_CONFIG_WEB_BEARER_TOKEN": TOKEN,
    },
    "boto3": {
        "AWS_ENDPOINT_URL_S3": "https://cache.example.com",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "sidecar",
        "AWS_SECRET_ACCESS_KEY": "sidecar",
        "AWS_SESSION_TOKEN": TOKEN,
    },
    "git-lfs": {
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "lfs.url",
        "GIT_CONFIG_VALUE_0": "https://cache.example.com/web",
        "GIT_CONFIG_KEY_1": "lfs.https://cache.example.com/web.locksverify",
        "GIT_CONFIG_VALUE_1": "false",
        "GIT_CONFIG_KEY_2": "http.https://cache.example.com/web.extraheader",
        "GIT_CONFIG_VALUE_2": f"Authorization: Bearer {TOKEN}",
    },
}


def environment(text: str, tmp_path: Path, **more: str) -> dict[str, str]:
    """After a shell has read the lines."""
    done = subprocess.run(
        ["sh", "-euc", 'eval "$1"; env -0', "sh", text],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), **more},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(each.split("=", 1) for each in done.stdout.split("\0") if each)


@pytest.mark.parametrize("client", ENVIRONMENTS)
@pytest.mark.parametrize("file", [True, False])
def test_a_shell_reads_the_lines_and_the_token(config: Path, tmp_path: Path, client: str, file: bool) -> None:
    text = told(config, client, token=file)
    assert TOKEN not in text, "it is read when the lines are run"
    found = environment(text, tmp_path, **({} if file else {"SIDECAR_TOKEN": TOKEN}))
    assert {name: found.get(name) for name in ENVIRONMENTS[client]} == ENVIRONMENTS[client]


@pytest.mark.parametrize("file", [True, False])
def test_the_aws_profile_asks_for_the_token_each_time(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bool
) -> None:
    text = told(config, "aws", token=file)
    assert TOKEN not in text
    (tmp_path / "aws").write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("SIDECAR_TOKEN", "" if file else TOKEN)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    session = botocore.session.Session(profile="web")
    found = session.get_credentials().get_frozen_credentials()
    assert (found.access_key, found.secret_key, found.token) == ("sidecar", "sidecar", TOKEN)
    client = session.create_client("s3")
    assert (client.meta.endpoint_url, client.meta.region_name) == ("https://cache.example.com", "us-east-1")
    assert session.create_client("sts").meta.endpoint_url.endswith(".amazonaws.com")


def test_rclone_speaks_s3_on_such_a_route(config: Path, tmp_path: Path) -> None:
    found = environment(told(config, "rclone", "--route", "/objects/web"), tmp_path)
    assert {name.removeprefix("RCLONE_CONFIG_WEB_"): value for name, value in found.items() if "RCLONE" in name} == {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": "https://cache.example.com",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "sidecar",
        "SECRET_ACCESS_KEY": "sidecar",
        "SESSION_TOKEN": TOKEN,
    }


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (("aws",), "s3://objects/web/, with --profile web"),
        (("boto3",), "s3://objects/web/"),
        (("rclone",), "WEB:"),
        (("rclone", "--route", "/objects/web"), "WEB:objects/web"),
    ],
)
def test_where_the_keys_are_is_said_beside_it(config: Path, args: tuple[str, ...], where: str) -> None:
    said = run(config, *args, "--workspace", "web", "--url", "https://c")
    assert f" at {where}\n" in said.stderr


def test_nix_gets_a_netrc_that_nobody_else_reads(config: Path, tmp_path: Path) -> None:
    found = environment(told(config, "nix"), tmp_path)
    netrc = tmp_path / "home/.config/nix/netrc-web"
    assert netrc.read_text() == f"machine cache.example.com login web password {TOKEN}\n"
    assert netrc.stat().st_mode & 0o777 == 0o600
    assert found["NIX_CONFIG"] == f"extra-substituters = https://cache.example.com/nix\nnetrc-file = {netrc}"


def test_bazels_file_holds_the_token_for_it_can_read_it_nowhere_else(config: Path) -> None:
    assert told(config, "bazel").splitlines() == [
        "build --remote_cache=https://cache.example.com/bazel",
        f'build --remote_header="Authorization=Bearer {TOKEN}"',
    ]
    assert "SIDECAR_TOKEN" in told(config, "bazel", token=False)


@pytest.mark.parametrize("client", ["gradle", "npm", "maven"])
def test_files_name_the_variable(config: Path, client: str) -> None:
    text = told(config, client)
    assert TOKEN not in text
    assert "SIDECAR_TOKEN" in text
    assert {"gradle": "/gradle/", "npm": "/web/", "maven": "/web/"}[client] in text
    if client == "maven":
        assert xml.etree.ElementTree.fromstring(text).findtext(".//url") == "https://cache.example.com/web/"
    if client == "npm":
        assert text.splitlines()[1] == "//cache.example.com/web/:_authToken=${SIDECAR_TOKEN}"
    assert ("allowInsecureProtocol" in text) is False


def test_curl_shows_the_token_to_nobody_on_the_machine(config: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake, cat = tmp_path / "bin/curl", shutil.which("cat")
    fake.write_text(
        f'#!/bin/sh\n{cat} /dev/fd/3 > "{tmp_path}/config"; {cat} > "{tmp_path}/stdin"; echo "$@" > "{tmp_path}/args"\n'
    )
    fake.chmod(0o755)
    text = told(config, "curl", "--route", "/more")
    environment(text + "echo mine | cache_curl a/b.tgz -T -", tmp_path, PATH=f"{tmp_path}/bin:/usr/bin:/bin")
    assert (tmp_path / "config").read_text() == f'header = "Authorization: Bearer {TOKEN}"\n'
    assert (tmp_path / "stdin").read_text() == "mine\n"
    address = "https://cache.example.com/more/a/b.tgz"
    assert (tmp_path / "args").read_text() == f"-sS --fail-with-body -K /dev/fd/3 -T - {address}\n"


@pytest.mark.parametrize(("shell", "quote"), [("bash", ""), ("dash", '"')])
def test_curl_uploads_what_it_is_given(config: Path, tmp_path: Path, shell: str, quote: str) -> None:
    require_program("curl")
    store = EchoStore(b"said the store")
    try:
        said = run(
            config, "curl", "--workspace", "web", "--url", f"http://127.0.0.1:{store.port}",
            "--token-file", str(tmp_path / "token's file"),
        )  # fmt: skip
        (tmp_path / "function").write_text(said.stdout)
        (tmp_path / "file").write_bytes(b"from a file")
        lines = f"""
            set -e
            eval {quote}$(cat function){quote}
            printf 'from a pipe' | cache_curl piped -T -
            cache_curl file -T file
            cache_curl posted --data-binary @- < file
            printf left | {{ cache_curl read; cat; }}
        """
        done = subprocess.run(
            [require_program(shell), "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "said the store" * 4 + "left"
        assert [(each.method + b" " + each.target, each.body) for each in store.seen] == [
            (b"PUT /web/piped", b"from a pipe"),
            (b"PUT /web/file", b"from a file"),
            (b"POST /web/posted", b"from a file"),
            (b"GET /web/read", b""),
        ]
        assert {each.header(b"authorization")[0] for each in store.seen} == {f"Bearer {TOKEN}".encode()}
    finally:
        store.close()


@pytest.mark.parametrize("client", CLIENTS)
def test_json_says_the_same(config: Path, client: str) -> None:
    said = json.loads(told(config, client, "--json"))
    assert said["text"] == told(config, client)
    assert (said["client"], said["workspace"]) == (client, "web")
    assert said["url"] == "https://cache.example.com" + said["route"]
    assert all(f'export {name}="{value}"' in said["text"] for name, value in said["env"].items())


def test_every_client_has_a_profile_that_there_is() -> None:
    assert {profile for client in CLIENTS.values() for profile in client.profiles} <= set(PROFILES)
    assert set(PROFILES) <= {profile for client in CLIENTS.values() for profile in client.profiles}


def test_without_a_url_it_is_the_listener_and_it_is_said(config: Path) -> None:
    said = run(config, "nx", "--workspace", "web")
    assert 'SERVER="http://127.0.0.1:8080/nx/deep"' in said.stdout
    assert "--url says how clients reach it" in said.stderr
    assert "allowInsecureProtocol" in run(config, "gradle", "--workspace", "web").stdout


def test_the_better_profile_comes_first_and_others_are_named(config: Path) -> None:
    said = run(config, "curl", "--workspace", "web", "--url", "https://c")
    assert "https://c/web/" in said.stdout
    assert "--route names another: /more, /dav" in said.stderr


def test_a_route_for_everything(config: Path) -> None:
    (config.parent / "policies/web.yaml").write_text(
        "workspace: web\nroutes: [{path: /, client: webdav, upstream: local}]\n"
    )
    assert 'STORAGE="https://cache.example.com|bearer' in told(config, "ccache")
    assert 'KEY_PREFIX="/"' in told(config, "sccache")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["ccach", "--workspace", "web"], Exit.INVALID, "'ccach' is unknown; did you mean 'ccache'?"),
        (["xyz", "--workspace", "web"], Exit.INVALID, "'xyz' is unknown; allowed here: nx, turborepo"),
        (["nx", "--workspace", "wob"], Exit.FAILED, "there are: web"),
        (["nx", "--workspace", "web", "--route", "/web"], Exit.FAILED, "no route /web with client: nx"),
        (["nx", "--workspace", "web", "--url", "https://c/path"], Exit.INVALID, "without a path"),
        (["nx", "--workspace", "web", "--url", "https://c$(id)"], Exit.INVALID, "without a path"),
        (["nx", "--workspace", "web", "--url", "ftp://c"], Exit.INVALID, "https://HOST"),
        (["nx", "--workspace", "web", "--url", "https://u:p@c"], Exit.INVALID, "https://HOST"),
        (["nx", "--workspace", "web", "--token-file", "/nonexistent"], Exit.FAILED, "No such file"),
    ],
)
def test_a_mistake_is_told(config: Path, args: list[str], code: int, said: str) -> None:
    done = run(config, *args)
    assert done.exit_code == code or (code == Exit.FAILED and said in str(done.exception))
    assert said in " ".join((done.stderr + str(done.exception)).split())
    assert done.stdout == ""


def test_a_workspace_without_such_a_route_is_told_which_to_add(config: Path) -> None:
    (config.parent / "policies/web.yaml").write_text(
        "workspace: web\nroutes: [{path: /web, client: plain, upstream: local}]\n"
    )
    done = run(config, "nx", "--workspace", "web")
    assert "{path: /web-nx, client: nx, upstream: ...}" in str(done.exception)


def test_a_file_that_holds_no_token_is_not_repeated(config: Path) -> None:
    (config.parent / "bad").write_text('pass word"$(id)')
    done = run(config, "bazel", "--workspace", "web", "--token-file", str(config.parent / "bad"))
    assert done.exit_code != 0
    assert "pass word" not in str(done.exception) + done.output
