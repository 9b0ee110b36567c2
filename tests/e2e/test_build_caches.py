"""Clients of build caches over real stores: the embedded one, and an nginx as it is shipped. What they sent is in their transcripts."""

import base64
import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar import narinfo
from tests.e2e.asking import Answer, ask, bearer
from tests.e2e.nginx import USER, NginxStore
from tests.e2e.process import SidecarProcess, until
from tests.e2e.scripted_store import ScriptedStore, answer

CLIENTS = ("nx", "turborepo", "bazel", "gradle", "nix")
STORES = ("local", "http")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
SHA = hashlib.sha256(b"hello").hexdigest()


def routes(workspace: str) -> str:
    lines = [
        f"  - {{path: /{workspace}/{store}/{client}, client: {client}, upstream: {store}, upstream_path: /{workspace}-{client}}}\n"
        for store in STORES
        for client in CLIENTS
    ]
    lines += [
        f"  - {{path: /{workspace}/{store}/open, client: bazel, upstream: {store}, upstream_path: /{workspace}-open, cas_writes: open}}\n"
        f"  - {{path: /{workspace}/{store}/npm, client: plain, upstream: {store}, upstream_path: /{workspace}-npm}}\n"
        f"  - {{path: /{workspace}/{store}/dav, client: webdav, upstream: {store}, upstream_path: /{workspace}-dav}}\n"
        f"  - {{path: /{workspace}/{store}/lfs, client: plain, upstream: {store}, upstream_path: /{workspace}-lfs, content_address: sha256}}\n"
        for store in STORES
    ]
    return "routes:\n" + "".join(lines)


POLICIES = {
    "web.yaml": f"workspace: web\n{routes('web')}ci_tokens: read-write\nrules:\n"
    "  - {name: hidden, deny: [read], path: '**/hidden*'}\n"
    "  - {name: no blobs, deny: [write], path: cas/0000000000000000000000000000000000000000000000000000000000000000}\n",
    "once.yaml": f"workspace: once\n{routes('once')}ci_tokens: read-write\nwrite_once: true\n",
    "signed.yaml": f"workspace: signed\n{routes('signed')}ci_tokens: read-write\n"
    f"settings: {{trusted_public_keys: 'other-1:{PUBLIC} cache-1:{PUBLIC}'}}\n",
}


class Rig:
    def __init__(self, sidecar: SidecarProcess, nginx: NginxStore) -> None:
        self.sidecar, self.nginx = sidecar, nginx
        self.tokens = {name: sidecar.token(workspaces=(name,)) for name in ("web", "once", "signed")}
        self.reader = sidecar.token(permissions=("read",))
        self.once_reader = sidecar.token(permissions=("read",), workspaces=("once",))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        token = token or self.tokens[path.split("/")[1]]
        return ask(self.sidecar.port, method, path, {**bearer(token), **(headers or {})}, body)

    def stored(self, path: str) -> bytes | None:
        """What nginx has there."""
        return self.nginx.stored().get(path)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("caches")
    (folder / "store").mkdir()
    nginx = NginxStore(folder / "store")
    sidecar = SidecarProcess(
        folder,
        upstreams=f"""
  local: {{url: "file://./data"}}
  http:
    url: "http://127.0.0.1:{nginx.port}"
    credentials: {{basic: {{username: {USER}, password_file: ./store/password}}}}
""",
        policies=POLICIES,
        more="limits: {drain_delay: 0s}",
    )
    try:
        sidecar.start()
        yield Rig(sidecar, nginx)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        nginx.stop()


stores = pytest.mark.parametrize("store", STORES)
KEYS = {
    "nx": "v1/cache/6609577577089188924",
    "turborepo": "v8/artifacts/14f7607fa8463799",
    "bazel": f"ac/{SHA}",
    "gradle": "360566a6089c428c9e1dfa44902419f3",
    "nix": "nar/19819j8j3l6rmz11w6374g41c502xpp40k2rif67z208968df73v.nar.xz",
    "npm": "acme/lib-1.0.jar",
    "dav": "2/0/9/209abc",
}


