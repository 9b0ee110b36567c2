"""The load: requests rendered beforehand, sent in a closed loop, every answer checked.

Law: an answer with another status or length than the row expects ends the row. A proxy that fails fast must not look fast.
What this costs runs on another core than the proxy and isn't counted.
"""

import asyncio
import itertools
import re
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvloop
from msgspec import Struct

from bench.process import BenchError

TIMEOUT = 30.0
"""The longest that any one step may take, in seconds."""
PIECE = 1 << 20

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Answer(Struct, frozen=True, gc=False):
    """What of an answer's head a row looks at."""

    status: int
    length: int
    """Of the body, in bytes."""
    close: bool


class Expect(Struct, frozen=True):
    statuses: frozenset[int]
    length: int | None = None
    """Of the body, in bytes; `None`: any."""

    def check(self, answer: Answer) -> None:
        if answer.status not in self.statuses:
            raise BenchError(f"status {answer.status} where {sorted(self.statuses)} is expected")
        if self.length is not None and answer.length != self.length:
            raise BenchError(f"a body of {answer.length} bytes where {self.length} are expected")


def parse_head(head: bytes) -> Answer:
    """`head`: up to the empty line. Raises `BenchError` for a body whose length isn't said: no peer has a reason to hide it."""
    if not head.startswith(b"HTTP/1."):
        raise BenchError(f"not an HTTP answer: {head[:80]!r}")
    status = int(head[9:12])
    found = _LENGTH.search(head)
    if found is None and status != 204:
        raise BenchError(f"status {status} without Content-Length")
    return Answer(status, int(found[1]) if found else 0, _CLOSE.search(head) is not None)


def render(
    method: str, path: str, token: str, *, body: bytes = b"", length: int | None = None, close: bool = False
) -> bytes:
    """One request with the headers that a simple client sends; `length` where the body follows separately."""
    lines = [f"{method} {path} HTTP/1.1", "Host: proxy.example", "User-Agent: bench", "Accept: */*"]
    lines.append(f"Authorization: Bearer {token}")
    size = len(body) if length is None else length
    if size or method == "PUT":
        lines.append(f"Content-Length: {size}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection(asyncio.Protocol):
    """One client of the closed loop: the next request leaves when the last answer has come."""

    def __init__(self, loop: "ClosedLoop", first: bytes) -> None:
        self._loop = loop
        self._first = first
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.waiting = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's isn't a subclass of asyncio's
        self._transport.write(self._first)

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self.waiting = True
        self._transport.write(request)

    def close(self) -> None:
        self.waiting = False
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            return
        try:
            answer = parse_head(data[:end])
            missing = end + 4 + answer.length - len(data)
            if missing > 0:
                self._buffer = data
                return
            if missing < 0 or not self.waiting:
                raise BenchError("more bytes than the answer has")
            self._loop.expect.check(answer)
        except BenchError as error:
            self._loop.fail(error)
            return
        self._buffer, self.waiting = b"", False
        if answer.close or self._loop.close_each:
            self.close()
            self._loop.answered(None)
        else:
            self._loop.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop.lost(self)


class ClosedLoop:
    """`connections` clients that share one stream of requests.

    With `close_each` every request has a connection of its own. Where a proxy announces `Connection: close`, the client
    opens another one, as clients do.
    """

    def __init__(self, port: int, connections: int, expect: Expect, *, close_each: bool = False) -> None:
        self.expect, self.close_each = expect, close_each
        self._port, self._size = port, connections
        self._idle: set[_Connection] = set()
        self._dialing: set[asyncio.Task[None]] = set()
        self._requests: Iterator[bytes] = iter(())
        self._pending = 0
        self._done: asyncio.Future[None] | None = None

    async def run(self, requests: Sequence[bytes]) -> None:
        """Send them all, each once; returns when the last answer is complete. Connections stay open for the next run."""
        self._requests, self._pending = iter(requests), len(requests)
        self._done = asyncio.get_running_loop().create_future()
        for request in list(itertools.islice(self._requests, self._size)):
            if self._idle:
                self._idle.pop().send(request)
            else:
                self._dial(request)
        try:
            await asyncio.wait_for(self._done, TIMEOUT)
        except TimeoutError:
            raise BenchError(f"{self._pending} answers are missing after {TIMEOUT:g} s") from None

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def answered(self, connection: _Connection | None) -> None:
        """`connection` is `None` where the exchange was its last."""
        self._pending -= 1
        request = next(self._requests, None)
        if request is None:
            if connection is not None:
                self._idle.add(connection)
        elif connection is not None:
            connection.send(request)
        else:
            self._dial(request)
        if self._pending == 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def lost(self, connection: _Connection) -> None:
        self._idle.discard(connection)
        if connection.waiting:
            self.fail(BenchError("the connection broke off before the answer was complete"))

    def fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def _dial(self, request: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(request))
        self._dialing.add(task)
        task.add_done_callback(self._dialing.discard)

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self, request), "127.0.0.1", self._port)
        except OSError as error:
            self.fail(BenchError(f"can't connect: {error}"))


_cancel: Callable[[], object] | None = None
"""Ends what `run` is driving, from a signal handler."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """The signal handler: uvloop swallows what is raised inside a callback, so a loop that runs is cancelled instead."""
    if _cancel is None:
        raise KeyboardInterrupt
    _cancel()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Drive `main` to its end under uvloop. Raises `KeyboardInterrupt` where `interrupt` came in between."""

    async def watched() -> None:
        global _cancel
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        _cancel = partial(loop.call_soon_threadsafe, task.cancel)
        try:
            await main
        finally:
            _cancel = None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(watched())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def _read_head(connection: socket.socket) -> tuple[Answer, bytes]:
    """The answer's head and what came of its body with it."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = connection.recv(PIECE)
        if not piece:
            raise BenchError("the connection broke off before the answer's head")
        data += piece
    return parse_head(data[:end]), data[end + 4 :]


def fetch(port: int, request: bytes, expect: Expect) -> bytes:
    """One small exchange, its body in memory."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        answer, body = _read_head(connection)
        expect.check(answer)
        while len(body) < answer.length:
            piece = connection.recv(PIECE)
            if not piece:
                raise BenchError(f"the body broke off after {len(body)} of {answer.length} bytes")
            body += piece
        return body


def download(port: int, request: bytes, expect: Expect) -> None:
    """One large answer, thrown away as it comes: MSG_TRUNC spares the copy out of the kernel (tcp(7))."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        answer, body = _read_head(connection)
        expect.check(answer)
        left, scratch = answer.length - len(body), bytearray(PIECE)
        while left:
            got = connection.recv_into(scratch, min(left, PIECE), socket.MSG_TRUNC)
            if not got:
                raise BenchError(f"the body broke off {left} bytes before its end")
            left -= got


def upload(port: int, head: bytes, body: Path, expect: Expect) -> None:
    """One large request, its body straight from a file."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection, body.open("rb") as source:
        connection.sendall(head)
        connection.sendfile(source)
        expect.check(_read_head(connection)[0])
