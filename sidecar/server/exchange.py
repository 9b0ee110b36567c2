"""One request and its answer, from the client's side: what `ports.Downstream` promises, on aiohttp's connection.

The answer's bytes go straight to the client's transport. What law 12 forbids is taken out of the store's head here, for
every kind of store. An answer that was not finished breaks the connection off.
"""

import asyncio
import hashlib
import socket
import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestPayloadError

from sidecar.answers import AnswerRules, lines, written
from sidecar.errors import ClientGone, Refused
from sidecar.ports import HeaderList
from sidecar.provenance import DIGEST_HEADER
from sidecar.reasons import Reason
from sidecar.server.client import Incoming

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_BODY = frozenset({204, 304})
_LINGER_BYTES, _LINGER_SECONDS = 256 * 1024, 1.0
"""A client that sends first and reads later loses the answer if the connection closes while it still sends."""


class Exchange:
    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_continue",
        "_digest",
        "_digest_up_to",
        "_finished",
        "_head",
        "_length",
        "_listener",
        "_patience",
        "_payload",
        "_rules",
        "_store_tells",
        "_unwrapped",
        "_version_1_0",
        "bytes_in",
        "bytes_out",
        "content_length",
        "cut",
        "handed_over_at",
        "headers",
        "keep_alive",
        "method",
        "started",
        "started_at",
        "status",
        "tag",
        "upstream_path",
        "upstream_status",
    )

    def __init__(self, incoming: Incoming, patience: float, draining: bool) -> None:
        """`patience`: the longest silence of the client in the middle of a body, in seconds, either way."""
        message, self._connection, self._payload = incoming.message, incoming.connection, incoming.payload
        self.method = message.method
        self.upstream_path = ""
        self.headers: HeaderList = ()
        self.content_length: int | None = 0
        self._continue = False
        self._version_1_0 = message.version.minor == 0
        if self._payload is not EMPTY_PAYLOAD:
            self.content_length = None if message.chunked else int(message.headers.get("Content-Length", 0))
            # RFC 9110 §10.1.1: an HTTP/1.0 client doesn't know interim answers.
            self._continue = not self._version_1_0 and "Expect" in message.headers
        self.keep_alive = not (message.should_close or message.upgrade or draining)
        self._patience = patience
        self._rules: AnswerRules | None = None
        self._head: list[bytes] | None = None
        self._chunked = False
        self._body = True
        self._length: int | None = None
        self._finished = False
        self.cut = False
        """Its token was revoked while it ran, and it was ended for that."""
        self.started = False
        self.handed_over_at = self.started_at = 0.0
        """`time.perf_counter()` when an upstream got it, and when the answer's head was there."""
        self.status = 0
        self.upstream_status: int | None = None
        """What the store answered, passed on or not."""
        self.bytes_in = self.bytes_out = 0
        self.tag: str | None = None
        """What the store calls what it took: its `ETag`, where the body was watched; empty where it said none."""
        self._digest: hashlib._Hash | None = None
        self._unwrapped: hashlib._Hash | str | None = None

    # --- the request's body -----------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        payload = self._payload
        if self._continue:
            self._continue = False
            self._write(_CONTINUE)
        try:
            data = payload.read_nowait()
            while not data and not payload.at_eof():
                async with asyncio.timeout(self._patience):
                    data = await payload.readany()
        except TimeoutError:
            raise Refused(Reason.BODY_TIMEOUT) from None
        except RequestPayloadError:
            raise Refused(Reason.BAD_REQUEST, "a malformed body") from None
        except ConnectionError:
            raise ClientGone from None
        self.bytes_in += len(data)
        if self._digest is not None:
            if self.bytes_in > self._digest_up_to:
                self._digest = None
            else:
                self._digest.update(data)
        return data

    def watch_body(self, up_to: int, *, store_tells: bool = False) -> None:
        """From now on, so that its digest is known at its end, or what the store calls it where it has more than `up_to` bytes.

        `store_tells`: the store hashes it, and is believed."""
        self._digest_up_to, self.tag, self._store_tells = up_to, "", store_tells
        if not store_tells and (self.content_length or 0) <= up_to:
            self._digest = hashlib.sha256()

    def expect_body(self, sha256: str | None, *, hashed: bool) -> Callable[[bytes], object] | None:
        """For whoever unwraps the body: it is held to `sha256`; where that is `None` and it is to be hashed, what is returned takes
        each piece."""
        self.tag, self._store_tells = "", False
        if sha256 is None and not hashed:
            return None
        self._unwrapped = sha256 or hashlib.sha256()
        return None if isinstance(self._unwrapped, str) else self._unwrapped.update

    @property
    def body_ended(self) -> bool:
        """Whether all of it came."""
        return self._payload.is_eof()

    @property
    def body_sha256(self) -> str | None:
        """In lower-case hex; `None` where nobody watched, or the body did not come to its end."""
        if not self._payload.is_eof():
            return None
        found = self._unwrapped or self._digest
        return found.hexdigest() if found is not None and not isinstance(found, str) else found

    # --- the answer -------------------------------------------------------------------------------------------------------

    def hand_over(self, upstream_path: str, headers: HeaderList, rules: AnswerRules) -> None:
        """Make ready to be given to an upstream, whose answer will be held against `rules`."""
        self.upstream_path, self.headers, self._rules = upstream_path, headers, rules
        self.handed_over_at = time.perf_counter()

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        if self._rules is not None:
            self.upstream_status = status
            if self.tag is not None:
                headers = self._heard(headers)
            block = lines(self._rules, status, headers)
        else:
            block = written(headers)
        self.started, self.started_at, self.status, self._length = True, time.perf_counter(), status, length
        head = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unassigned\r\n" % status, block]
        self._body = self.method != "HEAD" and status not in _NO_BODY
        if length is not None and status != 204:
            head.append(b"Content-Length: %d\r\n" % length)
        elif self._body:
            if self._version_1_0:
                self.keep_alive = False
            else:
                self._chunked = True
                head.append(b"Transfer-Encoding: chunked\r\n")
        if self.keep_alive and not self._payload.is_eof():
            self.keep_alive = False  # the store answered before it had read the whole body
        if not self.keep_alive:
            head.append(b"Connection: close\r\n")
        elif self._version_1_0:
            head.append(b"Connection: keep-alive\r\n")
        head.append(b"\r\n")
        self._head = head

    def _heard(self, headers: HeaderList) -> HeaderList:
        """What the store calls what it took; and its headers for the client."""
        self.tag = next((value.decode("latin-1") for name, value in headers if name.lower() == b"etag"), "")
        if not self._store_tells:
            return headers
        self._unwrapped = next((value.decode() for name, value in headers if name == DIGEST_HEADER), None)
        return [pair for pair in headers if pair[0] != DIGEST_HEADER]

    def write(self, data: bytes) -> None:
        if not self._body or not data:
            return
        self.bytes_out += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        head = self._head
        if head is not None:
            head.append(data)
            data, self._head = b"".join(head), None
        self._write(data)

    def _write(self, data: bytes) -> None:
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(data)

    @property
    def congested(self) -> bool:
        return self._connection.writing_paused

    async def drain(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._connection._drain_helper()
        except (TimeoutError, ConnectionError):
            raise ClientGone from None

    async def sink(self) -> int | None:
        transport = self._connection.transport
        if transport is None or self._chunked or not self._body or transport.get_extra_info("sslcontext") is not None:
            return None
        sock: socket.socket | None = transport.get_extra_info("socket")
        if sock is None:
            return None
        if self._head is not None:
            self._write(b"".join(self._head))
            self._head = None
        low, high = transport.get_write_buffer_limits()
        transport.set_write_buffer_limits(high=0)
        try:
            await self.drain()
        finally:
            transport.set_write_buffer_limits(high=high, low=low)
        return sock.fileno() if transport.get_write_buffer_size() == 0 else None

    def sank(self, size: int) -> None:
        self.bytes_out += size

    def finish(self) -> None:
        if self._body and self._length is not None and self.bytes_out != self._length:
            return  # whoever said so much and sent less has broken off
        tail = b"0\r\n\r\n" if self._chunked else b""
        if self._head is not None:
            self._head.append(tail)
            tail, self._head = b"".join(self._head), None
        if tail:
            self._write(tail)
        self._finished = True

    def answer(self, status: int, headers: HeaderList, body: bytes, phrase: bytes | None = None) -> None:
        """A whole answer of our own. `phrase`: said after the status instead of its name."""
        self._rules = None
        self.start(status, headers, len(body))
        if phrase is not None and self._head is not None:
            self._head[0] = b"HTTP/1.1 %d %b\r\n" % (status, phrase)
        self.write(body)
        self.finish()

    # --- the end ------------------------------------------------------------------------------------------------------------

    @property
    def aborted(self) -> bool:
        return not self._finished

    @property
    def ended(self) -> bool:
        """Whether all has been read and written, so that `end` has nothing to wait for."""
        return self._finished and self._payload.is_eof() and not self._connection.writing_paused

    async def end(self) -> bool:
        """Whether the connection may be kept. A body that is still coming is given a moment, an unfinished answer none."""
        if not self._finished:
            self._connection.reset()
            return False
        if not self._payload.is_eof():
            await self._linger()
            return False
        if self.keep_alive and self._connection.writing_paused:
            # Whoever asks on and on without reading would have us keep all the answers.
            try:
                await self.drain()
            except ClientGone:
                self._connection.reset()
                return False
        return self.keep_alive

    def cut_off(self) -> None:
        """Ends it where it stands: the connection goes, and with it whoever serves it."""
        self.cut = True
        self._connection.reset()

    async def _linger(self) -> None:
        self._connection.close_with_linger()
        dropped = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while dropped <= _LINGER_BYTES and not self._payload.at_eof():
                    dropped += len(await self._payload.readany())
        except (TimeoutError, ConnectionError, RequestPayloadError):
            pass
