"""A WebDAV store as it is shipped, nginx with its module for PROPFIND: operations on trees, where they may go, and what is listed."""

import http.client
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import Answer, ask, basic, bearer
from tests.e2e.nginx import USER, NginxStore, sidecar_before_nginx
from tests.e2e.process import SidecarProcess, until
from tests.e2e.scripted_store import ScriptedStore, answer

POLICY = """
workspace: web
routes: [{path: /dav, client: webdav, upstream: artifacts, upstream_path: /store}]
ci_tokens: read-write
rules:
  - {name: ci deletes, allow: [delete], kinds: [ci]}
  - {name: kept, deny: [delete, overwrite], path: c/kept/**}
  - {name: no pins go, deny: [delete], path: plain/*}
  - {name: hidden, deny: [read], path: secrets/**}
"""
ONCE = """
workspace: once
routes: [{path: /once, client: webdav, upstream: artifacts, upstream_path: /once}]
ci_tokens: read-write
write_once: true
rules: [{name: ci deletes, allow: [delete], kinds: [ci]}]
"""
OUTER = """
workspace: outer
routes: [{path: /outer, client: webdav, upstream: artifacts, upstream_path: /outer}]
ci_tokens: read-write
shares: [inner]
rules: [{name: ci deletes, allow: [delete], kinds: [ci]}]
"""
INNER = """
workspace: inner
routes: [{path: /outer/team/inner, client: webdav, upstream: artifacts, upstream_path: /outer/team/inner}]
ci_tokens: read-write
"""


class Rig:
    def __init__(self, sidecar: SidecarProcess, nginx: NginxStore) -> None:
        self.sidecar, self.nginx = sidecar, nginx
        self.tokens = {name: sidecar.token(workspaces=(name,)) for name in ("web", "once", "outer")}
        self.origin = f"http://127.0.0.1:{sidecar.port}"

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        workspace = {"/dav": "web", "/onc": "once", "/out": "outer"}[path[:4]]
        return ask(self.sidecar.port, method, path, {**bearer(self.tokens[workspace]), **(headers or {})}, body)

    def direct(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return ask(self.nginx.port, method, path, {**basic(USER, self.nginx.password), **(headers or {})})

    def stored(self) -> dict[str, bytes]:
        return self.nginx.stored()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("webdav")
    policies = {"web.yaml": POLICY, "once.yaml": ONCE, "outer.yaml": OUTER, "inner.yaml": INNER}
    with sidecar_before_nginx(folder, policies, collections=True) as (sidecar, nginx):
        yield Rig(sidecar, nginx)


KEYS = (
    "store/a/one", "store/a/sub/two", "store/b/three", "store/c/kept/four", "store/secrets/key", "store/plain",
    "once/old/x", "once/new", "outer/team/inner/x", "outer/team/other", "outer/mine/y",
)  # fmt: skip


@pytest.fixture
def rig(running: Rig) -> Rig:
    running.nginx.empty()
    for key in KEYS:
        path = running.nginx.files / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key.encode())
    return running


def hrefs(answer: Answer) -> list[str]:
    assert answer.status == 207
    return sorted(found.text or "" for found in ET.fromstring(answer.body).iterfind("{DAV:}response/{DAV:}href"))


def same_but_mapped(mediated: Answer, direct: Answer) -> None:
    said = direct.body.decode().replace("/store/", "/dav/")
    assert ET.canonicalize(mediated.body.decode()) == ET.canonicalize(said)


# --- listings ------------------------------------------------------------------------------------------------------------------


def test_the_store_lists_its_own_paths_and_the_client_gets_those_it_asks_for(rig: Rig) -> None:
    direct = rig.direct("PROPFIND", "/store/a/", {"Depth": "1"})
    assert hrefs(direct) == ["/store/a/", "/store/a/one", "/store/a/sub/"], "hrefs carry the store's own path"
    mediated = rig.ask("PROPFIND", "/dav/a/", {"Depth": "1"})
    assert hrefs(mediated) == ["/dav/a/", "/dav/a/one", "/dav/a/sub/"]
    same_but_mapped(mediated, direct)
    assert mediated.header("content-length") == str(len(mediated.body))
    assert mediated.header("content-type") == "application/xml; charset=utf-8"


