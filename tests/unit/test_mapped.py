"""Between a store and a client: a multistatus is held until it was found right, written anew, or never starts."""

import pytest

from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.policy.compiled import Route
from sidecar.ports import HeaderList
from sidecar.server.mapped import HELD, Mapped
from tests.contract.fake_downstream import FakeDownstream

ROUTE = Route("web", "/dav", ("dav",), "webdav", "artifacts", "/store")
START = b'<D:multistatus xmlns:D="DAV:">'
ONE = b"<D:response><D:href>http://store:1/store/a</D:href></D:response>"
END = b"</D:multistatus>"


def mapped(method: str = "PROPFIND", allowed: Oddity = Oddity.NONE) -> tuple[FakeDownstream, Mapped]:
    client = FakeDownstream(method, "/store/a", {"depth": "1"}, b"body")
    return client, Mapped(client, ROUTE, ["http://store:1"], allowed)


def answered(mapping: Mapped, *pieces: bytes, status: int = 207, headers: HeaderList = ()) -> None:
    mapping.start(status, headers, sum(map(len, pieces)))
    for piece in pieces:
        mapping.write(piece)
    mapping.finish()


async def test_the_request_is_the_clients() -> None:
    client, mapping = mapped()
    assert (mapping.method, mapping.upstream_path, mapping.content_length) == ("PROPFIND", "/store/a", 4)
    assert mapping.headers is client.headers
    assert await mapping.read() == b"body"
    assert await mapping.read() == b""


def test_a_short_one_is_whole_and_says_its_length() -> None:
    client, mapping = mapped()
    answered(mapping, START + ONE, END, headers=[(b"Date", b"now"), (b"ETag", b'"x"')])
    assert client.finished
    assert client.status == 207
    assert client.length == len(client.answer)
    assert b"<D:href>/dav/a</D:href>" in client.answer
    assert client.answer_headers == {"date": "now", "content-type": "application/xml; charset=utf-8"}


def test_a_long_one_starts_once_enough_of_it_was_right() -> None:
    client, mapping = mapped()
    mapping.start(207, (), None)
    mapping.write(START)
    while client.status == 0:
        mapping.write(ONE * 100)
    assert client.length is None
    assert HELD <= len(client.answer) < 2 * HELD
    mapping.write(ONE)  # too little to be parsed yet
    mapping.write(ONE * 1000 + END)
    mapping.finish()
    assert client.finished
    assert client.answer.endswith(END)


def test_what_is_wrong_from_its_beginning_never_starts() -> None:
    client, mapping = mapped()
    mapping.start(207, (), None)
    with pytest.raises(Refused):
        mapping.write(b"<!DOCTYPE x>" + START + ONE * 1000)
    assert client.status == 0


def test_what_ends_too_early_never_starts() -> None:
    client, mapping = mapped()
    mapping.start(207, (), None)
    mapping.write(START + ONE)
    with pytest.raises(Refused):
        mapping.finish()
    assert client.status == 0


def test_what_becomes_wrong_later_never_finishes() -> None:
    client, mapping = mapped()
    mapping.start(207, (), None)
    mapping.write(START + ONE * 5000)
    assert client.status == 207
    mapping.write(b"<D:response>")
    with pytest.raises(Refused):
        mapping.finish()
    assert not client.finished


@pytest.mark.parametrize(("method", "status"), [("PROPFIND", 404), ("DELETE", 200)])
async def test_any_other_answer_passes_as_it_is(method: str, status: int) -> None:
    client, mapping = mapped(method)
    answered(mapping, b"as it is", status=status, headers=[(b"ETag", b'"x"')])
    assert client.finished
    assert (client.status, client.length, client.answer) == (status, 8, b"as it is")
    assert client.answer_headers == {"etag": '"x"'}
    await mapping.drain()
    assert client.drains == 1


class Sinking(FakeDownstream):
    """A client whose socket takes bytes as they are."""

    congested = True
    sunk = 0

    async def sink(self) -> int | None:
        return 7

    def sank(self, size: int) -> None:
        self.sunk += size


async def test_no_byte_of_a_multistatus_goes_around_the_reading() -> None:
    client = Sinking("PROPFIND", "/store/a")
    mapping = Mapped(client, ROUTE, [], Oddity.NONE)
    mapping.start(200, (), 9)
    assert await mapping.sink() == 7
    mapping.sank(9)
    assert client.sunk == 9
    assert mapping.congested
    mapping = Mapped(Sinking("PROPFIND", "/store/a"), ROUTE, [], Oddity.NONE)
    mapping.start(207, (), 9)
    assert await mapping.sink() is None
