"""Where a token goes instead of a terminal: real files, and a real socket that speaks Vault's key-value API."""

import base64
import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli.delivery import DeliveryError, To, Wish, destination
from sidecar.cli.delivery.destination import Destination, expires
from sidecar.cli.delivery.vault import Vault
from sidecar.cli.token_delivery import delivering
from sidecar.credentials.master_key import AccessKey
from sidecar.model import Secret
from tests.unit.test_token_row import FIRST

TEXT = "asc_pat_0123456789ab_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v155llp"
TOKEN = Secret(TEXT)


def manifest(**wish: str) -> str:
    place = destination(To.kubernetes, Wish(**wish))  # type: ignore[arg-type]
    place.put(TOKEN, FIRST)
    assert place.manifest is not None
    return place.manifest


# --- Kubernetes -----------------------------------------------------------------------------------------------------------------


def test_a_manifest_is_a_secret_that_holds_the_token() -> None:
    found = yaml.safe_load(manifest(secret="ci-cache", key="CACHE_TOKEN", namespace="builds"))
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    assert (found["apiVersion"], found["kind"], found["type"]) == ("v1", "Secret", "Opaque")
    assert (found["metadata"]["name"], found["metadata"]["namespace"]) == ("ci-cache", "builds")
    assert base64.b64decode(found["data"]["CACHE_TOKEN"], validate=True).decode() == TEXT
    assert found["metadata"]["annotations"]["sidecar-token-id"] == FIRST.id
    assert found["metadata"]["annotations"]["sidecar-token-expires"] == "2027-04-15T08:00:00Z"


def test_without_a_namespace_it_is_wherever_it_is_applied() -> None:
    found = yaml.safe_load(manifest())
    assert "namespace" not in found["metadata"]
    assert base64.b64decode(found["data"]["token"]).decode() == TEXT
    assert TEXT not in manifest()


@given(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
)
def test_a_name_that_looks_like_something_else_stays_a_name(name: str, key: str) -> None:
    """`1`, `1e3`, `null`, `on`, `0x1f` are names too."""
    found = yaml.safe_load(manifest(secret=name, key=key, namespace=name))
    assert (found["metadata"]["name"], found["metadata"]["namespace"], list(found["data"])) == (name, name, [key])


@pytest.mark.parametrize(
    "wish",
    [
        {"secret": "Upper"},
        {"secret": "a_b"},
        {"secret": "-a"},
        {"secret": "a..b"},
        {"secret": 'a"\n  b: c'},
        {"secret": "a\n"},
        {"secret": "a" * 254},
        {"secret": "ä"},
        {"namespace": "a.b"},
        {"namespace": ""},
        {"namespace": "a" * 64},
        {"key": "a/b"},
        {"key": ".."},
        {"key": 'a": "b'},
        {"file": "x"},
    ],
)
def test_what_kubernetes_would_not_take_is_refused_before_there_is_a_token(wish: dict[str, str]) -> None:
    with pytest.raises(DeliveryError, match="--"):
        destination(To.kubernetes, Wish(**wish))  # type: ignore[arg-type]


# --- a file of variables --------------------------------------------------------------------------------------------------------


def written(file: Path, **wish: str) -> str:
    destination(To.env_file, Wish(file=file, **wish)).put(TOKEN, FIRST)  # type: ignore[arg-type]
    return file.read_text()


def test_a_file_of_variables_is_its_owners_alone_from_the_first_byte(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert written(tmp_path / "ci.env") == f"SIDECAR_TOKEN={TEXT}\n"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ci.env").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["ci.env"], "nothing is left beside it"


def test_other_lines_stay_and_an_open_mode_is_closed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"# mine\nA=1\r\nexport TOKEN=old\n TOKEN = older\nTOKEN_2=\xff\nLAST=x")
    file.chmod(0o644)
    destination(To.env_file, Wish(file=file, key="TOKEN")).put(TOKEN, FIRST)
    assert file.read_bytes() == b"# mine\nA=1\r\nTOKEN_2=\xff\nLAST=x\nTOKEN=" + TEXT.encode() + b"\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ci.env"
    file.write_text("A=1\n")
    place = destination(To.env_file, Wish(file=file))

    def full(_: object) -> None:
        assert file.read_text() == "A=1\n"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeliveryError, match="No space"):
        place.put(TOKEN, FIRST)
    assert file.read_text() == "A=1\n"
    assert os.listdir(tmp_path) == ["ci.env"]


