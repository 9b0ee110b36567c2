"""A connection's way to its first request: PROXY header, TLS, both; and whoever gets it wrong never gets there."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trustme
import uvloop

from sidecar.networks import Networks
from sidecar.proxy_header import SIGNATURE
from sidecar.reasons import Reason
from sidecar.server.client import Listener
from sidecar.server.entrance import Entrance, Guests
from sidecar.settings import LimitSettings
from tests.waiting import until_in_loop as until

V4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + b"\xd4\x31\x01\xbb"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
HERE, ELSEWHERE = Networks(["127.0.0.0/8"]), Networks(["10.0.0.0/8"])

AUTHORITY = trustme.CA()


def served() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    return context


def believing() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


class Host(asyncio.Protocol):
    """Stands for a `ClientConnection`: says who it is talked to by, and what it was told, up to a line's end."""

    def __init__(self, listener: "FakeListener", peer: str) -> None:
        self._listener = listener
        self.peer = peer
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.open_connections += 1

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if self._heard.endswith(b"\n"):
            self._transport.write(f"{self.peer or 'nobody'}: ".encode() + self._heard)
            self._heard = b""


class FakeListener:
    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits
        self.draining = False
        self.open_connections = 0
        self.vouched: list[bool] = []

    def introduced(self, peer: str, vouched: bool) -> Host:
        self.vouched.append(vouched)
        return Host(self, peer)


class Place:
    def __init__(self, limits: LimitSettings, trusted: Networks | None, context: ssl.SSLContext | None) -> None:
        self.turned_away: list[Reason] = []
        self.guests: Guests = set()
        self.listener = FakeListener(limits)
        self.entrance = Entrance(
            cast(Listener, self.listener),
            self.guests,
            name="here",
            trusted=trusted,
            context=None if context is None else lambda: context,
            turned_away=self.turned_away.append,
        )
        self.port = 0

    async def connect(self, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **more)

    async def say(self, *pieces: bytes) -> bytes:
        """What comes back for these bytes, each piece sent by itself; empty where the connection ended."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.readline(), 20)
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def place(
    trusted: Networks | None = None, context: ssl.SSLContext | None = None, **limits: Any
) -> AsyncIterator[Place]:
    made = Place(LimitSettings(**limits), trusted, context)
    listening = socket.create_server(("127.0.0.1", 0))
    made.port = listening.getsockname()[1]
    made.entrance.open(listening)
    try:
        yield made
    finally:
        await made.entrance.close()
    assert listening.fileno() == -1


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, which may be by a reset: who is sent away has not been read from."""
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 20)
    return b""


