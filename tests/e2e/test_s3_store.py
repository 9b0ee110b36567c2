"""A bucket behind the sidecar, end to end: clients of every profile, keys that only the sidecar has, and a store that verifies them."""

import concurrent.futures
import hashlib
import http.client
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.aws_roles import Roles
from tests.e2e.process import SidecarProcess, until
from tests.e2e.s3_servers import S3Server, versitygw

pytestmark = pytest.mark.slow

MiB = 1024 * 1024
POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: bucket, upstream_path: /team}
  - {path: /dav, client: webdav, upstream: bucket, upstream_path: /dav}
  - {path: /turbo, client: turborepo, upstream: bucket, upstream_path: /turbo}
ci_tokens: read-write
rules: [{name: ci deletes, allow: [delete], kinds: [ci]}]
"""
ONCE = """
workspace: once
routes: [{path: /once, client: plain, upstream: bucket, upstream_path: /once}]
ci_tokens: read-write
write_once: true
"""


def upstream(server: S3Server, bucket: str, credentials: str) -> str:
    more = f", ca_file: {server.ca_file}" if server.ca_file else ""
    conditional = str(server.conditional_writes).lower()
    return f"""
  bucket:
    {{url: "{server.endpoint}", s3: {{bucket: {bucket}, region: {server.region}, conditional_writes: {conditional},
     credentials: {credentials}}}{more}}}
