"""The files that a configuration names: there, readable, fit; and no secret is repeated in what is said about them."""

import base64
import contextlib
import json
import os
import secrets
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sidecar import config
from sidecar.config import FileReport, inspect_files

PEPPER = "$.tokens.pepper_file"
SECRET = "$.issuers.shared.secret_file"
TEXT = """\
listen: unix:run/data.sock
ops: 127.0.0.1:9090
policies: policies
upstreams:
  remote:
    url: https://store.example.com
    ca_file: ca.pem
    credentials: {basic: {username: cache, password_file: secrets/store}}
  local: {url: "file://data/objects"}
tokens:
  store: sqlite:///state/sidecar.db
  pepper_file: secrets/pepper
issuers:
  shared: {issuer: "https://one.example.com", audience: c, secret_file: secrets/hmac}
  pem: {issuer: "https://two.example.com", audience: c, pem_file: keys/key.pem}
  jwks: {issuer: "https://three.example.com", audience: c, jwks_file: keys/keys.json}
directory: {file: people.yaml}
audit:
  - file: log/audit.jsonl
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration whose files are all there and fit."""
    for name in ("policies", "data", "state", "secrets", "keys", "log", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "sidecar.yaml").write_text(TEXT)
    (tmp_path / "policies" / "web.yaml").write_text("workspace: web\n")
    (tmp_path / "people.yaml").write_text("users: {}\n")
    for name in ("store", "pepper", "hmac"):
        (tmp_path / "secrets" / name).write_text(secrets.token_hex(32) + "\n")
        (tmp_path / "secrets" / name).chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    (tmp_path / "keys" / "key.pem").write_bytes(pem())
    (tmp_path / "keys" / "keys.json").write_text(json.dumps({"keys": [jwk()]}))
    return tmp_path


def pem(*, private: bool = False) -> bytes:
    key = generate_private_key(SECP256R1())
    if private:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(**changes: str) -> dict[str, str]:
    numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "kid": "one", "x": x, "y": y} | changes


def report(folder: Path) -> FileReport:
    return inspect_files(config.load(folder / "sidecar.yaml"))


def problems(folder: Path) -> list[str]:
    """As `LINE PATH: MESSAGE`, with paths relative to the folder."""
    found = config.check_files(config.load(folder / "sidecar.yaml"))
    assert {problem.file for problem in found} <= {str(folder / "sidecar.yaml")}
    return [f"{problem.line} {problem.path}: {problem.message}".replace(f"{folder}/", "") for problem in found]


def test_all_files_there_and_fit(folder: Path) -> None:
    assert report(folder) == FileReport([], [])


MISSING = [
    ("policies", "3 $.policies: policies: no such directory; make it"),
    ("ca.pem", "7 $.upstreams.remote.ca_file: ca.pem: no such file; put the authority's certificates (PEM) there"),
    (
        "secrets/store",
        "8 $.upstreams.remote.credentials.basic.password_file: secrets/store: no such file; put the store's password there",
    ),
    (
        "secrets/pepper",
        f"12 {PEPPER}: secrets/pepper: no such file; put the secret that tokens here were made under, or, where there are none yet, a random one (`openssl rand -hex 32`) there",
    ),
    ("secrets/hmac", f"14 {SECRET}: secrets/hmac: no such file; put the secret that the issuer signs with there"),
    ("keys/key.pem", "15 $.issuers.pem.pem_file: keys/key.pem: no such file; put the issuer's public key (PEM) there"),
    (
        "keys/keys.json",
        "16 $.issuers.jwks.jwks_file: keys/keys.json: no such file; put the issuer's key set (JSON) there",
    ),
    (
        "people.yaml",
        "17 $.directory.file: people.yaml: no such file; put the people, as `users: {ada@example.com: {groups: [web-team]}}` there",
    ),
    ("data", "9 $.upstreams.local.url: data/objects: its directory does not exist"),
    ("state", "11 $.tokens.store: state/sidecar.db: its directory does not exist"),
    ("log", "19 $.audit[0].file: log/audit.jsonl: its directory does not exist"),
    ("run", "1 $.listen: run/data.sock: its directory does not exist"),
]


