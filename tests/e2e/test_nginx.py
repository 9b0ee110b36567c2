"""nginx as it is shipped, behind its own password: what reaches it, and that a client gets what nginx itself would have said."""

import itertools
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.nginx import USER, NginxStore
from tests.e2e.process import SidecarProcess

POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: artifacts, upstream_path: /store}
  - {path: /sock, client: plain, upstream: by_socket, upstream_path: /socket}
  - {path: /locked, client: plain, upstream: wrong_password, upstream_path: /locked}
ci_tokens: read-write
rules:
  - {name: ci deletes, allow: [delete], kinds: [ci]}
"""
BODY = bytes(range(256)) * 40
COMPARED = ("content-length", "content-type", "content-range", "accept-ranges", "etag", "last-modified", "location")
"""What nginx says of an object and of what it did with it."""


class Rig:
    """`/web/KEY` through the sidecar and `/store/KEY` at nginx itself are the same object."""

    def __init__(self, sidecar: SidecarProcess, nginx: NginxStore) -> None:
        self.sidecar, self.nginx = sidecar, nginx
        self.token = sidecar.token()
        self.reader = sidecar.token(permissions=("read",))

    def through(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        route: str = "/web",
    ) -> Answer:
        return ask(self.sidecar.port, method, f"{route}/{key}", {**bearer(self.token), **(headers or {})}, body)

    def direct(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
    ) -> Answer:
        sent = {**basic(USER, self.nginx.password), **(headers or {})}
        return ask(self.nginx.port, method, f"/store/{key}", sent, body)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("nginx")
    (folder / "store").mkdir()
    nginx = NginxStore(folder / "store")
    (folder / "wrong").write_text("not the store's password")
    credentials = f"credentials: {{basic: {{username: {USER}, password_file: ./store/password}}}}"
    sidecar = SidecarProcess(
        folder,
        upstreams=f"""
  artifacts: {{url: "http://127.0.0.1:{nginx.port}", {credentials}}}
  by_socket: {{url: "unix:{nginx.socket}", {credentials}}}
  wrong_password: {{url: "http://127.0.0.1:{nginx.port}", {credentials.replace("./store/password", "./wrong")}}}