@pytest.mark.parametrize("path", ["/a/one", "/a/", "/plain"])
def test_one_resources_properties_are_those_that_the_store_tells(rig: Rig, path: str) -> None:
    mediated = rig.ask("PROPFIND", f"/dav{path}", {"Depth": "0"})
    same_but_mapped(mediated, rig.direct("PROPFIND", f"/store{path}", {"Depth": "0"}))
    assert hrefs(mediated) == [f"/dav{path}"]


def test_an_odd_name_comes_as_it_may_be_asked_for_and_what_may_not_be_asked_for_is_left_out(rig: Rig) -> None:
    folder = rig.nginx.files / "store/odd"
    folder.mkdir()
    names = ["with space", "a&b<c>", "\u00e9t\u00e9", "q'uote\"", "plus+comma,", "semi;colon", "hash#tag", "per%cent"]
    for name in names:
        (folder / name).write_bytes(name.encode())
    found = hrefs(rig.ask("PROPFIND", "/dav/odd/", {"Depth": "1"}))
    asked = {href: rig.ask("GET", href) for href in found if href != "/dav/odd/"}
    assert {answer.status for answer in asked.values()} == {200}
    assert {answer.body.decode() for answer in asked.values()} == set(names[:5])


def test_a_long_listing_comes_in_pieces_and_whole(rig: Rig) -> None:
    folder = rig.nginx.files / "store/many"
    folder.mkdir()
    for number in range(1500):
        (folder / f"object-{number:05}").touch()
    mediated = rig.ask("PROPFIND", "/dav/many/", {"Depth": "1"})
    assert len(hrefs(mediated)) == 1501
    assert mediated.header("content-length") is None
    same_but_mapped(mediated, rig.direct("PROPFIND", "/store/many/", {"Depth": "1"}))


def test_a_listing_is_not_asked_for_compressed(rig: Rig) -> None:
    assert rig.ask("PROPFIND", "/dav/a/", {"Depth": "1", "Accept-Encoding": "gzip"}).status == 207


@pytest.mark.parametrize("depth", ["1", "infinity", None])
def test_a_depth_that_reaches_what_may_not_be_read_is_refused(rig: Rig, depth: str | None) -> None:
    headers = {"Depth": depth} if depth else {}
    for path in ("/dav/", "/dav/secrets/"):
        refused = rig.ask("PROPFIND", path, headers)
        assert (refused.status, refused.reason) == (403, "rule_deny")
    assert rig.ask("PROPFIND", "/dav/", {"Depth": "0"}).status == 207


# --- trees -----------------------------------------------------------------------------------------------------------------------


def test_a_collection_is_made_and_its_location_is_the_clients(rig: Rig) -> None:
    made = rig.ask("MKCOL", "/dav/new/")
    assert made.status == 201
    assert made.header("location") in (None, "/dav/new/")
    assert (rig.nginx.files / "store/new").is_dir()


def test_a_tree_is_deleted_whole(rig: Rig) -> None:
    assert rig.ask("DELETE", "/dav/a/").status == 204
    assert not any(key.startswith("store/a/") for key in rig.stored())


def test_a_tree_with_one_kept_key_stays_whole(rig: Rig) -> None:
    for path in ("/dav/c/", "/dav/c", "/dav/c/kept/", "/dav/c/kept/four"):
        refused = rig.ask("DELETE", path)
        assert (refused.status, refused.reason) == (403, "rule_deny"), path
    assert rig.stored().keys() == set(KEYS)


def test_a_key_whose_name_could_be_such_a_tree_is_deleted_once_the_store_says_it_is_none(rig: Rig) -> None:
    assert rig.ask("DELETE", "/dav/plain").status == 204
    assert "HEAD /store/plain/ HTTP/1.1" in [seen.line for seen in rig.nginx.seen("/store/plain/")]
    assert "store/plain" not in rig.stored()