def run(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Under the loop that the program runs on."""

    def runs() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(cast(Any, test()))

    runs.__name__ = getattr(test, "__name__", "test")
    return runs


@run
async def test_the_header_of_a_trusted_peer_names_the_client() -> None:
    async with place(HERE) as here:
        assert await here.say(V4 + b"hello\n") == b"192.0.2.7: hello\n"
        assert not here.guests
        assert here.listener.vouched == [True]


@run
async def test_a_header_may_arrive_byte_by_byte() -> None:
    async with place(HERE) as here:
        assert await here.say(*(bytes([byte]) for byte in V4 + b"hello\n")) == b"192.0.2.7: hello\n"


@run
async def test_a_local_header_names_nobody_so_the_peer_is_the_balancer() -> None:
    async with place(HERE) as here:
        assert await here.say(LOCAL + b"hello\n") == b"127.0.0.1: hello\n"
        assert here.listener.vouched == [False]


@run
async def test_an_untrusted_peer_s_header_is_just_bytes() -> None:
    async with place(ELSEWHERE) as here:
        assert await here.say(LOCAL + b"hello\n") == b"127.0.0.1: \r\n"
        assert await here.say(b"hello\n") == b"127.0.0.1: hello\n"
        assert here.turned_away == []
        assert here.listener.vouched == [False, False]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="none"),
        pytest.param(b"GET", id="not even the signature's length"),
        pytest.param(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nhello\n", id="version 1"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 100, id="oversized"),
        pytest.param(SIGNATURE + b"\x21\x11\x00\x0b" + b"x" * 100, id="shorter than its addresses"),
        pytest.param(SIGNATURE + b"\x31\x11\x00\x0c" + b"x" * 100, id="of another version"),
    ],
)
def test_a_trusted_peer_without_a_good_header_is_turned_away(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    @run
    async def scenario() -> None:
        async with place(HERE) as here:
            assert await here.say(sent) == b""
            assert await here.say(sent) == b""
            assert here.turned_away == [Reason.BAD_PROXY_HEADER] * 2
            assert here.listener.open_connections == 0
            assert not here.guests

    scenario()
    assert [record.getMessage().partition(" was turned away")[0] for record in caplog.records] == [
        "listen here: the trusted peer 127.0.0.1"
    ]


@run
async def test_a_slow_header_ends_the_connection() -> None:
    async with place(HERE, head_timeout=0.1) as here:
        assert await here.say(V4[:20]) == b""
        assert here.turned_away == [Reason.HEAD_TIMEOUT]
        assert not here.guests


@run
async def test_tls_comes_after_the_header() -> None:
    async with place(HERE, served()) as here:
        reader, writer = await here.connect()
        writer.write(V4)
        await writer.start_tls(believing(), server_hostname="localhost")
        writer.write(b"hello\n")
        assert await reader.readline() == b"192.0.2.7: hello\n"
        assert here.entrance.handshakes == 1
        writer.close()


@run
async def test_tls_without_a_header() -> None:
    async with place(None, served()) as here:
        for _ in range(3):
            reader, writer = await here.connect(ssl=believing(), server_hostname="localhost")
            assert writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
            writer.write(b"hello\n")
            assert await reader.readline() == b"127.0.0.1: hello\n"
            writer.close()
        assert here.entrance.handshakes == 3


@run
async def test_what_comes_with_the_handshake_s_last_bytes_is_read() -> None:
    """A client may send its request in the same packet as the end of its handshake."""
    async with place(None, served()) as here:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = believing().wrap_bio(incoming, outgoing, server_hostname="localhost")
        reader, writer = await here.connect()
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(b"hello\n")
        writer.write(outgoing.read())  # the client's last message and its request at one go
        answer = b""
        async with asyncio.timeout(20):
            while not answer:
                incoming.write(await reader.read(65536))
                try:
                    answer = client.read(100)
                except ssl.SSLWantReadError:
                    continue
        assert answer == b"127.0.0.1: hello\n"
        writer.close()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", V4, b"\x16\x03\x01\xff\xff" + b"x" * 50])
def test_what_is_no_handshake_is_counted_and_ends(sent: bytes) -> None:
    @run
    async def scenario() -> None:
        async with place(ELSEWHERE, served(), head_timeout=0.5) as here:
            assert b"hello" not in await here.say(sent)
            await until(lambda: here.entrance.failed_handshakes == 1 and not here.guests)
            assert here.listener.open_connections == 0

    scenario()


@run
async def test_a_slow_handshake_ends_the_connection() -> None:
    async with place(None, served(), head_timeout=0.1) as here:
        assert await here.say(b"\x16\x03") == b""
        assert here.turned_away == [Reason.HEAD_TIMEOUT]
        await until(lambda: not here.guests)


@run
async def test_who_has_not_passed_counts_as_a_connection() -> None:
    async with place(HERE, connections=2) as here:
        first, second = await here.connect(), await here.connect()
        await until(lambda: len(here.guests) == 2)
        assert await here.say(V4 + b"hello\n") == b""
        assert here.turned_away == [Reason.OVERLOADED]
        first[1].close()
        await until(lambda: len(here.guests) == 1)
        assert await here.say(V4 + b"hello\n") == b"192.0.2.7: hello\n"
        second[1].close()


@run
async def test_nobody_enters_while_the_house_is_closing() -> None:
    async with place(HERE) as here:
        here.listener.draining = True
        assert await here.say(V4 + b"hello\n") == b""


@run
async def test_who_is_on_the_threshold_can_be_sent_away() -> None:
    async with place(HERE, served()) as here:
        reader, writer = await here.connect()
        writer.write(V4)
        await until(lambda: len(here.guests) == 1)
        for guest in list(here.guests):
            guest.cancel()
        assert await rest(reader) == b""
        assert not here.guests
        writer.close()
