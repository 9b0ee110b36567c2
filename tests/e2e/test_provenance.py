"""Who wrote what: after a build's upload, the audit log and the object itself say whose it is and what it holds."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.upstream.file_layout import Layout
from tests.e2e.asking import ask, bearer
from tests.e2e.issuer import AUDIENCE, key_set
from tests.e2e.issuer import token as jwt
from tests.e2e.process import SidecarProcess, until
from tests.e2e.scripted_store import ScriptedStore, answer

pytestmark = pytest.mark.slow

CORP = "https://idp.example.com"
BUILD = {"repository": "acme/web", "ref": "refs/heads/main", "sha": "1f" * 20, "run_id": "77"}
POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: local}
  - {path: /remote, client: plain, upstream: artifacts}
ci_tokens: read-write
rules:
  - {name: builds write, allow: [read, write, delete], issuer: corp}
"""


@pytest.fixture
def remote() -> Iterator[ScriptedStore]:
    store = ScriptedStore(answer(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"))
    yield store
    store.close()


@pytest.fixture
def sidecar(tmp_path: Path, remote: ScriptedStore) -> Iterator[SidecarProcess]:
    (tmp_path / "corp.jwks.json").write_bytes(key_set("k1"))
    process = SidecarProcess(
        tmp_path,
        upstreams=f'  local: {{url: "file://./data"}}\n  artifacts: {{url: "http://127.0.0.1:{remote.port}"}}\n',
        policies={"web.yaml": POLICY},
        more=f"issuers:\n  corp: {{issuer: '{CORP}', audience: {AUDIENCE}, jwks_file: ./corp.jwks.json}}\n"
        "limits: {drain_delay: 0s}\nprovenance: {digest_up_to: 1MiB}",
    )
    yield process.start()
    process.kill()


def completed(sidecar: SidecarProcess, method: str, status: int) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        records = [
            each
            for each in sidecar.audit()
            if (each["request"]["method"], each["response"]["status"], each["stage"]) == (method, status, "complete")
        ]
        return records[-1] if records else None

    record: dict[str, Any] = until(found)
    return record


def with_object(sidecar: SidecarProcess, key: bytes) -> dict[bytes, bytes]:
    meta = Layout(sidecar.folder / "data").meta(key)
    assert meta is not None
    return dict(meta.headers)


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_builds_upload_says_whose_it_is_and_what_it_holds(sidecar: SidecarProcess, size: int) -> None:
    token = jwt(CORP, sub="repo:acme/web", jti="j-1", **BUILD, email="ada@example.com", roles=["admin"])
    body = b"x" * size
    forged = {"X-Sidecar-Provenance": '{"subject":"somebody else"}', "X-Sidecar-Sha256": "00" * 32}
    put = ask(sidecar.port, "PUT", "/web/app.tgz", {**bearer(token), **forged}, body)
    assert (put.status, put.header("x-sidecar-sha256")) == (201, None)
    record = completed(sidecar, "PUT", 201)
    assert record["resource"]["name"] == "app.tgz"
    assert record["resource"]["digest"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert record["actor"]["principal"] == "repo:acme/web"
    assert record["actor"]["claims"] == BUILD, "and neither the mail address nor the roles"
    kept = with_object(sidecar, b"web/app.tgz")
    assert kept[b"x-sidecar-sha256"].decode() == hashlib.sha256(body).hexdigest()
    assert json.loads(kept[b"x-sidecar-provenance"]) == {
        "request_id": record["request"]["id"],
        "workspace": "web",
        "key": "app.tgz",
        "type": "jwt",
        "subject": "repo:acme/web",
        "issuer": "corp",
        "token_id": "j-1",
        "claims": BUILD,
    }
    got = ask(sidecar.port, "GET", "/web/app.tgz", bearer(token))
    assert got.body == body
    assert got.header("x-sidecar-provenance") is None
    assert got.header("x-sidecar-sha256") is None


def test_a_token_of_our_own_is_named_with_the_object(sidecar: SidecarProcess) -> None:
    token = sidecar.token()
    ask(sidecar.port, "PUT", "/web/k", bearer(token), b"x")
    record = completed(sidecar, "PUT", 201)
    assert record["actor"]["claims"] is None
    said = json.loads(with_object(sidecar, b"web/k")[b"x-sidecar-provenance"])
    assert (said["type"], said["token_id"]) == ("ci", record["actor"]["token_id"])


def test_another_store_is_told_nothing_and_the_record_still_has_the_digest(
    sidecar: SidecarProcess, remote: ScriptedStore
) -> None:
    ask(sidecar.port, "PUT", "/remote/k", bearer(jwt(CORP, **BUILD)), b"body")
    assert completed(sidecar, "PUT", 201)["resource"]["digest"] == f"sha256:{hashlib.sha256(b'body').hexdigest()}"
    assert remote.asked[0].header("x-sidecar-provenance") is None


def test_a_client_that_has_much_kept_still_is_named(sidecar: SidecarProcess) -> None:
    """The embedded store has room for both; S3's 2 KiB are S3's."""
    much = {f"x-amz-meta-{number}": "x" * 1000 for number in range(7)}
    assert ask(sidecar.port, "PUT", "/web/k", {**bearer(sidecar.token()), **much}, b"x").status == 201
    assert json.loads(with_object(sidecar, b"web/k")[b"x-sidecar-provenance"])["subject"] == "ci"


def test_what_the_store_did_not_take_has_no_digest(sidecar: SidecarProcess) -> None:
    token = jwt(CORP, **BUILD)
    ask(sidecar.port, "PUT", "/web/k", bearer(token), b"x")
    assert ask(sidecar.port, "PUT", "/web/k", {**bearer(token), "If-None-Match": "*"}, b"y").status == 412
    assert completed(sidecar, "PUT", 412)["resource"]["digest"] is None
    assert ask(sidecar.port, "DELETE", "/web/k", bearer(token)).status == 204
    assert completed(sidecar, "DELETE", 204)["resource"]["digest"] is None