""",
        policies={"web.yaml": POLICY},
        more="carriers: {headers: [X-Api-Key]}\nlimits: {drain_delay: 0s}",
    )
    try:
        yield Rig(sidecar.start(), nginx)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        nginx.stop()


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.nginx.empty()
    store = running.nginx.files / "store"
    store.mkdir()
    (store / "stored").write_bytes(BODY)
    (store / "page.html").write_bytes(b"<p>a page</p>")
    (store / "with space+plus").write_bytes(b"odd name")
    (store / "folder").mkdir()
    (store / "folder" / "inside").write_bytes(b"inside")
    return running


# --- what a client gets is what nginx says ------------------------------------------------------------------------------------


def compare(mediated: Answer, direct: Answer) -> None:
    assert mediated.status == direct.status
    assert {name: mediated.header(name) for name in COMPARED} == {name: direct.header(name) for name in COMPARED}
    assert mediated.body == direct.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("stored", {}, 200),
        ("stored?a=1&b=%2F", {}, 200),
        ("page.html", {}, 200),
        ("with%20space+plus", {}, 200),
        ("folder/inside", {}, 200),
        ("missing", {}, 404),
        ("folder/missing", {}, 404),
        ("stored/below", {}, 404),
        ("folder/", {}, 403),
        ("stored", {"Range": "bytes=0-0"}, 206),
        ("stored", {"Range": "bytes=100-999"}, 206),
        ("stored", {"Range": "bytes=-5"}, 206),
        ("stored", {"Range": "bytes=10230-"}, 206),
        ("stored", {"Range": "bytes=99999-"}, 416),
        ("stored", {"Range": "nonsense"}, 200),
        ("stored", {"If-None-Match": '"another"'}, 200),
        ("stored", {"If-None-Match": "*"}, 304),
        ("stored", {"If-Match": '"another"'}, 412),
        ("stored", {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ("stored", {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
        ("stored", {"If-Range": '"another"', "Range": "bytes=0-9"}, 200),
    ],
)
def test_a_read_is_answered_as_nginx_answers_it(
    rig: Rig, method: str, key: str, headers: dict[str, str], status: int
) -> None:
    mediated = rig.through(method, key, headers)
    assert mediated.status == status
    compare(mediated, rig.direct(method, key, headers))


def test_several_ranges_come_as_nginx_sends_them(rig: Rig) -> None:
    """Its boundary is a counter, so the parts are compared without it."""
    mediated, direct = (side("GET", "stored", {"Range": "bytes=0-3,10-13"}) for side in (rig.through, rig.direct))
    assert mediated.status == direct.status == 206
    boundaries = [(answer.header("content-type") or "").partition("boundary=")[2] for answer in (mediated, direct)]
    assert all(boundaries)
    assert mediated.body.replace(boundaries[0].encode(), b"") == direct.body.replace(boundaries[1].encode(), b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_has_not_changed_is_a_304(rig: Rig, method: str) -> None:
    known = rig.direct("GET", "stored")
    for headers in (
        {"If-None-Match": known.header("etag") or ""},
        {"If-Modified-Since": known.header("last-modified") or ""},
    ):
        mediated = rig.through(method, "stored", headers)
        assert mediated.status == 304
        compare(mediated, rig.direct(method, "stored", headers))


def test_a_redirect_within_the_route_names_the_path_that_the_client_knows(rig: Rig) -> None:
    mediated, direct = rig.through("GET", "folder"), rig.direct("GET", "folder")
    assert mediated.status == direct.status == 301
    assert direct.header("location") == f"http://127.0.0.1:{rig.nginx.port}/store/folder/"
    assert mediated.header("location") == "/web/folder/"


def pieces(body: bytes, size: int = 1000) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", [b"", b"x", BODY, BODY * 300])
def test_a_write_is_answered_as_nginx_answers_it_and_stores_the_same(rig: Rig, body: bytes, chunked: bool) -> None:
    for expected in (201, 204):  # created, then replaced
        mediated = rig.through("PUT", "new/through", body=pieces(body) if chunked else body)
        direct = rig.direct("PUT", "new/direct", body=pieces(body) if chunked else body)
        assert mediated.status == direct.status == expected
        assert mediated.header("content-length") == direct.header("content-length")
        assert mediated.body == direct.body
        location = direct.header("location")
        assert mediated.header("location") == (location and "/web/new/through")
        stored = rig.nginx.stored()
        assert stored["store/new/through"] == stored["store/new/direct"] == body


def test_a_delete_is_answered_as_nginx_answers_it(rig: Rig) -> None:
    (rig.nginx.files / "store" / "twin").write_bytes(BODY)
    for expected in (204, 404):  # deleted, then gone
        mediated, direct = rig.through("DELETE", "stored"), rig.direct("DELETE", "twin")
        assert mediated.status == direct.status == expected
        assert mediated.body == direct.body
    assert not {"store/stored", "store/twin"} & set(rig.nginx.stored())


def test_an_expected_body_is_invited_and_stored(rig: Rig) -> None:
    with rig.sidecar.connect() as connection:
        connection.sendall(
            b"PUT /web/expected HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
            b"Content-Length: 4\r\nAuthorization: Bearer " + rig.token.encode() + b"\r\n\r\n"
        )
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert read_to_the_end(connection).startswith(b"HTTP/1.1 201 ")
    assert rig.nginx.stored()["store/expected"] == b"body"


def read_to_the_end(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def test_what_was_written_is_read_back_over_the_socket(rig: Rig) -> None:
    assert rig.through("PUT", "deep/er/key", body=BODY, route="/sock").status == 201
    assert rig.nginx.stored()["socket/deep/er/key"] == BODY
    assert rig.through("GET", "deep/er/key", route="/sock").body == BODY
    assert rig.through("DELETE", "deep/er/key", route="/sock").status == 204
    assert "socket/deep/er/key" not in rig.nginx.stored()


# --- who may, and what nginx learns of them --------------------------------------------------------------------------------------


def sent_by_the_sidecar(rig: Rig) -> str:
    return basic(USER, rig.nginx.password)["Authorization"]


def test_the_sidecar_sends_the_stores_password_in_place_of_every_kind_of_client_credential(rig: Rig) -> None:
    carriers: list[dict[str, str]] = [
        bearer(rig.token),
        {"Authorization": f"Bearer: {rig.token}"},
        {"Authorization": f"bearer {rig.token}"},
        basic("anybody", rig.token),
        basic("", rig.token),
        {"X-Api-Key": rig.token},
        {"X-Api-Key": f"Bearer {rig.token}"},
        {**bearer(rig.token), "Cookie": f"session={rig.token}", "Proxy-Authorization": f"Bearer {rig.token}"},
    ]
    for number, headers in enumerate(carriers):
        key = f"carried-{number}"
        (rig.nginx.files / "store" / key).write_bytes(BODY)
        assert ask(rig.sidecar.port, "GET", f"/web/{key}", headers).body == BODY, headers
        assert ask(rig.sidecar.port, "DELETE", f"/web/{key}", headers).status == 204, headers
        for seen in rig.nginx.seen(f"/store/{key}"):
            assert seen.authorization == sent_by_the_sidecar(rig)
            assert seen.headers.split() == []


def test_nothing_that_nginx_wrote_down_holds_a_clients_token(rig: Rig) -> None:
    rig.through("GET", "last-of-all")
    rig.nginx.seen("/store/last-of-all")
    logged = rig.nginx.log + (rig.nginx.folder / "stderr").read_text()
    for token in (rig.token, rig.reader):
        assert token not in logged
        assert token.rpartition("_")[2] not in logged
        assert basic("anybody", token)["Authorization"].partition(" ")[2] not in logged


def logged_by_now(rig: Rig) -> str:
    """Nginx writes down in order what it was asked, a moment after it has answered; the last line is what this asks itself."""
    mark = f"mark-{next(MARKS)}"
    rig.through("GET", mark)
    rig.nginx.seen(f"/store/{mark}")
    return rig.nginx.log


MARKS = itertools.count()


@pytest.mark.parametrize(("method", "body"), [("PUT", b"new"), ("POST", b"new"), ("PATCH", b"new"), ("DELETE", None)])
@pytest.mark.parametrize("key", ["stored", "not-there-yet"])
def test_a_read_only_token_changes_nothing(rig: Rig, method: str, body: bytes | None, key: str) -> None:
    before, asked_before = rig.nginx.stored(), logged_by_now(rig)
    refused = rig.through(method, key, bearer(rig.reader), body)
    assert (refused.status, refused.reason) == (403, "token_limit")
    assert rig.through("GET", "stored", bearer(rig.reader)).body == BODY
    assert rig.nginx.stored() == before
    assert logged_by_now(rig).removeprefix(asked_before).count("\n") == 2, "nginx was asked for what was refused"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_a_caller_without_a_token_is_told_both_ways_to_send_one_each_on_its_line(rig: Rig, method: str) -> None:
    refused = ask(rig.sidecar.port, method, "/web/stored", body=b"x" if method == "PUT" else None)
    assert (refused.status, refused.reason) == (401, "no_token")
    bearer_line, basic_line = refused.all("www-authenticate")
    assert bearer_line == 'Bearer realm="web"'
    assert basic_line == 'Basic realm="web", charset="UTF-8"'
    assert rig.nginx.stored()["store/stored"] == BODY


@pytest.mark.parametrize(
    "headers",
    [
        bearer("not-a-token"),
        bearer(""),
        basic("anybody", "wrong"),
        {"X-Api-Key": "wrong"},
        {"Authorization": "Negotiate abc"},
    ],
)
def test_a_bad_token_is_never_anonymous_and_never_the_stores_own(rig: Rig, headers: dict[str, str]) -> None:
    refused = rig.through("GET", "stored", headers) if "Authorization" in headers else None
    refused = refused or ask(rig.sidecar.port, "GET", "/web/stored", headers)
    assert (refused.status, refused.reason) == (401, "bad_token")


def test_the_stores_own_password_opens_nothing_here(rig: Rig) -> None:
    refused = ask(rig.sidecar.port, "GET", "/web/stored", basic(USER, rig.nginx.password))
    assert (refused.status, refused.reason) == (401, "bad_token")


def test_a_wrong_password_for_the_store_is_our_fault_and_not_the_callers(rig: Rig) -> None:
    refused = rig.through("GET", "stored", route="/locked")
    assert (refused.status, refused.reason) == (502, "upstream_credentials")
    assert refused.all("www-authenticate") == []
    refused = rig.through("PUT", "stored", body=BODY, route="/locked")
    assert (refused.status, refused.reason) == (502, "upstream_credentials")
    assert all(seen.status == "401" for seen in rig.nginx.seen("/locked/stored"))


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
@pytest.mark.parametrize("key", ["folder/", "", "/", "folder//"])
def test_a_whole_tree_is_never_at_stake(rig: Rig, method: str, key: str) -> None:
    """nginx would remove `folder/` with everything in it."""
    before, logged = rig.nginx.stored(), logged_by_now(rig)
    refused = rig.through(method, key, body=b"x" if method == "PUT" else None)
    assert (refused.status, refused.reason) in {(403, "key_required"), (400, "bad_target")}
    assert f'"{method} ' not in logged_by_now(rig).removeprefix(logged)
    assert rig.nginx.stored() == before


def test_nginx_would_indeed_remove_the_tree(rig: Rig) -> None:
    """What the test above is worth."""
    assert rig.direct("DELETE", "folder/").status == 204
    assert "store/folder/inside" not in rig.nginx.stored()


def test_a_folder_named_like_an_object_is_left_alone_by_nginx_itself(rig: Rig) -> None:
    assert rig.through("DELETE", "folder").status == rig.direct("DELETE", "folder").status == 409
    assert "store/folder/inside" in rig.nginx.stored()