@pytest.mark.parametrize(("name", "expected"), MISSING)
def test_what_is_missing_is_named_with_the_line_that_asks_for_it(folder: Path, name: str, expected: str) -> None:
    (folder / name).rename(folder / "elsewhere")
    assert problems(folder) == [expected]


def test_all_that_is_missing_is_told_at_once(folder: Path) -> None:
    for name, _ in MISSING:
        if (folder / name).is_file():
            (folder / name).unlink()
    assert len(problems(folder)) == 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("secrets/pepper", f"12 {PEPPER}: secrets/pepper: this is not a file"),
        ("keys/key.pem", "15 $.issuers.pem.pem_file: keys/key.pem: this is not a file"),
        ("log/audit.jsonl", "19 $.audit[0].file: log/audit.jsonl: this is a directory"),
        ("state/sidecar.db", "11 $.tokens.store: state/sidecar.db: this is a directory"),
    ],
)
def test_a_directory_is_no_file(folder: Path, name: str, expected: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    assert problems(folder) == [expected]


@pytest.mark.parametrize(
    ("name", "setting"),
    [("policies", "3 $.policies: policies"), ("data/objects", "9 $.upstreams.local.url: data/objects")],
)
def test_a_file_is_no_directory(folder: Path, name: str, setting: str) -> None:
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    (folder / name).write_text("x")
    assert problems(folder) == [f"{setting}: this is not a directory"]


def test_what_this_user_may_not_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The answer is replaced and not the modes: root, as whom builds run, may use everything.
    monkeypatch.setattr(config.file_checks.os, "access", lambda path, mode: False)
    (folder / "data" / "objects").mkdir()
    assert problems(folder) == [
        "1 $.listen: run/data.sock: not writable for this user",
        "3 $.policies: policies: not readable for this user",
        "9 $.upstreams.local.url: data/objects: not writable for this user",
        "11 $.tokens.store: state/sidecar.db: not writable for this user",
        "19 $.audit[0].file: log/audit.jsonl: not writable for this user",
    ]


def test_a_fifo_does_not_hang_the_check(folder: Path) -> None:
    (folder / "secrets/pepper").unlink()
    os.mkfifo(folder / "secrets/pepper")
    assert problems(folder) == [f"12 {PEPPER}: secrets/pepper: this is not a file"]


SAMPLE = "this is a sample or placeholder that others know; make a random one, as with `openssl rand -hex 32`"
WEAK = {
    "placeholder": "please-changeme-please-changeme-please",
    "upper case": "PLACEHOLDER-0123-PLACEHOLDER-9876-xyz",
    "your secret": "your-256-bit-secret-goes-in-this-file!",
    "RFC 7515's key": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "counted": "0123456789abcdef0123456789abcdef",
    "alphabet": "abcdefghijklmnopqrstuvwxyz012345678",
}


@pytest.mark.parametrize("name", ["secrets/pepper", "secrets/hmac"])
@pytest.mark.parametrize("content", WEAK.values(), ids=WEAK)
def test_a_key_that_others_know_stops_the_start(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    found = problems(folder)
    assert len(found) == 1
    assert found[0].endswith(SAMPLE)
    assert content not in found[0]


@pytest.mark.parametrize("content", ["", "\n", "Zq7w", "x" * 31, "  " + "Zq7" * 10 + "  \n", "a" * 64, "ab" * 32])
@pytest.mark.parametrize("name", ["secrets/pepper", "secrets/hmac"])
def test_a_short_or_dull_key_stops_the_start(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    found = problems(folder)
    assert len(found) == 1
    assert name in found[0]
    assert not content.strip() or content.strip() not in found[0]


def test_random_keys_are_never_taken_for_samples(folder: Path) -> None:
    for make in (secrets.token_hex, secrets.token_urlsafe):
        for _ in range(200):
            (folder / "secrets/pepper").write_text(make(32))
            assert config.named_files._pepper_flaw((folder / "secrets/pepper").read_bytes()) is None


def test_a_public_key_is_no_secret(folder: Path) -> None:
    """Whoever has the public key could sign (CVE-2022-29217)."""
    (folder / "secrets/hmac").write_bytes(pem())
    assert problems(folder) == [f"14 {SECRET}: secrets/hmac: secret file: it holds a public key"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ("\tsecret", "it can't be sent in a header"),
        ("two\nlines", "it can't be sent in a header"),
        ("caf\u00e9", "it can't be sent in a header"),
    ],
)
def test_a_store_s_password_must_fit_a_header(folder: Path, content: str, said: str) -> None:
    (folder / "secrets/store").write_text(content)
    found = problems(folder)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("id", "AKID,EXAMPLE", "the access key id holds what none does"),
        ("key", "two words", "the secret access key, or the session token, holds what none does"),
        ("id", "", "secrets/id: it is empty"),
    ],
)
def test_a_bucket_s_keys_are_checked_as_they_are_used(folder: Path, name: str, content: str, said: str) -> None:
    files = "access_key_id_file: secrets/id, secret_access_key_file: secrets/key"
    bucket = f"{{url: https://s3.example.com, s3: {{bucket: abc, credentials: {{{files}}}}}}}"
    (folder / "sidecar.yaml").write_text(TEXT.replace("tokens:\n", f"  bucket: {bucket}\ntokens:\n"))
    for file in ("id", "key"):
        (folder / "secrets" / file).write_text("AKIDEXAMPLE\n")
        (folder / "secrets" / file).chmod(0o600)
    assert problems(folder) == []
    (folder / "secrets" / name).write_text(content)
    [found] = problems(folder)
    assert found.startswith("10 $.upstreams.bucket.s3.credentials")
    assert said in found