@stores
@pytest.mark.parametrize("client", CLIENTS)
def test_a_miss_a_write_and_a_hit(rig: Rig, store: str, client: str) -> None:
    path = f"/web/{store}/{client}/{KEYS[client]}"
    assert rig.ask("GET", path).status == 404
    assert rig.ask("HEAD", path).status == 404
    written = rig.ask("PUT", path, b"archive", {"Content-Type": "application/octet-stream"})
    assert written.status in ((200,) if client in ("nx", "turborepo") else (200, 201, 204))
    hit = rig.ask("GET", path)
    assert (hit.status, hit.body) == (200, b"archive")
    assert rig.ask("HEAD", path).header("content-length") == "7"
    if store == "http":
        assert rig.stored(f"web-{client}/{KEYS[client]}") == b"archive"


@stores
def test_nx_with_a_slash_at_the_end_of_its_server_s_address(rig: Rig, store: str) -> None:
    assert rig.ask("PUT", f"/web/{store}/nx//v1/cache/77", b"x").status == 200
    assert rig.ask("GET", f"/web/{store}/nx/v1/cache/77").body == b"x"
    assert rig.ask("GET", f"/web/{store}/nx/v1//cache/77").status == 404
    assert rig.ask("GET", f"/web/{store}/nx///v1/cache/77").status == 404


@stores
def test_what_each_client_hears_when_its_key_is_taken(rig: Rig, store: str) -> None:
    expected = {"nx": 409, "turborepo": 409, "bazel": 409, "gradle": 413, "nix": 409, "npm": 409, "dav": 412}
    for client, status in expected.items():
        path = f"/once/{store}/{client}/{KEYS[client]}"
        assert rig.ask("PUT", path, b"first").status in (200, 201, 204)
        again = rig.ask("PUT", path, b"second")
        assert (again.status, again.reason) == (status, "exists"), client
        assert rig.ask("GET", path).body == b"first"
        may_not = rig.ask("PUT", path, b"second", token=rig.once_reader)
        assert (may_not.status, may_not.reason) == (403, "token_limit"), (
            "whoever may not write isn't told what is there"
        )


@stores
def test_a_blob_may_be_written_again_as_it_can_only_be_the_same(rig: Rig, store: str) -> None:
    path = f"/once/{store}/bazel/cas/{SHA}"
    for _ in range(2):
        assert rig.ask("PUT", path, b"hello").status in (200, 201, 204)
    assert rig.ask("PUT", path, b"hullo").status == 400


@stores
def test_refused_writes(rig: Rig, store: str) -> None:
    for client, status in {"nx": 403, "turborepo": 403, "bazel": 403, "gradle": 403, "nix": 403}.items():
        path = f"/web/{store}/{client}/{KEYS[client]}x" if client != "nix" else f"/web/{store}/nix/nar/x.nar"
        assert rig.ask("PUT", path, b"x", token=rig.reader).status == status
        assert rig.ask("GET", path).status == 404


def test_an_anonymous_or_unknown_write_never_breaks_an_nx_build(rig: Rig) -> None:
    path = "/web/local/nx/v1/cache/9"
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer nonsense"}):
        refused = ask(rig.sidecar.port, "PUT", path, headers, b"x")
        assert refused.status == 403
        read = ask(rig.sidecar.port, "GET", path, headers)
        assert (read.status, len(read.all("www-authenticate"))) == (401, 2)
        assert b"token" in read.body
        assert read.header("content-type") == "text/plain"  # to the letter, or Nx doesn't show it


def test_who_may_not_read_has_a_miss_in_nx(rig: Rig) -> None:
    missed = rig.ask("GET", "/web/local/nx/v1/cache/hidden1")
    assert (missed.status, missed.reason) == (404, "rule_deny")


# --- Turborepo


