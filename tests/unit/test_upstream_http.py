"""A store over HTTP: what it is sent, what is asked twice, and what existence means."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.reasons import Reason
from sidecar.settings import BasicCredentials, HeaderCredentials, UpstreamCredentials, UpstreamSettings
from sidecar.upstream import pool as pool_module
from sidecar.upstream.http import HttpUpstream
from tests.contract.fake_downstream import FakeDownstream
from tests.unit.relays import OK, Client, Talk, answers, event_loop_policy, forever, on_uvloop, store, until

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop


@pytest.fixture(autouse=True)
def fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_SWEEP", 0.01)


class Recording:
    """Says OK to everything and remembers each head, by connection. Closes each connection after `lives` requests."""

    def __init__(self, lives: int = 1000) -> None:
        self.heads: list[bytes] = []
        self.lives = lives

    async def __call__(self, talk: Talk) -> None:
        for _ in range(self.lives):
            self.heads.append(await talk.head())
            talk.say(OK if not self.heads[-1].startswith(b"HEAD") else OK.removesuffix(b"ok"))


async def sent(client: Client, credentials: UpstreamCredentials | None = None) -> list[bytes]:
    recording = Recording()
    async with store(recording) as made:
        upstream = HttpUpstream(replace(made.settings(), credentials=credentials))
        await upstream.forward(client)
        await upstream.close()
        head = recording.heads[0].replace(str(made.port).encode(), b"PORT")
    return head.removesuffix(b"\r\n\r\n").split(b"\r\n")


async def test_the_request_is_sent_as_it_was_decided() -> None:
    client = Client("GET", "/a%20b?x=%2F", [(b"X-Odd", b"v\xe9"), (b"Accept", b"a"), (b"Accept", b"b")])
    assert await sent(client) == [
        b"GET /a%20b?x=%2F HTTP/1.1",
        b"Host: 127.0.0.1:PORT",
        b"X-Odd: v\xe9",
        b"Accept: a",
        b"Accept: b",
    ]


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [
        ("GET", 0, []),
        ("HEAD", 0, []),
        ("DELETE", 0, []),
        ("OPTIONS", 0, []),
        ("PUT", 0, [b"Content-Length: 0"]),
        ("POST", 0, [b"Content-Length: 0"]),
        ("PROPFIND", 0, [b"Content-Length: 0"]),
        ("PUT", 3, [b"Content-Length: 3"]),
        ("GET", 3, [b"Content-Length: 3"]),
        ("PUT", None, [b"Transfer-Encoding: chunked"]),
    ],
)
async def test_the_framing_is_ours(method: str, length: int | None, framing: list[bytes]) -> None:
    client = Client(method, "/a", body=[] if length == 0 else [b"abc"], content_length=length)
    assert (await sent(client))[2:] == framing


async def test_the_stores_own_credentials_are_sent_and_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    for credentials, line in [
        (UpstreamCredentials(basic=BasicCredentials("me", secret)), b"Authorization: Basic bWU6czNjcmV0"),
        (UpstreamCredentials(bearer_file=secret), b"Authorization: Bearer s3cret"),
        (UpstreamCredentials(header=HeaderCredentials("X-Key", secret)), b"X-Key: s3cret"),
    ]:
        assert (await sent(Client("GET", "/"), credentials))[2:] == [line]
        upstream = HttpUpstream(UpstreamSettings("store", "http://store", credentials=credentials))
        assert upstream.credential_name == line.partition(b":")[0].lower()
    assert HttpUpstream(UpstreamSettings("store", "http://store")).credential_name == b""


async def test_a_credential_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    credentials = UpstreamCredentials(bearer_file=tmp_path / "none")
    with pytest.raises(OSError):
        HttpUpstream(UpstreamSettings("store", "http://store", credentials=credentials))


async def idle_then_dead(method: str, body: list[bytes]) -> tuple[Recording, Client, Refused | None]:
    """A request on a connection that served one and that the store then closes without an answer."""
    recording, failure = Recording(), None

    async def script(talk: Talk) -> None:
        recording.heads.append(await talk.head())
        talk.say(OK)
        recording.heads.append(await talk.head())
        if len(recording.heads) > 2:
            talk.say(OK.removesuffix(b"ok") if method == "HEAD" else OK)
            await talk.reader.read()

    async with store(script) as made:
        upstream = HttpUpstream(made.settings())
        await upstream.forward(Client("GET", "/first"))
        made.talks.clear()
        client = Client(method, "/second", body=body, content_length=sum(map(len, body)))
        task = asyncio.create_task(upstream.forward(client))
        done, _ = await asyncio.wait([task], timeout=20)
        assert done
        error = task.exception()
        failure = error if isinstance(error, Refused) else None
        await upstream.close()
    return recording, client, failure


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_on_a_dead_idle_connection_is_asked_again(method: str) -> None:
    recording, client, failure = await idle_then_dead(method, [])
    assert failure is None
    assert client.finished
    assert [head.split(b" ")[1] for head in recording.heads] == [b"/first", b"/second", b"/second"]


@pytest.mark.parametrize(
    ("method", "body"), [("PUT", []), ("PUT", [b"x"]), ("DELETE", []), ("POST", []), ("GET", [b"x"])]
)
async def test_nothing_else_is_sent_twice(method: str, body: list[bytes]) -> None:
    recording, client, failure = await idle_then_dead(method, body)
    assert failure is not None
    assert failure.reason is Reason.UPSTREAM_BROKEN
    assert client.status == 0
    assert [head.split(b" ")[1] for head in recording.heads] == [b"/first", b"/second"]


async def test_a_fresh_connection_that_closes_is_an_answer() -> None:
    asked = 0

    async def script(talk: Talk) -> None:
        nonlocal asked
        await talk.head()
        asked += 1

    async with store(script) as made:
        upstream = HttpUpstream(made.settings())
        with pytest.raises(Unavailable) as caught:
            await upstream.forward(Client("GET", "/"))
        assert caught.value.reason is Reason.UPSTREAM_BROKEN
        assert asked == 1
        await upstream.close()


async def test_the_sweep_ends_what_is_silent() -> None:
    async with store(answers()) as made:
        upstream = HttpUpstream(made.settings(first_byte=0.05))
        with pytest.raises(Unavailable) as caught:
            await upstream.forward(Client("GET", "/"))
        assert caught.value.reason is Reason.UPSTREAM_TIMEOUT
        await until(lambda: made.open == 0)
        await upstream.close()


@pytest.mark.parametrize(
    ("status", "exists"),
    [(200, True), (204, True), (206, True), (404, False), (410, False)],
)
async def test_existence_is_what_a_head_says(status: int, exists: bool) -> None:
    async with store(answers(b"HTTP/1.1 %d X\r\nContent-Length: 7\r\n\r\n" % status)) as made:
        upstream = HttpUpstream(made.settings())
        assert await upstream.exists("/a?x=1") is exists
        await upstream.close()


@pytest.mark.parametrize("status", [301, 302, 400, 401, 403, 405, 429, 500, 503])
async def test_existence_of_anything_else_is_unknown(status: int) -> None:
    async with store(answers(b"HTTP/1.1 %d X\r\nContent-Length: 7\r\n\r\n" % status)) as made:
        upstream = HttpUpstream(made.settings())
        with pytest.raises(Unavailable) as caught:
            await upstream.exists("/a")
        assert caught.value.reason is Reason.EXISTENCE_UNKNOWN
        await upstream.close()


@pytest.mark.parametrize("location", [b"/a/", b"http://store/a/"])
async def test_who_is_sent_to_the_same_name_with_a_slash_has_met_a_collection(location: bytes) -> None:
    said = b"HTTP/1.1 301 X\r\nLocation: " + location + b"\r\nContent-Length: 7\r\n\r\n"
    async with store(answers(said)) as made:
        upstream = HttpUpstream(made.settings())
        assert await upstream.exists("/a")
        with pytest.raises(Unavailable):
            await upstream.exists("/b")
        await upstream.close()


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"HTTP/1.1 200"])
async def test_existence_that_a_broken_store_tells_is_unknown(raw: bytes) -> None:
    async with store(answers(raw)) as made:
        upstream = HttpUpstream(made.settings(first_byte=0.05))
        with pytest.raises(Unavailable) as caught:
            await upstream.exists("/a")
        assert caught.value.reason is Reason.EXISTENCE_UNKNOWN
        await upstream.close()


async def test_existence_is_asked_with_the_stores_credentials_by_head(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("k")
    recording = Recording()
    async with store(recording) as made:
        credentials = UpstreamCredentials(bearer_file=secret)
        upstream = HttpUpstream(replace(made.settings(), credentials=credentials))
        assert await upstream.exists("/a/b?x=1")
        assert recording.heads[0].startswith(b"HEAD /a/b?x=1 HTTP/1.1\r\n")
        assert b"\r\nAuthorization: Bearer k\r\n" in recording.heads[0]
        await upstream.close()


async def test_existence_is_given_up_in_time() -> None:
    async with store(answers()) as made:
        upstream = HttpUpstream(made.settings(first_byte=0.05))
        with pytest.raises(Unavailable) as caught:
            await upstream.exists("/a")
        assert caught.value.reason is Reason.EXISTENCE_UNKNOWN
        await upstream.close()


async def test_one_connection_serves_reads_writes_and_existence() -> None:
    async with store(forever) as made:
        upstream = HttpUpstream(made.settings())
        for method in ("GET", "PUT", "GET"):
            await upstream.forward(Client(method, "/a"))
        assert len(made.talks) == 1
        await upstream.close()


async def test_a_body_that_is_broken_off_ends_in_a_reset() -> None:
    """Some stores take an orderly end for the body's."""
    ended: list[object] = []

    async def keep(talk: Talk) -> None:
        await talk.head()
        try:
            ended.append(await talk.reader.readexactly(10))
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            ended.append(type(error))

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.sleep(0.05)
        raise ClientGone

    async with store(keep) as made:
        upstream = HttpUpstream(made.settings())
        with pytest.raises(ClientGone):
            await upstream.forward(FakeDownstream("PUT", "/key", body=body(), content_length=10))
        await until(lambda: ended)
        await upstream.close()
    assert ended == [ConnectionResetError]