def test_how_strong_a_store_s_password_is_is_the_store_s_affair(folder: Path) -> None:
    (folder / "secrets/store").write_text("password\n")
    assert problems(folder) == []


def test_a_secret_without_end_is_not_read_to_its_end(folder: Path) -> None:
    (folder / "secrets/pepper").write_text("x" * 100_000)
    assert problems(folder) == [f"12 {PEPPER}: secrets/pepper: larger than 65536 bytes"]


KEYS = [
    ("key.pem", b"nonsense", "PEM file: not a public key"),
    ("key.pem", pem(private=True), "PEM file: it holds a private key; give the public one"),
    ("keys.json", b"nonsense", "key set: "),
    ("keys.json", b"{}", "key set: no list of keys"),
    ("keys.json", b'{"keys": []}', "no usable key: the set is empty"),
    ("keys.json", json.dumps({"keys": [jwk(use="enc")]}).encode(), "no usable key: key 0: "),
]


@pytest.mark.parametrize(("name", "content", "said"), KEYS)
def test_a_key_file_without_a_usable_key(folder: Path, name: str, content: bytes, said: str) -> None:
    (folder / "keys" / name).write_bytes(content)
    found = problems(folder)
    assert len(found) == 1
    assert said in found[0]


def test_an_authority_that_is_no_certificate(folder: Path) -> None:
    (folder / "ca.pem").write_text("nonsense")
    assert problems(folder) == ["7 $.upstreams.remote.ca_file: ca.pem: no PEM certificates can be read from it"]


def shown_to_the_store(folder: Path, certificate: bytes, key: bytes) -> FileReport:
    """What is said of the certificate that the sidecar shows to a store."""
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.key").chmod(0o600)
    config_file = folder / "sidecar.yaml"
    text = config_file.read_text()
    config_file.write_text(
        text.replace("    ca_file: ca.pem\n", "    client_certificate_file: tls.crt\n    client_key_file: tls.key\n", 1)
    )
    assert config_file.read_text() != text
    return report(folder)