@stores
def test_artifact_headers_come_back_from_every_store(rig: Rig, store: str) -> None:
    path = f"/web/{store}/turborepo/v8/artifacts/aaaa"
    sent = {"x-artifact-tag": "WeGnh5Cl3G6A=", "x-artifact-duration": "205", "x-artifact-sha": "a5171c"}
    assert rig.ask("PUT", f"{path}?slug=web", b"zstd", sent).status == 200
    for method in ("GET", "HEAD"):
        hit = rig.ask(method, f"{path}?teamId=web")
        assert {name: hit.header(name) for name in sent} == sent
    # A later upload without a signature must not come with the former one's.
    assert rig.ask("PUT", f"{path}?slug=web", b"other", {"x-artifact-duration": "7"}).status == 200
    hit = rig.ask("GET", path)
    assert (hit.body, hit.header("x-artifact-tag"), hit.header("x-artifact-duration")) == (b"other", None, "7")
    assert rig.ask("GET", f"{path}.headers").status == 403
    assert rig.ask("PUT", f"{path}.headers", b"x-artifact-tag: forged").status == 403


def test_the_headers_of_an_upload_that_was_refused_stay_away(rig: Rig) -> None:
    path = "/once/http/turborepo/v8/artifacts/bbbb"
    assert rig.ask("PUT", path, b"first", {"x-artifact-tag": "mine"}).status == 200
    assert rig.ask("PUT", path, b"second", {"x-artifact-tag": "theirs"}).status == 409
    assert rig.ask("GET", path).header("x-artifact-tag") == "mine"


def test_what_turborepo_asks_of_the_server_itself(rig: Rig) -> None:
    base = "/web/http/turborepo/v8/artifacts"
    status = rig.ask("GET", f"{base}/status?slug=web", token=rig.reader)
    assert (status.status, json.loads(status.body)) == (200, {"status": "enabled"})
    events = rig.ask("POST", f"{base}/events?slug=web", b"[{}]" * 1000, token=rig.reader)
    assert (events.status, events.body) == (200, b"{}")
    preflight = rig.ask("OPTIONS", f"{base}/1?slug=web")
    assert preflight.status == 204
    assert "authorization" in (preflight.header("access-control-allow-headers") or "").lower()
    anonymous = ask(rig.sidecar.port, "GET", f"{base}/status?slug=web")
    assert anonymous.status == 401
    assert json.loads(anonymous.body)["error"]["code"] == "no_token"
    assert json.loads(rig.ask("PUT", f"{base}/1", b"", token=rig.reader).body)["error"] == {
        "code": "remote_caching_disabled",
        "message": "The token itself was made for less than this; create one with this scope. (token_limit)",
    }
    assert json.loads(rig.ask("GET", f"{base}/0").body)["error"]["code"] == "not_found"
    assert not rig.nginx.stored().keys() & {"web-turborepo/v8/artifacts/status", "web-turborepo/v8/artifacts/events"}


@stores
def test_a_query_for_many_artifacts(rig: Rig, store: str) -> None:
    base = f"/web/{store}/turborepo/v8/artifacts"
    for name in ("c1", "hidden-c2"):
        assert rig.ask("PUT", f"{base}/{name}", b"12345", {"x-artifact-duration": "5"}).status == 200
    asked = json.dumps({"hashes": ["c1", "c1", "hidden-c2", "c3"]}).encode()
    answer = rig.ask("POST", f"{base}?slug=web", asked, token=rig.reader)
    found = json.loads(answer.body)
    assert (answer.status, found["c1"]["size"], found["hidden-c2"], found["c3"]) == (200, 5, None, None)
    for bad in (b"", b"[]", b'{"hashes": ["../x"]}', b'{"hashes": ["status"]}', b'{"hashes": 1}'):
        refused = rig.ask("POST", base, bad)
        assert (refused.status, refused.reason) == (400, "malformed_body"), bad


@pytest.mark.parametrize(
    "query",
    ["teamId=once", "slug=once", "team=once", "slug=web&slug=once", "team_id=once", "%74eamId=once", "teamId=web;slug=once", "slug=Web", "slug="],
)  # fmt: skip
def test_another_team_in_the_query(rig: Rig, query: str) -> None:
    for method in ("GET", "PUT"):
        refused = rig.ask(method, f"/web/local/turborepo/v8/artifacts/1?{query}", b"" if method == "PUT" else None)
        assert (refused.status, refused.reason) == (403, "wrong_workspace")


