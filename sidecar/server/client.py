"""A client's connection: aiohttp's hardened parser and flow control, with our limits and our request loop.

aiohttp has no limit on how long a request's head may take, answers malformed requests by itself, and its loop makes a task, a
writer, a request and a response for each request, which costs as much as a decision. Each override below mends one of these.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler, RequestPayloadError, _ErrInfo

from sidecar.audit.frame import LastRecord
from sidecar.audit.schema import NO_TLS, Tls
from sidecar.decision import LastRead
from sidecar.reasons import REASONS, Reason
from sidecar.settings import LimitSettings

log = logging.getLogger(__name__)

_SWEEP = 0.5
_LAST_WORDS = 1.0
"""Seconds for a request that was ended to leave its record."""
_READ_BUFFER = 64 * 1024
_VERSIONS = frozenset({HttpVersion10, HttpVersion11})
"""aiohttp's parser lets HTTP/0.9 and HTTP/2.0 pass in a request line; what such a request means is anybody's guess."""


class Incoming:
    """One request as the parser left it."""

    __slots__ = ("connection", "malformed", "message", "payload")

    def __init__(
        self, message: RawRequestMessage | _ErrInfo, payload: StreamReader, connection: "ClientConnection"
    ) -> None:
        self.payload = payload
        self.connection = connection
        self.malformed: Reason | None = None
        """Set where the parser met nonsense; there is no `message` worth reading then."""
        if isinstance(message, _ErrInfo):
            self.message = ERROR
            too_long = isinstance(message.exc, LineTooLong)
            self.malformed = Reason.HEAD_TOO_LARGE if too_long else Reason.BAD_REQUEST
        else:
            self.message = message
            # RFC 9112 §6.1: a chunked body in HTTP/1.0 is faulty framing, since its reader may not know of chunks.
            if message.version not in _VERSIONS or (message.chunked and message.version != HttpVersion11):
                self.malformed = Reason.BAD_REQUEST

    def _cancel(self, exc: BaseException) -> None:
        """The base class calls it when the client has left."""
        self.payload.set_exception(exc)


Handler = Callable[[Incoming], Awaitable[bool]]
"""Answers one request; whether another may follow on its connection."""


class ClientConnection(RequestHandler):
    __slots__ = (
        "_head_size",
        "_listener",
        "_since_head",
        "head_deadline",
        "last_read",
        "last_record",
        "named",
        "peer",
        "tls",
        "vouched",
    )

    def __init__(self, listener: "Listener", **kwargs: Any) -> None:
        super().__init__(listener, **kwargs)
        self._listener = listener
        self.last_read = LastRead()
        self.last_record = LastRecord()
        self.head_deadline = 0.0
        """Loop time by which the head under way must be complete; 0 while none is."""
        self._head_size = 0
        self._since_head = 0
        """Bytes since the last head was complete, those of its body included."""
        self.peer = ""
        self.named: str | None = None
        """The address that a trusted balancer named in place of its own."""
        self.vouched = False
        """Whether it is a trusted balancer that named `peer`."""
        self.tls = NO_TLS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.named is not None:
            self.peer = self.named
        else:
            peer = transport.get_extra_info("peername")
            self.peer = peer[0] if isinstance(peer, tuple) else ""
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self.tls = Tls(encrypted.version())
        self.head_deadline = self._loop.time() + self._listener.limits.head_timeout
        if self._listener.draining or not self._listener.admit():
            cast(asyncio.Transport, transport).abort()

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        self._since_head += len(data)
        if self._request_count != before:
            if self._since_head > self._listener.limits.head_size or not data:  # empty: what aiohttp had kept back
                self._refuse_large_heads(self._request_count - before)
            self.head_deadline, self._head_size, self._since_head = 0.0, 0, 0
            if isinstance(self._messages[-1][0], _ErrInfo):
                self._end_broken_body()
        elif data and self._current_request is None and not self._messages:
            self._head_size += len(data)
            if self._head_size > self._listener.limits.head_size:
                self._listener.turn_away(self, Reason.HEAD_TOO_LARGE)
            elif not self.head_deadline:
                self.head_deadline = self._loop.time() + self._listener.limits.head_timeout

    def _refuse_large_heads(self, newest: int) -> None:
        """A head that arrived at one go was never measured. What arrived since the last one bounds it, bodies included."""
        messages = self._messages
        for index in range(-newest, 0):
            message = messages[index][0]
            if not isinstance(message, _ErrInfo):
                size = len(message.path) + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
                if size > self._listener.limits.head_size:
                    messages[index] = (_ErrInfo(431, LineTooLong("head"), ""), messages[index][1])

    def _end_broken_body(self) -> None:
        """The parser met nonsense. Where that was in a body, aiohttp queues an error behind it and leaves its reader waiting."""
        payload: Any = None
        if len(self._messages) > 1:
            payload = self._messages[-2][1]
        elif self._current_request is not None:
            payload = cast(Incoming, self._current_request).payload
        if payload is not None and not payload.is_eof():
            payload.set_exception(RequestPayloadError("malformed body"))

    async def start(self) -> None:
        """One request after another, until the connection isn't to be kept. The base class runs this as the connection's task
        and cancels it when the client leaves."""
        loop, messages, handler = self._loop, self._messages, self._listener.handler
        while not self._force_close:
            if not messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            # The base class looks at this, to tell the body's reader that the client left.
            incoming = Incoming(message, payload, self)
            self._current_request = cast(Any, incoming)
            try:
                another = await handler(incoming)
            except asyncio.CancelledError:
                self.reset()
                raise
            except Exception:
                log.exception("a request could not be handled")
                self.force_close()
                break
            finally:
                self._current_request = None
            if not another or not payload.is_eof() or self._ending:
                break
            self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    @property
    def _ending(self) -> bool:
        return self._close or self._listener.draining

    def retire(self) -> "asyncio.Task[None] | None":
        """No further request. The task of those that were read already; where there are none, the connection ends now."""
        if self._current_request is None and not self._messages:
            self.force_close()
            return None
        return self._task_handler

    def reset(self) -> None:
        """End it so that a client that reads to the end of the connection can't take half a body for a whole one."""
        transport = self.transport
        if transport is None:
            return
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def close_with_linger(self) -> None:
        """Say that no more will be written, while what still arrives may be read and dropped."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()


class Listener(web.Server):
    """Makes a `ClientConnection` for each that is accepted, and ends those whose head doesn't arrive."""

    def __init__(self, handler: Handler, limits: LimitSettings, turned_away: Callable[[Reason], None]) -> None:
        """`turned_away` hears of each connection that was ended before it had made a request."""
        super().__init__(
            cast(Any, handler),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keepalive,
            lingering_time=0,
            max_line_size=limits.header_size,
            max_field_size=limits.header_size,
            max_headers=limits.headers,
            read_bufsize=_READ_BUFFER,
        )
        self.handler = handler
        self.limits = limits
        self.draining = False
        self._turned_away = turned_away
        self._sweeper: asyncio.Task[None] | None = None

    def __call__(self) -> ClientConnection:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def introduced(self, peer: str, vouched: bool = False) -> ClientConnection:
        """For a connection whose client's address is known to be `peer`; `vouched`: a trusted balancer said so."""
        connection = self()
        connection.named, connection.vouched = peer, vouched
        return connection

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    def admit(self) -> bool:
        if len(self._connections) <= self.limits.connections:
            return True
        self._turned_away(Reason.OVERLOADED)
        return False

    def start(self) -> None:
        self._sweeper = self._loop.create_task(self._sweep())

    async def drain(self, grace: float) -> None:
        """Let running requests finish within `grace` seconds, then end them; idle connections end at once.

        aiohttp's own shutdown won't do: its connections drop what they receive from then on, so that no upload could
        finish, and a grace of 0 is no limit to it.
        """
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        running = [task for connection in self._clients() if (task := connection.retire()) is not None]
        if running:
            await asyncio.wait(running, timeout=grace)
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_LAST_WORDS)
        for connection in self._clients():
            connection.force_close()

    def _clients(self) -> list[ClientConnection]:
        return [connection for connection in self.connections if isinstance(connection, ClientConnection)]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            now = self._loop.time()
            for connection in self._clients():
                if 0 < connection.head_deadline < now:
                    self.turn_away(connection, Reason.HEAD_TIMEOUT)

    def turn_away(self, connection: ClientConnection, reason: Reason) -> None:
        """End a connection whose head is too slow or too large; there is no request yet that could be refused."""
        connection.head_deadline = 0.0
        self._turned_away(reason)
        if connection.transport is not None:
            status = REASONS[reason].status
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.transport.write(line.encode())
        connection.force_close()