def test_a_link_is_replaced_and_what_it_pointed_at_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("A=1\n")
    (tmp_path / "ci.env").symlink_to("elsewhere")
    written(tmp_path / "ci.env")
    assert (tmp_path / "elsewhere").read_text() == "A=1\n"
    assert not (tmp_path / "ci.env").is_symlink()


@pytest.mark.parametrize(
    "wish", [{"key": "1A"}, {"key": "A-B"}, {"key": "A\nB"}, {"key": ""}, {"secret": "x"}, {"namespace": "x"}]
)
def test_a_variable_that_no_shell_knows_is_refused(tmp_path: Path, wish: dict[str, str]) -> None:
    if wish == {"key": ""}:
        assert written(tmp_path / "f", **wish).startswith("SIDECAR_TOKEN="), "as if it weren't given"
        return
    with pytest.raises(DeliveryError, match="--"):
        written(tmp_path / "f", **wish)


def test_a_place_that_cannot_be_written_is_refused_before_there_is_a_token(tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere" / "f", tmp_path, Path("/dev/null")):
        with pytest.raises(DeliveryError, match="--file"):
            destination(To.env_file, Wish(file=file))


# --- Vault ----------------------------------------------------------------------------------------------------------------------


class KeyValue(ThreadingHTTPServer):
    """Version 2 of Vault's key-value engine at `secret/`, version 1 at `old/`; one who may write, and one who may not."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.versions: dict[str, list[dict[str, str]]] = {}
        self.heads: list[dict[str, str]] = []
        self.environment = {"VAULT_ADDR": f"http://127.0.0.1:{self.server_port}", "VAULT_TOKEN": "s.writer"}


class _Answers(BaseHTTPRequestHandler):
    server: KeyValue

    def do_POST(self) -> None:
        self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mount, _, path = self.path.removeprefix("/v1/").partition("/")
        if self.headers.get("X-Vault-Token") != "s.writer":
            self.answer(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        elif mount == "moved":
            self.answer(307, {}, ("Location", "http://127.0.0.1:1/v1/secret/data/x"))
        elif mount == "echo":
            self.answer(400, {"errors": [f"bad value {body['data']['token']}"]})
        elif mount == "broken":
            self.wfile.write(b"not HTTP\r\n\r\n")
        elif mount == "old":
            self.answer(204, None)
        elif mount != "secret" or not path.startswith("data/"):
            self.answer(404, {"errors": [f'no handler for route "{mount}/{path}"']})
        else:
            versions = self.server.versions.setdefault(path.removeprefix("data/"), [])
            versions.append(body["data"])
            self.answer(200, {"data": {"version": len(versions), "destroyed": False}})

    def answer(self, status: int, body: object, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        content = b"" if body is None else json.dumps(body).encode()
        for name, value in (*headers, ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def vault() -> Iterator[KeyValue]:
    with KeyValue() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(vault: KeyValue, secret: str | None = "secret/ci/cache", **environment: str) -> Destination:
    return destination(To.vault, Wish(secret=secret, environment={**vault.environment, **environment}))


def test_a_token_becomes_a_new_version_of_a_secret(vault: KeyValue) -> None:
    for _ in range(2):
        at(vault, VAULT_NAMESPACE="teams/web").put(TOKEN, FIRST)
    assert vault.versions == {
        "ci/cache": [{"token": TEXT, "token_id": FIRST.id, "expires_at": "2027-04-15T08:00:00Z"}] * 2
    }
    assert vault.heads[0]["x-vault-namespace"] == "teams/web"
    assert vault.heads[0]["x-vault-request"] == "true"


def test_its_path_and_key_are_free(vault: KeyValue) -> None:
    wish = Wish(secret="secret/web", key="CACHE", environment=vault.environment)
    destination(To.vault, wish).put(TOKEN, FIRST)
    assert vault.versions["web"][0]["CACHE"] == TEXT
    at(vault, None).put(TOKEN, FIRST)
    assert "sidecar-token" in vault.versions


def test_an_access_key_goes_there_by_awss_names_and_the_token_by_a_key_alone(vault: KeyValue) -> None:
    pair = AccessKey("SCKAAAAAAAAAAAAAAAAA", Secret("s" * 40))
    place = at(vault)
    place.put(TOKEN, FIRST, pair)
    assert vault.versions["ci/cache"][0] == {
        "AWS_ACCESS_KEY_ID": pair.id,
        "AWS_SECRET_ACCESS_KEY": "s" * 40,
        "token_id": FIRST.id,
        "expires_at": expires(FIRST),
    }
    assert place.where.startswith("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY in Vault")
    wish = Wish(secret="secret/both", key="TOKEN", environment=vault.environment)
    destination(To.vault, wish).put(TOKEN, FIRST, pair)
    assert vault.versions["both"][0]["TOKEN"] == TEXT


@pytest.mark.parametrize(
    ("secret", "token", "said"),
    [
        ("secret/ci", "s.reader", "answered 403 .*permission denied"),
        ("kv/ci", "s.writer", "answered 404 .*no handler .* version 2"),
        ("old/ci", "s.writer", "old is version 1"),
        ("moved/ci", "s.writer", "answered 307"),
        ("echo/ci", "s.writer", "answered 400"),
        ("broken/ci", "s.writer", "can't be asked"),
    ],
)
def test_whatever_goes_wrong_there_is_said_and_never_with_the_token(
    vault: KeyValue, secret: str, token: str, said: str
) -> None:
    with pytest.raises(DeliveryError, match=said) as refused:
        at(vault, secret, VAULT_TOKEN=token).put(TOKEN, FIRST)
    text = str(refused.value)
    assert TEXT not in text
    assert token not in text
    assert text.isprintable()
    assert vault.versions == {}


def test_a_vault_that_is_not_there_is_said(vault: KeyValue) -> None:
    place = at(vault, VAULT_ADDR="http://127.0.0.1:1")
    with pytest.raises(DeliveryError, match=r"can't be asked: .*refused"):
        place.put(TOKEN, FIRST)


def test_what_is_in_clear_text_goes_by_no_proxy(vault: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    at(vault).put(TOKEN, FIRST)
    assert vault.versions


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"VAULT_ADDR": ""}, "VAULT_ADDR"),
        ({"VAULT_ADDR": "vault.example.com:8200"}, "VAULT_ADDR"),
        ({"VAULT_ADDR": "ftp://vault"}, "VAULT_ADDR"),
        ({"VAULT_ADDR": "http://[::1"}, "VAULT_ADDR"),
        ({"VAULT_ADDR": "https://u:p@vault"}, "VAULT_ADDR"),
        ({"VAULT_ADDR": "http://vault.example.com:8200"}, "use https"),
        ({"VAULT_TOKEN": " "}, "VAULT_TOKEN"),
        ({"VAULT_TOKEN": "a\nb"}, "VAULT_TOKEN"),
        ({"VAULT_ADDR": "https://vault", "VAULT_CACERT": "/nowhere"}, "VAULT_CACERT"),
    ],
)
def test_what_cannot_work_is_known_before_there_is_a_token(
    vault: KeyValue, environment: dict[str, str], said: str
) -> None:
    with pytest.raises(DeliveryError, match=said):
        at(vault, **environment)


@pytest.mark.parametrize(
    "secret", ["secret", "secret/", "/secret/a", "secret/../a", "secret/a b", "secret/a?b", "secret//a", "s/.a"]
)
def test_a_path_is_a_mount_and_names_below_it(vault: KeyValue, secret: str) -> None:
    with pytest.raises(DeliveryError, match="MOUNT/PATH"):
        at(vault, secret)


def test_vaults_own_token_shows_in_nothing(vault: KeyValue) -> None:
    place = at(vault)
    assert isinstance(place, Vault)
    assert "s.writer" not in repr(place) + place.where


def test_a_command_that_makes_tokens_has_the_options_where_its_place_stands() -> None:
    seen = []

    @delivering
    def make(which: str, place: Destination | None = None, json: bool = False) -> None:
        """Make one."""
        seen.append((which, place, json))

    assert list(signature(make).parameters) == ["which", "to", "secret", "key", "namespace", "file", "json"]
    assert make.__doc__ == "Make one."
    nowhere = {"to": None, "secret": None, "key": None, "namespace": None, "file": None}
    make(which="it", json=True, **nowhere)
    make(which="it", json=False, **{**nowhere, "to": To.kubernetes, "secret": "ci"})
    (_, first, json), (_, second, _) = seen
    assert (first, json) == (None, True)
    assert second is not None
    assert second.manifest is None
    with pytest.raises(typer.Exit):
        make(which="it", json=True, **{**nowhere, "secret": "ci"})
    assert len(seen) == 2