# --- What a key proves


@stores
@pytest.mark.parametrize("place", ["bazel/cas", "open/cas", "lfs"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_not_its_key_never_becomes_visible(rig: Rig, store: str, place: str, chunked: bool) -> None:
    good = f"{store} {place} {chunked}".encode() + b"x" * 300_000
    name = hashlib.sha256(good).hexdigest()
    path = f"/web/{store}/{place}/{name}"

    def sent(body: bytes) -> bytes | Iterator[bytes]:
        return iter([body[:100_000], body[100_000:]]) if chunked else body

    for bad in (good[:-1] + b"y", b"y" + good[1:], good + b"x", good[:-1], b"x", b""):
        refused = rig.ask("PUT", path, sent(bad))
        assert (refused.status, refused.reason) == (400, "body_mismatch")
        assert rig.ask("GET", path).status == 404
    assert not any(name in key for key in rig.nginx.stored())
    assert rig.ask("PUT", path, sent(good)).status in (200, 201, 204)
    assert rig.ask("GET", path).body == good
    assert rig.ask("PUT", path, sent(good[:-1] + b"y")).status == 400
    assert rig.ask("GET", path).body == good
    assert rig.ask("DELETE", path).status == 403


@stores
def test_nothing_has_a_digest_too(rig: Rig, store: str) -> None:
    path = f"/web/{store}/bazel/cas/{hashlib.sha256().hexdigest()}"
    assert rig.ask("PUT", path, b"").status in (200, 201, 204)
    assert (rig.ask("GET", path).status, rig.ask("GET", path).body) == (200, b"")
    assert rig.ask("PUT", f"/web/{store}/bazel/cas/{SHA}", b"").status == 400


@pytest.mark.parametrize("name", [SHA.upper(), SHA[:63], f"%{ord(SHA[0]):x}{SHA[1:-1]}"])
def test_a_digest_in_another_form_is_no_key(rig: Rig, name: str) -> None:
    refused = rig.ask("PUT", f"/web/http/bazel/cas/{name}", b"hello")
    assert (refused.status, refused.reason) == (400, "body_mismatch")


@stores
def test_whoever_reads_may_write_what_is_proved_and_nothing_else(rig: Rig, store: str) -> None:
    blob = f"/web/{store}/open/cas/{SHA}"
    assert rig.ask("PUT", f"/web/{store}/bazel/cas/{SHA}", b"hello", token=rig.reader).status == 403
    assert rig.ask("PUT", blob, b"hullo", token=rig.reader).status == 400
    assert rig.ask("PUT", blob, b"hello", token=rig.reader).status in (200, 201, 204)
    assert rig.ask("GET", blob, token=rig.reader).body == b"hello"
    for action in (f"ac/{SHA}", f"ac/cas/../{SHA}", f"cas/ac/{SHA}", f"cas%2f../ac/{SHA}", f"cas/{SHA}/ac/{SHA}"):
        refused = rig.ask("PUT", f"/web/{store}/open/{action}", b"hello", token=rig.reader)
        assert refused.status in (400, 403), action
    assert rig.ask("DELETE", blob, token=rig.reader).status == 403
    # A deny rule on writing binds them as well.
    assert rig.ask("PUT", f"/web/{store}/open/cas/{'0' * 64}", b"x", token=rig.reader).reason == "rule_deny"
    anonymous = ask(rig.sidecar.port, "PUT", blob, {}, b"hello")
    assert anonymous.status == 401
    writes = [record for record in rig.sidecar.audit() if record.get("request", {}).get("path") == blob]
    assert writes


def test_a_mismatch_that_ends_early_leaves_nothing(rig: Rig) -> None:
    """The client leaves before its last byte: nothing was proved, nothing is stored."""
    body = b"z" * 200_000
    path = f"/web/http/bazel/cas/{hashlib.sha256(body).hexdigest()}"
    with contextlib.closing(socket.create_connection(("127.0.0.1", rig.sidecar.port), timeout=20)) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rig.tokens['web']}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:-1])
        until(lambda: any(path in str(record) for record in rig.sidecar.audit()))
    assert rig.ask("GET", path).status == 404


