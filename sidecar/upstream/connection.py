"""One connection to a store, and one exchange over it at a time.

What arrives is written to the client as it arrives: a parsed head leaves in the same write as the first piece of its body,
a congested client pauses the store, a large plain body is spliced. What is malformed, broken off or left over condemns the
connection: it is never reused after an oddity (law 10), and half a body never becomes a clean end.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

import httptools

from sidecar.errors import ClientGone, Refused, Unavailable
from sidecar.ports import Downstream
from sidecar.reasons import Reason
from sidecar.settings import Timeouts
from sidecar.upstream.answer import Answer, broken
from sidecar.upstream.splice import SinkClosed, splice

_SPLICE_FROM = 256 * 1024
"""Bytes still to come from which on splicing pays: below, the pipe costs more than the copies."""
_HEAD_LIMIT = 64 * 1024


class DeadConnection(Exception):
    """A pooled connection had been closed by the store before the first byte of an answer."""


class Connection(Answer, asyncio.Protocol):
    """Made by the pool. `exchange()` carries one request and its answer; `reusable` says whether another may follow."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts, lost: Callable[["Connection"], None]
    ) -> None:
        super().__init__()
        self._loop = loop
        self._timeouts = timeouts
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._write_paused = False
        self.used = 0
        self.idle_since = 0.0
        self.deadline = 0.0
        """Loop time at which the exchange is given up; 0 while nothing is awaited. The pool's sweep looks at it."""
        self.asked_at = 0.0
        """Loop time at which the whole request had been sent; 0 before."""

    # --- the transport's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.reusable = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._client is not None and not self._complete and self._failure is None:
            if self._until_eof and self._started and exc is None:
                self._finish()
            elif self.status == 0 and not self._head_size and not self._interim:
                self._fail(DeadConnection() if self.used else broken(_closed(exc)))
            else:
                self._fail(broken("closed in the middle of an answer"))
        self._lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._client is None or self._complete or self._failure is not None:
            self.abort()  # an answer that nobody asked for
            return
        self.deadline = self._loop.time() + self._timeouts.idle
        if not self._started:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._malformed(type(error).__name__)
            return
        client = self._client
        if not self._started:
            if self._head_size > _HEAD_LIMIT:
                self._fail(broken("a head without end"))
        elif (
            not self._complete  # what the parser called may have changed this, and the next
            and self._failure is None
            and (client.congested or (self._remaining >= _SPLICE_FROM and not self._sending))
        ):
            self._pause()

    def _pause(self) -> None:
        assert self._transport is not None
        self.deadline = 0.0
        self._transport.pause_reading()
        self._awaken()

    def expire(self) -> None:
        """The deadline has passed."""
        reason = Reason.UPSTREAM_BROKEN if self._started else Reason.UPSTREAM_TIMEOUT
        self._fail(Unavailable(reason, "silent for too long"))

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            if self._sending:
                _reset_at_its_end(self._transport)
            self._transport.abort()

    # --- the exchange ---------------------------------------------------------------------------------------------------------

    async def exchange(self, head: bytes, client: Downstream) -> None:
        """Send `head` and the client's body, pass the answer on. Raises `Refused` before the answer has started,
        `ClientGone`, or `DeadConnection`; a break after the start is `Refused(UPSTREAM_BROKEN)` too, the answer unfinished.
        """
        transport = self._transport
        if transport is None:
            raise DeadConnection
        self._reset()
        self._client = client
        pump: asyncio.Task[None] | None = None
        try:
            self._wake = self._loop.create_future()
            transport.write(head)
            if client.content_length == 0:
                self.asked_at = now = self._loop.time()
                self.deadline = now + self._timeouts.first_byte
            else:
                self.asked_at = 0.0
                self._sending = True
                pump = self._loop.create_task(self._send_body(client))
            while True:
                await self._wake
                if self._failure is not None:
                    raise self._failure
                if self._complete:
                    break
                self._wake = self._loop.create_future()
                await client.drain()
                if self._remaining >= _SPLICE_FROM and not self._sending and await self._splice(client):
                    break
                self._resume()
            self.used += 1
        except BaseException:
            self.abort()
            raise
        finally:
            self._client = None
            self._wake = None
            self.deadline = 0.0
            if pump is not None:
                self._sending = False
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)  # it may be reading what is read next

    def _resume(self) -> None:
        if self._transport is None:
            if self._failure is None and not self._complete:
                self._fail(broken("closed in the middle of an answer"))
            return
        self.deadline = self._loop.time() + self._timeouts.idle
        self._transport.resume_reading()

    async def _splice(self, client: Downstream) -> bool:
        """The rest of the body, through the kernel. False where this connection or this client can't."""
        transport = self._transport
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return False
        source = transport.get_extra_info("socket")
        sink = await client.sink()
        if source is None or sink is None:
            return False

        def moved(size: int) -> None:
            self.deadline = self._loop.time() + self._timeouts.idle
            client.sank(size)

        self.deadline = self._loop.time() + self._timeouts.idle
        keep_alive = self._parser.should_keep_alive()
        work = self._loop.create_task(splice(source.fileno(), sink, self._remaining, moved))
        assert self._wake is not None
        try:
            await asyncio.wait((work, self._wake), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise self._failure or broken("closed in the middle of an answer")
            work.result()
        except EOFError:
            raise broken("closed in the middle of an answer") from None
        except SinkClosed:
            raise ClientGone from None
        except OSError as error:
            raise broken(f"the stream broke: {error.strerror}") from None
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        # The parser never saw these bytes and stands in the middle of a body: it goes with them.
        self._parser = httptools.HttpResponseParser(self)
        self._remaining = 0
        self._complete_exchange(keep_alive)
        transport.resume_reading()
        return True

    async def _send_body(self, client: Downstream) -> None:
        """The request's body. Whatever goes wrong here is the exchange's failure: the store must not see a clean end."""
        try:
            chunked = client.content_length is None
            while data := await client.read():
                transport = self._transport
                if transport is None:
                    return  # `connection_lost` has said what it means
                if chunked:
                    transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
                else:
                    transport.write(data)
                if self._write_paused:
                    self.deadline = self._loop.time() + self._timeouts.idle
                    self._writable = self._loop.create_future()
                    await self._writable
                    self._writable = None
                self.deadline = 0.0
            if chunked and self._transport is not None:
                self._transport.write(b"0\r\n\r\n")
            self._sending = False
            if not self._started:
                self.asked_at = now = self._loop.time()
                self.deadline = now + self._timeouts.first_byte
            elif self._transport is not None and self._transport.is_reading():
                self.deadline = self._loop.time() + self._timeouts.idle
        except (Refused, ClientGone) as error:
            self._fail(error)
        except Exception as error:  # whatever it is, it must not be read as the body's end
            self._fail(error)


def _reset_at_its_end(transport: asyncio.Transport) -> None:
    """A body that is broken off must not look finished: there are stores that keep what came before an orderly end, however
    much was announced (Versity's gateway 1.8.0)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _closed(error: Exception | None) -> str:
    """Under TLS 1.3 a store that doesn't take our certificate says so only after the request (RFC 8446 §4.4.2.4)."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return f"closed without an answer, by TLS: {reason}" if reason else "closed without an answer"