def test_a_client_certificate_is_checked_with_its_key(folder: Path) -> None:
    authority = trustme.CA()
    good, other = authority.issue_cert("sidecar"), authority.issue_cert("sidecar")
    old = authority.issue_cert("sidecar", not_after=datetime.now(UTC) - timedelta(hours=1))
    certificate, key = good.cert_chain_pems[0].bytes(), good.private_key_pem.bytes()
    config_text = (folder / "sidecar.yaml").read_text()
    for shown, secret, problem, warning in [
        (certificate, key, None, None),
        (certificate, other.private_key_pem.bytes(), "the client certificate and its key don't belong together", None),
        (b"nonsense", key, "the client certificate can't be read as PEM", None),
        (old.cert_chain_pems[0].bytes(), old.private_key_pem.bytes(), None, "it has expired"),
    ]:
        (folder / "sidecar.yaml").write_text(config_text)
        found = shown_to_the_store(folder, shown, secret)
        assert [each.message.partition(": ")[2] for each in found.problems] == ([problem] if problem else [])
        assert [each.message.partition(": ")[2] for each in found.warnings] == ([warning] if warning else [])


@pytest.mark.parametrize("name", ["secrets/store", "secrets/pepper", "secrets/hmac"])
def test_a_secret_that_everybody_can_read_is_a_warning(folder: Path, name: str) -> None:
    (folder / name).chmod(0o644)
    found = report(folder)
    assert found.problems == []
    assert [warning.message for warning in found.warnings] == [
        f"{folder / name}: every user of this machine can read it; chmod 600"
    ]


def test_the_lines_are_left_out_where_the_configuration_has_gone(folder: Path) -> None:
    settings = config.load(folder / "sidecar.yaml")
    (folder / "sidecar.yaml").unlink()
    (folder / "people.yaml").unlink()
    assert [problem.line for problem in config.check_files(settings)] == [0]


def unfit(folder: Path) -> list[str]:
    """What doesn't stop the start."""
    found = report(folder)
    assert found.problems == []
    return [str(problem).replace(f"{folder}/", "") for problem in found.unfit]


def test_people_are_read_and_each_mistake_is_told_where_it_stands(folder: Path) -> None:
    (folder / "people.yaml").write_text("users:\n  ada: {group: [a]}\n  bob: {active: yes}\n")
    assert unfit(folder) == [
        "people.yaml:2 $.users.ada.group: unknown key 'group'; did you mean 'groups'?",
        "people.yaml:3 $.users.bob.active: expected true or false (without quotes), not 'yes'",
    ]


@pytest.mark.parametrize("name", [None, "notes.txt", ".hidden.yaml"])
def test_a_directory_without_a_policy_is_told(folder: Path, name: str | None) -> None:
    (folder / "policies" / "web.yaml").unlink()
    if name is not None:
        (folder / "policies" / name).touch()
    assert unfit(folder) == ["sidecar.yaml:3 $.policies: policies: no policy file (*.yaml, *.yml) is in it"]


def test_a_token_store_that_is_no_database_stops_the_start(folder: Path) -> None:
    store = folder / "state" / "sidecar.db"
    with contextlib.closing(sqlite3.connect(store)) as database:
        database.execute("CREATE TABLE t (x)")
    assert problems(folder) == []
    store.write_bytes(b"")
    assert problems(folder) == []
    store.write_text("not a database, but a note")
    assert problems(folder) == ["11 $.tokens.store: state/sidecar.db: this is not an SQLite database"]


def test_files_are_named_as_they_would_be_typed_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "secrets" / "pepper").unlink()
    monkeypatch.chdir(folder)
    (problem,) = config.check_files(config.load(Path("sidecar.yaml")))
    assert str(problem).startswith(f"sidecar.yaml:12 {PEPPER}: secrets/pepper: no such file; ")
    monkeypatch.chdir(folder / "keys")
    (problem,) = config.check_files(config.load(Path("../sidecar.yaml")))
    assert str(problem).startswith("../sidecar.yaml:12 ")