"""


class Rig:
    def __init__(self, folder: Path, server: S3Server) -> None:
        self.server, self.bucket = server, server.bucket()
        for name, content in {"id": server.access_key, "secret": server.secret_key}.items():
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)
        files = "{access_key_id_file: ./id, secret_access_key_file: ./secret}"
        self.sidecar = SidecarProcess(
            folder,
            upstreams=upstream(server, self.bucket, files),
            policies={"web.yaml": POLICY, "once.yaml": ONCE},
        )
        self.sidecar.start()
        self.tokens = {name: self.sidecar.token(workspaces=(name,)) for name in ("web", "once")}
        self.tokens["read"] = self.sidecar.token(workspaces=("web",), permissions=("read",))

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        token: str = "web",
    ) -> Answer:
        return ask(self.sidecar.port, method, path, {**bearer(self.tokens[token]), **(headers or {})}, body)

    def stored(self) -> dict[str, bytes]:
        return self.server.stored(self.bucket)


@pytest.fixture(scope="module")
def rig(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("bucket"), s3_server)
    yield made
    made.sidecar.stop()
    log = made.sidecar.log + (made.sidecar.folder / "audit.jsonl").read_text()
    assert s3_server.secret_key not in log
    assert "Traceback" not in log


def test_a_token_is_all_that_a_client_needs(rig: Rig) -> None:
    assert rig.ask("PUT", "/web/lib/a.tar", {"Content-Type": "application/x-tar"}, b"content").status == 200
    got = rig.ask("GET", "/web/lib/a.tar")
    assert (got.status, got.body, got.header("content-type")) == (200, b"content", "application/x-tar")
    assert rig.stored()["team/lib/a.tar"] == b"content"
    part = rig.ask("GET", "/web/lib/a.tar", {"Range": "bytes=3-"})
    assert (part.status, part.body, part.header("content-range")) == (206, b"tent", "bytes 3-6/7")
    tag = got.header("etag")
    assert tag
    assert rig.ask("GET", "/web/lib/a.tar", {"If-None-Match": tag}).status == 304
    assert rig.ask("DELETE", "/web/lib/a.tar").status == 204
    assert rig.ask("GET", "/web/lib/a.tar").status == 404


def test_who_wrote_it_is_kept_with_the_object_and_told_to_no_reader(rig: Rig) -> None:
    forged = {"X-Amz-Meta-X-Sidecar-Provenance": "{}", "X-Sidecar-Provenance": "{}", "X-Amz-Meta-Mine": "1"}
    assert rig.ask("PUT", "/web/written", forged, b"content").status == 200
    kept = rig.server.client().head_object(Bucket=rig.bucket, Key="team/written")["Metadata"]
    assert kept["mine"] == "1"
    said = json.loads(kept["x-sidecar-provenance"])
    assert (said["type"], said["token_id"]) == ("ci", rig.tokens["web"].split("_")[2])
    answer = rig.ask("GET", "/web/written")
    assert [name for name, _ in answer.headers if "meta" in name or "provenance" in name] == ["x-amz-meta-mine"]


def test_what_the_token_may_not_the_bucket_does_not_hear(rig: Rig) -> None:
    before = rig.stored()
    assert rig.ask("PUT", "/web/denied", body=b"content", token="read").status == 403
    assert ask(rig.sidecar.port, "PUT", "/web/denied", body=b"content").status == 401
    assert ask(rig.sidecar.port, "GET", "/web/denied").status == 401
    assert rig.stored() == before


@pytest.mark.parametrize("path", ["/web", "/web/", "/web/?list-type=2&prefix=", "/web?acl", "/web/?uploads"])
def test_no_request_is_about_the_bucket(rig: Rig, path: str) -> None:
    rig.ask("PUT", "/web/hidden-name", body=b"content")
    for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
        answer = rig.ask(method, path, body=b"<Delete/>" if method in ("PUT", "POST") else None)
        assert answer.status in (403, 404, 405)
        assert b"hidden-name" not in answer.body
    assert rig.stored()["team/hidden-name"] == b"content"


def test_orders_to_s3_end_here(rig: Rig) -> None:
    rig.ask("PUT", "/web/source", body=b"source")
    copied = rig.ask("PUT", "/web/copied", {"x-amz-copy-source": f"/{rig.bucket}/team/source"}, b"content")
    assert copied.status == 403
    signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-SignedHeaders=host&versionId=1"
    assert rig.ask("GET", f"/web/source?{signed}").body == b"source"
    orders = {"x-amz-acl": "public-read", "x-amz-tagging": "a=b", "x-amz-storage-class": "GLACIER", "x-amz-odd": "1"}
    assert rig.ask("PUT", "/web/ordered", orders, b"content").status == 200
    answer = rig.ask("GET", "/web/ordered")
    assert answer.body == b"content"
    assert not [name for name, _ in answer.headers if name.startswith("x-amz-")]


def test_large_bodies_pass_both_ways(rig: Rig) -> None:
    body = b"".join(number.to_bytes(8, "big") for number in range(3 * MiB))
    assert rig.ask("PUT", "/web/large", body=body).status == 200
    answer = rig.ask("GET", "/web/large")
    assert answer.header("content-length") == str(len(body))
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_a_body_in_chunks_is_told_what_to_send_and_is_not_invited(rig: Rig) -> None:
    answer = rig.ask("PUT", "/web/chunked", body=iter([b"con", b"tent"]))
    assert (answer.status, answer.reason) == (411, "length_required")
    connection = http.client.HTTPConnection("127.0.0.1", rig.sidecar.port, timeout=20)
    connection.putrequest("PUT", "/web/chunked")
    for name, value in {
        **bearer(rig.tokens["web"]),
        "Transfer-Encoding": "chunked",
        "Expect": "100-continue",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 411, "and no 100 before it"
    connection.close()


def test_of_many_that_write_a_new_key_once_at_most_one_does(rig: Rig) -> None:
    def put(number: int) -> Answer:
        return rig.ask("PUT", "/once/key", body=b"%d" % number, token="once")

    first = put(0)
    assert first.status == 200
    again = put(1)
    assert (again.status, again.reason) == (409, "exists")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda number: rig.ask("PUT", "/once/raced", body=b"%d" % number, token="once"), range(8))
        )
    won = [number for number, answer in enumerate(answers) if answer.status == 200]
    assert {answer.status for answer in answers} <= {200, 409}
    if rig.server.conditional_writes:
        assert len(won) == 1
    assert rig.stored()["once/raced"] in [b"%d" % number for number in won]


def test_turborepo_has_its_headers_back(rig: Rig) -> None:
    kept = {"x-artifact-tag": "c2lnbmF0dXJl", "x-artifact-duration": "1234"}
    sent = {**kept, "Content-Type": "application/octet-stream"}
    assert rig.ask("PUT", "/turbo/v8/artifacts/0123456789abcdef", sent, b"artifact").status in (200, 202)
    got = rig.ask("GET", "/turbo/v8/artifacts/0123456789abcdef")
    assert (got.status, got.body) == (200, b"artifact")
    assert {name: got.header(name) for name in kept} == kept


def test_webdav_clients_find_their_folders(rig: Rig) -> None:
    assert rig.ask("MKCOL", "/dav/cache/").status == 201
    assert rig.ask("PUT", "/dav/cache/object", body=b"content").status == 200
    folder = rig.ask("PROPFIND", "/dav/cache/", {"Depth": "0"})
    assert (folder.status, b"<D:href>/dav/cache/</D:href>" in folder.body) == (207, True)
    assert b"getcontentlength" in rig.ask("PROPFIND", "/dav/cache/object", {"Depth": "0"}).body


def test_new_keys_are_taken_without_a_restart(s3_server: S3Server, tmp_path: Path) -> None:
    rig = Rig(tmp_path, s3_server)
    try:
        assert rig.ask("PUT", "/web/key", body=b"content").status == 200
        (tmp_path / "secret").write_text("another-secret")
        refused = until(lambda: answer if (answer := rig.ask("GET", "/web/key")).status != 200 else None)
        assert (refused.status, refused.reason) == (502, "upstream_credentials")
        assert "another-secret" not in refused.body.decode()
        (tmp_path / "secret").write_text(s3_server.secret_key)
        until(lambda: rig.ask("GET", "/web/key").status == 200)
    finally:
        rig.sidecar.stop()


def test_keys_of_a_role_reach_a_store_over_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("store", "sidecar"):
        (tmp_path / folder).mkdir()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("pod-token")
    roles = Roles()
    with versitygw(tmp_path / "store", tls=True) as server:
        # It knows no session tokens, and takes what is signed for as it stands.
        roles.keys = (server.access_key, server.secret_key, "", 3600.0)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{roles.port}/")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        bucket = server.bucket()
        sidecar = SidecarProcess(
            tmp_path / "sidecar", upstreams=upstream(server, bucket, "{source: aws}"), policies={"web.yaml": POLICY}
        )
        try:
            token = sidecar.start().token()
            assert ask(sidecar.port, "PUT", "/web/key", bearer(token), b"content").status == 200
            assert ask(sidecar.port, "GET", "/web/key", bearer(token)).body == b"content"
            assert server.stored(bucket) == {"team/key": b"content"}
            assert sidecar.metric('sidecar_upstream_key_refreshes_total{result="ok",upstream="bucket"}') == 1
        finally:
            sidecar.stop()
            roles.close()
    assert set(roles.asked) == {"pod-token"}
