"""The embedded store's answers to PROPFIND and MKCOL: one object, or a folder that is always there."""

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.upstream.file import KEPT_SIZE, FileStore
from sidecar.upstream.file_format import Meta
from sidecar.upstream.file_properties import listing
from tests.contract.fake_downstream import FakeDownstream, ask

RESPONSE = "{DAV:}response"
PROP = f"{RESPONSE}/{{DAV:}}propstat/{{DAV:}}prop"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    made = FileStore(tmp_path / "store", lambda: 784111777.0)
    await made.open()
    yield made
    await made.close()


async def test_an_objects_properties_are_those_of_a_head(store: FileStore) -> None:
    await ask(store, "PUT", "/dir/a%20b", body=b"content")
    head = await ask(store, "HEAD", "/dir/a%20b")
    for depth in ("0", "1"):
        found = await ask(store, "PROPFIND", "/dir/a%20b", {"Depth": depth}, b"<propfind/>")
        assert found.status == 207
        tree = ET.fromstring(found.answer)
        assert tree.findtext(f"{RESPONSE}/{{DAV:}}href") == "/dir/a%20b"
        assert tree.findtext(f"{PROP}/{{DAV:}}getcontentlength") == "7"
        assert tree.findtext(f"{PROP}/{{DAV:}}getetag") == head.answer_headers["etag"]
        assert tree.findtext(f"{PROP}/{{DAV:}}getlastmodified") == head.answer_headers["last-modified"]
        assert list(tree.iterfind(f"{PROP}/{{DAV:}}resourcetype/*")) == []


async def test_what_is_not_there_is_not_found(store: FileStore) -> None:
    assert (await ask(store, "PROPFIND", "/dir/a", {"Depth": "0"})).status == 404


@pytest.mark.parametrize("path", ["/", "/dir/", "/dir/sub/?x=y"])
async def test_every_folder_is_there_and_may_be_made(store: FileStore, path: str) -> None:
    assert (await ask(store, "MKCOL", path)).status == 201
    found = await ask(store, "PROPFIND", path, {"depth": "0"})
    assert found.status == 207
    tree = ET.fromstring(found.answer)
    assert tree.findtext(f"{RESPONSE}/{{DAV:}}href") == path.partition("?")[0]
    assert [each.tag for each in tree.iterfind(f"{PROP}/{{DAV:}}resourcetype/*")] == ["{DAV:}collection"]


@pytest.mark.parametrize("headers", [{"Depth": "1"}, {"Depth": "infinity"}, {}])
async def test_none_is_listed(store: FileStore, headers: dict[str, str]) -> None:
    found = await ask(store, "PROPFIND", "/dir/", headers)
    assert found.status == 403
    assert [each.tag for each in ET.fromstring(found.answer)] == ["{DAV:}propfind-finite-depth"]


async def test_a_long_question_is_not_read_to_its_end(store: FileStore) -> None:
    exchange = FakeDownstream("PROPFIND", "/a", {"Depth": "0"}, [b"x" * KEPT_SIZE, b"x", AssertionError("read on")])
    with pytest.raises(Refused) as refused:
        await store.forward(exchange)
    assert refused.value.reason is Reason.BAD_REQUEST


def test_whatever_was_asked_for_is_quoted() -> None:
    body = listing("/a&b<c>'", Meta(b"a", 1, '"<&>"', 0))
    tree = ET.fromstring(body)
    assert tree.findtext(f"{RESPONSE}/{{DAV:}}href") == "/a&b<c>'"
    assert tree.findtext(f"{PROP}/{{DAV:}}getetag") == '"<&>"'