def test_a_path_limit_holds_for_each_key_below(rig: Rig) -> None:
    narrow = rig.sidecar.token(path="a/*", permissions=("read", "write", "delete"))
    wide = rig.sidecar.token(path="a/**", permissions=("read", "write", "delete"))
    refused = ask(rig.sidecar.port, "DELETE", "/dav/a/", bearer(narrow))
    assert (refused.status, refused.reason) == (403, "token_limit")
    assert ask(rig.sidecar.port, "DELETE", "/dav/a/one", bearer(narrow)).status == 204
    assert ask(rig.sidecar.port, "DELETE", "/dav/a/", bearer(wide)).status == 204


# --- from one place to another -----------------------------------------------------------------------------------------------------


def test_nginx_refuses_a_destination_of_another_host_so_it_gets_its_own_path(rig: Rig) -> None:
    assert rig.direct("COPY", "/store/a/one", {"Destination": "http://cache.example/store/z"}).status == 400
    headers = {"Host": "cache.example", "Destination": "http://cache.example/dav/z"}
    assert rig.ask("COPY", "/dav/a/one", headers).status == 204
    assert rig.stored()["store/z"] == b"store/a/one"
    until(lambda: [seen.destination for seen in rig.nginx.seen("/store/a/one")][-1] == "/store/z")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_key_is_moved(rig: Rig, absolute: bool) -> None:
    goal = "/dav/b/%C3%A9%20x"
    assert rig.ask("MOVE", "/dav/a/one", {"Destination": rig.origin + goal if absolute else goal}).status == 204
    stored = rig.stored()
    assert stored["store/b/\u00e9 x"] == b"store/a/one"
    assert "store/a/one" not in stored