# --- Nix


def info(
    name: str = "42xcnx1kddnj0ijayfjbsdf2vxx4l25v", *, key: str = "cache-1", signed: bool = True, **more: str
) -> bytes:
    fields = {
        "StorePath": f"/nix/store/{name}-hello",
        "URL": "nar/x.nar.xz",
        "NarHash": "sha256:" + narinfo.to_base32(hashlib.sha256(b"nar").digest()),
        "NarSize": "120",
        "References": f"{name}-hello",
        **more,
    }
    fingerprint = f"1;{fields['StorePath']};{fields['NarHash']};{fields['NarSize']};/nix/store/{fields['References']}"
    lines = [f"{field}: {value}" for field, value in fields.items()]
    if signed:
        lines.append(f"Sig: {key}:{base64.b64encode(KEY.sign(fingerprint.encode())).decode()}")
    return ("\n".join(lines) + "\n").encode()


@stores
def test_a_narinfo_that_no_trusted_key_signed_is_neither_taken_nor_served(rig: Rig, store: str) -> None:
    name = "42xcnx1kddnj0ijayfjbsdf2vxx4l25v"
    path = f"/signed/{store}/nix/{name}.narinfo"
    other = info("0" * 32)
    for bad in (
        info(signed=False),
        info(key="cache-2"),
        other,
        info() + b"NarSize: 1\n",
        info().replace(b"120", b"121"),
        b"",
    ):
        refused = rig.ask("PUT", path, bad)
        assert (refused.status, refused.reason) == (403, "untrusted_narinfo")
    assert rig.ask("GET", path).status == 404
    assert rig.ask("PUT", path, info(), {"Content-Type": "text/x-nix-narinfo"}).status in (200, 201, 204)
    hit = rig.ask("GET", path, headers={"Range": "bytes=0-3", "Accept-Encoding": "gzip"})
    assert (hit.status, hit.body) == (200, info())
    seen = rig.ask("HEAD", path)
    assert (seen.status, seen.header("content-length"), seen.body) == (200, str(len(info())), b"")


def test_a_narinfo_that_got_into_the_store_past_us_is_absent(rig: Rig) -> None:
    name = "1" * 32
    place = rig.nginx.files / "signed-nix"
    place.mkdir(exist_ok=True)
    (place / f"{name}.narinfo").write_bytes(info(name, signed=False))
    for method in ("GET", "HEAD"):
        refused = rig.ask(method, f"/signed/http/nix/{name}.narinfo")
        assert (refused.status, refused.reason) == (404, "untrusted_narinfo")
        assert b"StorePath" not in refused.body
    (place / f"{name}.narinfo").write_bytes(info(name))
    assert rig.ask("GET", f"/signed/http/nix/{name}.narinfo").status == 200


@stores
def test_nix_cache_info_is_there_for_whoever_may_read(rig: Rig, store: str) -> None:
    path = f"/web/{store}/nix/nix-cache-info"
    answer = rig.ask("GET", path, token=rig.reader)
    assert (answer.status, answer.body.splitlines()[0]) == (200, b"StoreDir: /nix/store")
    assert ask(rig.sidecar.port, "GET", path).status == 401
    assert rig.ask("PUT", path, b"StoreDir: /nix/store\n", token=rig.reader).status == 403
    assert rig.ask("PUT", path, b"StoreDir: /nix/store\nPriority: 10\n").status in (200, 201, 204)
    assert b"Priority: 10" in rig.ask("GET", path).body


# --- A store that is away, or ill


