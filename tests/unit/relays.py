"""What the tests of the way to a store share: a store that does as it is told, and a client in memory."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from sidecar.errors import ClientGone
from sidecar.ports import HeaderList
from sidecar.settings import HealthSettings, Timeouts, UpstreamSettings
from tests.contract.fake_downstream import FakeDownstream
from tests.waiting import until_in_loop


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The loop that the program runs on; its transports are not asyncio's."""
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


on_uvloop = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy:pytest.PytestDeprecationWarning")


until = until_in_loop


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Client(FakeDownstream):
    """`congested` says what it is set to; `drain()` waits while it is. With a `socket`, the body may go there instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.congested = False
        self.socket: socket.socket | None = None
        self.sunk = 0
        self.gone = False
        self.refuses: Exception | None = None

    async def read(self) -> bytes:
        # Unlike its base it may be read on: an early answer meets a body that is still being sent.
        await asyncio.sleep(0)
        assert self._pieces is not None
        piece = next(self._pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if self.refuses is not None:
            raise self.refuses
        super().start(status, headers, length)

    def write(self, data: bytes) -> None:
        if self.gone:
            raise ClientGone
        super().write(data)

    async def drain(self) -> None:
        await super().drain()
        while self.congested:
            await asyncio.sleep(0.001)
        if self.gone:
            raise ClientGone

    async def sink(self) -> int | None:
        return None if self.socket is None else self.socket.fileno()

    def sank(self, size: int) -> None:
        self.sunk += size

    def finish(self) -> None:
        assert self.status != 0
        assert not self.finished
        if self.method != "HEAD" and self.length is not None and self.status not in (204, 304):
            assert self.length == len(self.answer) + self.sunk, "a clean end needs every byte that was promised"
        self.finished = True


Script = Callable[["Talk"], Awaitable[None]]


class Talk:
    """One connection to the store, as its script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    def say(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


TRUSTING = HealthSettings(failures=1000)
"""For tests that aren't about health: however often a store fails, it is asked on."""


class Store:
    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[bytes] = []
        self.talks: list[Talk] = []

    def settings(
        self,
        *,
        connections: int = 8,
        queue: int = 1024,
        queue_timeout: float = 20.0,
        health: HealthSettings = TRUSTING,
        **timeouts: float,
    ) -> UpstreamSettings:
        return UpstreamSettings(
            "store",
            f"http://127.0.0.1:{self.port}",
            timeouts=Timeouts(**timeouts),
            connections=connections,
            queue=queue,
            queue_timeout=queue_timeout,
            health=health,
        )

    @property
    def open(self) -> int:
        return sum(not talk.writer.is_closing() and not talk.reader.at_eof() for talk in self.talks)


@asynccontextmanager
async def store(script: Script) -> AsyncIterator[Store]:
    """`script` runs once for each connection; when it returns, the connection is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(reader, writer)
        made.talks.append(talk)
        try:
            await script(talk)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = Store(server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        for talk in made.talks:
            talk.writer.transport.abort()


def answers(*raw: bytes) -> Script:
    """Each request of a connection gets the next; after the last the connection is closed."""

    async def script(talk: Talk) -> None:
        for each in raw:
            await talk.head()
            talk.say(each)
        if not raw:
            await talk.reader.read()

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def forever(talk: Talk) -> None:
    while True:
        await talk.head()
        talk.say(OK)