def test_a_tree_is_moved_and_copied(rig: Rig) -> None:
    assert rig.ask("COPY", "/dav/a/", {"Destination": "/dav/d/"}).status in (201, 204)
    assert rig.ask("MOVE", "/dav/b/", {"Destination": "/dav/e/"}).status in (201, 204)
    stored = rig.stored()
    assert {key for key in stored if key.startswith(("store/a/", "store/b/", "store/d/", "store/e/"))} == {
        "store/a/one", "store/a/sub/two", "store/d/one", "store/d/sub/two", "store/e/three",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
@pytest.mark.parametrize("goal", ["/dav/c/", "/dav/c/kept/", "/dav/c/kept/four"])
def test_nothing_takes_the_place_of_what_is_kept(rig: Rig, method: str, goal: str) -> None:
    source = "/dav/a/" if goal.endswith("/") else "/dav/a/one"
    refused = rig.ask(method, source, {"Destination": goal})
    assert (refused.status, refused.reason) == (412, "exists")
    assert rig.stored().keys() == set(KEYS)


def test_a_write_alone_does_not_empty_a_tree_on_its_way(rig: Rig) -> None:
    writer = rig.sidecar.token(permissions=("read", "write"))
    answer = ask(rig.sidecar.port, "COPY", "/dav/a/", {**bearer(writer), "Destination": "/dav/b/"})
    assert answer.status == 412
    assert rig.stored().keys() == set(KEYS)
    assert ask(rig.sidecar.port, "COPY", "/dav/a/", {**bearer(writer), "Destination": "/dav/f/"}).status in (201, 204)


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
@pytest.mark.parametrize(("source", "goal"), [("/once/old/x", "/once/new"), ("/once/old/", "/once/old2/")])
def test_onto_what_is_there_asks_overwrite(rig: Rig, method: str, source: str, goal: str) -> None:
    (rig.nginx.files / "once/old2").mkdir()
    (rig.nginx.files / "once/old2/y").write_bytes(b"y")
    before = rig.stored()
    refused = rig.ask(method, source, {"Destination": goal})
    assert (refused.status, refused.reason) == (412, "exists")
    assert rig.stored() == before
    fresh = goal.replace("/once/", "/once/fresh-")
    assert rig.ask(method, source, {"Destination": fresh}).status in (201, 204)
    # The store is told to close the gap.
    until(lambda: [seen.overwrite for seen in rig.nginx.seen(source) if seen.line.startswith(method)][-1:] == ["F"])


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
@pytest.mark.parametrize(
    ("goal", "status", "reason"),
    [
        ("http://127.0.0.1:{nginx}/store/z", 400, "bad_header"),
        ("http://elsewhere.example/dav/z", 400, "bad_header"),
        ("http://127.0.0.1:{sidecar}@elsewhere.example/dav/z", 400, "bad_header"),
        ("//elsewhere.example/dav/z", 400, "bad_target"),
        ("/dav/../once/z", 400, "bad_target"),
        ("/dav/%2e%2e/once/z", 400, "bad_target"),
        ("/dav/..%2fonce/z", 400, "bad_target"),
        ("/once/z", 403, "wrong_workspace"),
        ("/store/z", 403, "wrong_workspace"),
        ("/", 403, "wrong_workspace"),
        ("/dav/", 403, "key_required"),
        ("/dav/a/sub/two", 403, "unknown_operation"),
    ],
)
def test_a_destination_elsewhere_is_refused_before_the_store_hears_of_it(
    rig: Rig, method: str, goal: str, status: int, reason: str
) -> None:
    goal = goal.format(nginx=rig.nginx.port, sidecar=rig.sidecar.port)
    refused = rig.ask(method, "/dav/a/sub/two", {"Destination": goal})
    assert (refused.status, refused.reason) == (status, reason)
    assert rig.stored().keys() == set(KEYS)
    assert f"{method} /store/a/sub/two " not in rig.nginx.log


def test_a_destination_of_another_workspace_within_this_one_is_refused(rig: Rig) -> None:
    for path, headers in (
        ("/outer/mine/y", {"Destination": "/outer/team/inner/y"}),
        ("/outer/mine/", {"Destination": "/outer/team/"}),
    ):
        refused = rig.ask("COPY", path, headers)
        assert (refused.status, refused.reason) == (403, "wrong_workspace")
    assert rig.ask("COPY", "/outer/mine/y", {"Destination": "/outer/team/y"}).status == 204


@pytest.mark.parametrize(("method", "headers"), [("DELETE", {}), ("PROPFIND", {"Depth": "1"}), ("PROPFIND", {})])
@pytest.mark.parametrize("path", ["/outer/team/", "/outer/team"])
def test_a_tree_that_holds_another_workspace_is_refused(
    rig: Rig, method: str, headers: dict[str, str], path: str
) -> None:
    refused = rig.ask(method, path, headers)
    assert (refused.status, refused.reason) == (403, "wrong_workspace")
    assert rig.stored().keys() == set(KEYS)


# --- what is not served ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["LOCK", "UNLOCK", "PROPPATCH", "REPORT", "POST", "PATCH"])
def test_locks_and_other_methods_are_refused(rig: Rig, method: str) -> None:
    refused = rig.ask(method, "/dav/a/one", body=b"<x/>")
    assert (refused.status, refused.reason) == (403, "unknown_operation")
    assert f"{method} /" not in rig.nginx.log


def test_options_say_what_is_served(rig: Rig) -> None:
    answer = rig.ask("OPTIONS", "/dav/")
    assert answer.status == 200
    assert answer.header("dav") == "1"
    assert "PROPFIND" in (answer.header("allow") or "")
    assert "LOCK" not in (answer.header("allow") or "")


def test_anonymous_is_asked_for_a_token_whatever_it_wants(rig: Rig) -> None:
    for method in ("PROPFIND", "MKCOL", "DELETE", "GET"):
        assert ask(rig.sidecar.port, method, "/dav/a").status == 401
    assert ask(rig.sidecar.port, "MOVE", "/dav/a", {"Destination": "/dav/z"}).status == 401


def test_the_record_says_what_a_move_came_to(rig: Rig) -> None:
    rig.ask("MOVE", "/dav/b/three", {"Destination": "/dav/moved"})

    def found() -> list[dict[str, Any]]:
        return [
            record
            for record in rig.sidecar.audit()
            if record["kind"] == "access" and record["request"]["method"] == "MOVE" and record["resource"]["name"] == "b/three/"
        ]  # fmt: skip

    until(lambda: any(record["stage"] == "complete" for record in found()))
    assert {record["stage"] for record in found()} == {"intent", "complete"}, "a write's intent comes first"
    assert {record["action"] for record in found()} == {"object.delete"}
    assert [record["changes"] for record in found()] == [{"destination": "moved/"}] * 2


def test_the_record_says_that_a_tree_was_listed(rig: Rig) -> None:
    rig.ask("PROPFIND", "/dav/a/", {"Depth": "1"})
    until(
        lambda: any(record["resource"]["name"] == "a/" for record in rig.sidecar.audit() if record["kind"] == "access")
    )


# --- a store that can't be trusted ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SidecarProcess, ScriptedStore, str]]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    store = ScriptedStore()
    sidecar = SidecarProcess(
        folder,
        upstreams=f'  artifacts: {{url: "http://127.0.0.1:{store.port}"}}\n',
        policies={"web.yaml": POLICY},
        more="limits: {drain_delay: 0s}",
    )
    try:
        sidecar.start()
        yield sidecar, store, sidecar.token()
    finally:
        sidecar.kill()
        store.close()


LISTED = b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>%b</D:href></D:response></D:multistatus>'
BOMB = (
    b'<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<D:multistatus xmlns:D="DAV:"><D:response><D:href>/store/&b;</D:href></D:response></D:multistatus>'
)


def said(body: bytes, more: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 207 Multi-Status\r\nContent-Length: %d\r\n%b\r\n%b" % (size, more, body)


@pytest.mark.parametrize(
    "raw",
    [
        said(BOMB),
        said(b'<!DOCTYPE x SYSTEM "file:///etc/passwd">' + LISTED % b"/store/a"),
        said(b'<?xml version="1.0" encoding="iso-8859-1"?>' + LISTED % b"/store/a"),
        said((LISTED % b"/store/a").decode().encode("utf-16")),
        said(b"\x1f\x8b\x08", b"Content-Encoding: gzip\r\n"),
        said(b"<html>not found</html>"),
        said(b""),
        said((LISTED % b"/store/a")[:-5]),
        said(b"<D:multistatus xmlns:D='DAV:'><D:response>" + b"<x>" * 100),
        said(b"<D:multistatus xmlns:D='DAV:'><D:response><x>" + b"y" * 2_000_000),
        b"HTTP/1.1 207 X\r\n\r\n" + BOMB,
    ],
)
def test_a_hostile_listing_is_a_502(hostile: tuple[SidecarProcess, ScriptedStore, str], raw: bytes) -> None:
    sidecar, store, token = hostile
    store.script = lambda connection, asked: (answer(raw)(connection, asked), False)[1]
    refused = ask(sidecar.port, "PROPFIND", "/dav/a/", {**bearer(token), "Depth": "1"})
    assert (refused.status, refused.reason) == (502, "upstream_broken")


@pytest.mark.parametrize(
    "href",
    [
        b"/other/secret",
        b"/storex/secret",
        b"/store/../other/secret",
        b"/store/%2e%2e/other/secret",
        b"//evil/store/secret",
        b"http://evil/store/secret",
        b"store/secret",
        b"",
    ],
)
def test_what_lies_elsewhere_is_not_told(hostile: tuple[SidecarProcess, ScriptedStore, str], href: bytes) -> None:
    sidecar, store, token = hostile
    store.script = answer(said(LISTED % href))
    found = ask(sidecar.port, "PROPFIND", "/dav/a/", {**bearer(token), "Depth": "1"})
    assert hrefs(found) == []
    assert b"secret" not in found.body


def test_a_listing_that_goes_wrong_in_its_middle_has_no_clean_end(
    hostile: tuple[SidecarProcess, ScriptedStore, str],
) -> None:
    sidecar, store, token = hostile
    response = b"<D:response><D:href>/store/a</D:href></D:response>"
    store.script = answer(said(b"<D:multistatus xmlns:D='DAV:'>" + response * 5000 + b"<!-- -->&bad;</D:multistatus>"))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(sidecar.port, "PROPFIND", "/dav/a/", {**bearer(token), "Depth": "1"})


def test_of_a_delete_that_went_half_way_the_client_learns_its_own_paths(
    hostile: tuple[SidecarProcess, ScriptedStore, str],
) -> None:
    sidecar, store, _ = hostile
    store.script = answer(said(LISTED % f"http://127.0.0.1:{store.port}/store/a/locked".encode()))
    found = ask(sidecar.port, "DELETE", "/dav/a/", bearer(sidecar.token(permissions=("delete",))))
    assert hrefs(found) == ["/dav/a/locked"]