def test_each_client_in_an_outage(tmp_path: Path) -> None:
    store = ScriptedStore(answer(b"HTTP/1.1 500 Broken\r\nContent-Length: 4\r\n\r\noops"))
    lines = "".join(
        f"  - {{path: /web/{upstream}/{client}, client: {client}, upstream: {upstream}, upstream_path: /{client}}}\n"
        for upstream in ("ill", "away")
        for client in CLIENTS
    )
    sidecar = SidecarProcess(
        tmp_path,
        upstreams=f'  ill: {{url: "http://127.0.0.1:{store.port}"}}\n  away: {{url: "unix:/nonexistent/socket"}}\n',
        policies={"web.yaml": f"workspace: web\nroutes:\n{lines}ci_tokens: read-write\n"},
        more="limits: {drain_delay: 0s}",
    )
    expected = {
        "nx": (404, 403),
        "turborepo": (502, 502),
        "bazel": (None, None),
        "gradle": (None, None),
        "nix": (503, 424),
    }
    try:
        sidecar.start()
        token = sidecar.token()
        for upstream in ("ill", "away"):
            for client, (read, write) in expected.items():
                path = f"/web/{upstream}/{client}/{KEYS[client]}"
                got = ask(sidecar.port, "GET", path, bearer(token))
                put = ask(sidecar.port, "PUT", path, bearer(token), b"x")
                assert got.status == read or (read is None and got.status >= 500), (client, upstream)
                assert put.status == write or (write is None and put.status >= 500), (client, upstream)
                if client == "turborepo":
                    assert json.loads(got.body)["error"]["code"].startswith("upstream_")
                if client == "nix":
                    assert got.header("retry-after") == "2"
    finally:
        sidecar.kill()
        store.close()


def test_the_loser_of_a_race_hears_that_the_key_is_taken(rig: Rig) -> None:
    """Where the store looks once more. At an HTTP store without conditional writes the last one stays: docs/build-caches.md."""
    path = "/once/local/nx/v1/cache/777"
    token = rig.tokens["once"]
    with rig.sidecar.connect() as slow:
        head = f"PUT {path} HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\n"
        slow.sendall(head.encode() + b"EVI")
        until(
            lambda: any(
                record["stage"] == "intent" and record["request"]["path"] == path for record in rig.sidecar.audit()
            )
        )
        assert rig.ask("PUT", path, b"good").status == 200
        slow.sendall(b"L")
        assert slow.recv(100).startswith(b"HTTP/1.1 409 ")
    assert rig.ask("GET", path).body == b"good"


def test_the_evidence_of_a_blob_that_a_reader_wrote(rig: Rig) -> None:
    body = b"evidence"
    path = f"/web/local/open/cas/{hashlib.sha256(body).hexdigest()}"
    assert rig.ask("PUT", path, body, token=rig.reader).status in (200, 201, 204)
    stages = [record["stage"] for record in rig.sidecar.audit() if record["request"]["path"] == path]
    assert stages[0] == "intent"


def test_npm_s_names_travel_as_they_came(rig: Rig) -> None:
    assert rig.ask("GET", "/web/http/npm/@acme%2fdep").status == 404
    assert rig.nginx.seen("/web-npm/@acme%2fdep")
    assert rig.ask("PUT", "/web/local/npm/@acme%2fdep", b"{}").status == 201
    assert rig.ask("GET", "/web/local/npm/@acme%2Fdep").body == b"{}"
    assert rig.ask("GET", "/web/local/npm/acme%2fdep").status == 400


def test_who_is_asked_for_a_token_is_asked_twice(rig: Rig) -> None:
    """Maven answers a Basic challenge on a line of its own alone."""
    for client, key in {**KEYS, "npm": "a.pom", "lfs": SHA}.items():
        challenges = ask(rig.sidecar.port, "GET", f"/web/local/{client}/{key}").all("www-authenticate")
        assert [challenge.split(" ")[0] for challenge in challenges] == ["Bearer", "Basic"], client


@stores
def test_sccache_starts_a_second_time_where_keys_stay_as_they_are(rig: Rig, store: str) -> None:
    for _ in range(2):
        assert rig.ask("PUT", f"/once/{store}/dav/.sccache_check", b"Hello, World!").status in (201, 204)
    assert rig.ask("PUT", f"/once/{store}/dav/2/0/9/209b", b"object").status == 201
    assert rig.ask("PUT", f"/once/{store}/dav/2/0/9/209b", b"another").status == 412
