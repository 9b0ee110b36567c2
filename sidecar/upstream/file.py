"""The embedded store: an upstream in a local directory (`file:///dir`). HTTP here, the disk in `file_layout`.

Laws. The event loop never waits for the disk: every step on it runs in a thread, and a small GET takes one such hop.
A stream holds at most two pieces at a time, so that disk and network overlap in flat memory. An answer to a write
is sent only once the write is durable, and a body that isn't whole never becomes an object.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from sidecar import provenance
from sidecar.errors import Refused, Unavailable
from sidecar.ports import Downstream, HeaderList
from sidecar.reasons import Reason
from sidecar.upstream.conditions import Conditions, Outcome, byte_range, evaluate, http_date, read_conditions
from sidecar.upstream.file_format import SMALL, Damaged, Meta, Stored
from sidecar.upstream.file_index import Index
from sidecar.upstream.file_layout import Layout
from sidecar.upstream.file_properties import NOT_LISTED, XML, listing
from sidecar.upstream.file_threads import Threads
from sidecar.upstream.file_upkeep import Upkeep
from sidecar.upstream.file_upload import Change, Guard, is_full

PIECE = 256 * 1024
"""Bytes that go to or come from the disk at once."""
KEPT_SIZE = 8 * 1024
"""The most bytes of headers that are kept beside an object, names and values together."""
KEY_SIZE = 32 * 1024

_READERS, _WRITERS = 4, 8
"""Threads. Apart, so that writers that wait for their fsync never keep a reader waiting."""
_MOST_PIECES = 512
"""Handed over at once; below the kernel's IOV_MAX (1,024), and a bound where a sender dribbles single bytes."""

_KEPT = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-disposition",
        b"cache-control",
        b"expires",
    }
)
_KEPT_PREFIXES = (b"x-artifact-", b"x-amz-meta-")
_SAID_BY_US = (provenance.HEADER, provenance.DIGEST_HEADER)
"""Kept with the object and told to nobody who reads it."""
_SENT_WITH_304 = frozenset({b"ETag", b"Last-Modified", b"cache-control", b"expires"})
"""RFC 9110 §15.4.5."""

T = TypeVar("T")


class _Answer(Struct, gc=False):
    status: int
    headers: HeaderList = ()
    length: int | None = 0
    piece: bytes = b""
    """The body, or its beginning."""
    stored: Stored | None = None
    """Where the rest of the body is to be read, if there is one."""
    offset: int = 0
    """Of the rest, in the object."""
    end: int = 0


_NOT_FOUND = _Answer(404)
_PRECONDITION_FAILED = _Answer(412)
_NOT_ALLOWED = _Answer(405, ((b"Allow", b"GET, HEAD, PUT, DELETE, PROPFIND, MKCOL"),))


class FileStore:
    """Implements `ports.Upstream`. `clock` gives Unix seconds; it is what Last-Modified is taken from. With a `max_size` (bytes)
    it is a cache: what was used longest ago makes room for what is new."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time, *, max_size: int | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self.index = None if max_size is None else Index(directory, max_size)
        self._layout = Layout(directory, self.index)
        self.upkeep = None if self.index is None else Upkeep(directory, self._layout, self.index)
        self._readers = Threads(_READERS, "store-read")
        self._writers = Threads(_WRITERS, "store-write")

    async def open(self) -> None:
        """Prepare the directory. Raises `Unavailable(UPSTREAM_UNREACHABLE)` where it can't be used, saying why."""
        try:
            await self._writers.run(self._layout.prepare)
        except OSError as error:
            raise Unavailable(
                Reason.UPSTREAM_UNREACHABLE,
                f"the embedded store can't use {self._directory}: {error.strerror or error}; "
                "it must be a directory on a local filesystem that this user may write to",
            ) from error
        if self.upkeep is not None:
            self.upkeep.start()

    async def close(self) -> None:
        """Once no exchange runs any more. Returns when the last step on the disk has ended."""
        await self._readers.stop()
        await self._writers.stop()
        if self.upkeep is not None:
            await asyncio.to_thread(self.upkeep.stop)

    async def exists(self, upstream_path: str) -> bool:
        try:
            return await _told(self._readers.run(self._layout.meta, _key_of(upstream_path))) is not None
        except Refused as refusal:
            raise Unavailable(Reason.EXISTENCE_UNKNOWN, refusal.detail) from refusal

    async def forward(self, exchange: Downstream) -> None:
        key = _key_of(exchange.upstream_path)
        conditions = read_conditions(exchange.headers)
        match exchange.method:
            case "GET" | "HEAD":
                answer = await _told(self._readers.run(self._read, key, conditions, exchange.method == "GET"))
                if answer.stored is not None:
                    await self._stream(exchange, answer, answer.stored)
                    return
            case "PUT":
                answer = await self._put(exchange, key, conditions)
            case "DELETE":
                answer = await _told(self._writers.run(self._remove, key, _guard(conditions)))
            case "PROPFIND":
                answer = await self._properties(exchange, key)
            case "MKCOL":
                answer = _Answer(201)
            case _:
                answer = _NOT_ALLOWED
        exchange.start(answer.status, answer.headers, answer.length)
        if answer.piece:
            exchange.write(answer.piece)
            if len(answer.piece) > SMALL:
                await exchange.drain()
        exchange.finish()

    def _read(self, key: bytes, conditions: Conditions, wants_body: bool) -> _Answer:
        """Blocking: everything up to the body's second piece. A Range counts for GET alone (RFC 9110 §14.2)."""
        stored = self._layout.open(key)
        if stored is None:
            return _NOT_FOUND
        if self.index is not None:
            self._layout.note_use(key)
        meta = stored.meta
        headers = _headers_of(meta)
        match evaluate(conditions, reads=True, etag=meta.etag, modified=meta.modified):
            case Outcome.FAILED:
                return _PRECONDITION_FAILED
            case Outcome.NOT_MODIFIED:
                return _Answer(304, [header for header in headers if header[0] in _SENT_WITH_304], None)
        if not wants_body:
            return _Answer(200, headers, meta.size)
        span = byte_range(conditions, etag=meta.etag, size=meta.size)
        status = 200
        if span is None:
            span = range(meta.size)
        elif not span:
            return _Answer(416, ((b"Content-Range", b"bytes */%d" % meta.size),))
        else:
            status = 206
            headers.append((b"Content-Range", b"bytes %d-%d/%d" % (span.start, span.stop - 1, meta.size)))
        piece = stored.read(span.start, min(len(span), PIECE))
        if span and not piece:
            raise Damaged("the body can't be read")
        whole = len(piece) == len(span)
        return _Answer(status, headers, len(span), piece, None if whole else stored, span.start + len(piece), span.stop)

    async def _stream(self, exchange: Downstream, answer: _Answer, stored: Stored) -> None:
        """The next piece is read while the client takes the one before."""
        offset, piece = answer.offset, answer.piece
        try:
            exchange.start(answer.status, answer.headers, answer.length)
            while offset < answer.end:
                if not piece:
                    return
                ahead = self._readers.run(stored.read, offset, min(answer.end - offset, PIECE))
                exchange.write(piece)
                await exchange.drain()
                piece = await ahead
                offset += len(piece)
            exchange.write(piece)
            await exchange.drain()
            exchange.finish()
        finally:
            # In a thread: closing a deleted file's last descriptor frees its blocks.
            self._readers.run(stored.close)

    async def _put(self, exchange: Downstream, key: bytes, conditions: Conditions) -> _Answer:
        kept = _kept_of(exchange.headers, key)
        guard = _guard(conditions)
        if exchange.content_length is not None:
            self._refuse_beyond(exchange.content_length)
        if guard is not None and not await _told(self._writers.run(self._allows, key, guard)):
            return _PRECONDITION_FAILED  # before the body is invited; the commit looks again
        upload = self._layout.upload(key, digests=any(name == provenance.HEADER for name, _ in kept))
        total = 0
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                pieces, size, ended = await _next_pieces(exchange)
                total += size
                if writing is not None:
                    await _told(writing)
                if ended:
                    break
                if exchange.content_length is None:
                    self._refuse_beyond(total)
                writing = self._writers.run(upload.write, pieces)
            if exchange.content_length is not None and total != exchange.content_length:
                raise Refused(Reason.BAD_REQUEST, "the body is not as long as its Content-Length says")
            change, meta = await _told(self._writers.run(upload.commit, pieces, kept, self._clock(), guard))
        finally:
            if writing is not None and writing.done() and not writing.cancelled():
                writing.exception()  # told already, or of a body that broke off: nobody needs to hear of it
            if not upload.done:
                await asyncio.shield(_told(self._writers.run(upload.discard)))
        if change is Change.PRECONDITION_FAILED:
            return _PRECONDITION_FAILED
        created = change is Change.CREATED
        found = [pair for pair in meta.headers if pair[0] == provenance.DIGEST_HEADER]
        return _Answer(201 if created else 204, [*_validators_of(meta), *found], 0 if created else None)

    async def _properties(self, exchange: Downstream, key: bytes) -> _Answer:
        """Each resource has the same few, whichever the body asks for."""
        asked = 0
        while piece := await exchange.read():
            asked += len(piece)
            if asked > KEPT_SIZE:
                raise Refused(Reason.BAD_REQUEST, "a PROPFIND with a long body")
        meta = None
        if key and not key.endswith(b"/"):
            meta = await _told(self._readers.run(self._layout.meta, key))
            if meta is None:
                return _NOT_FOUND
        elif all(name.lower() != b"depth" or value != b"0" for name, value in exchange.headers):
            return _Answer(403, (XML,), len(NOT_LISTED), NOT_LISTED)
        body = listing(exchange.upstream_path.partition("?")[0], meta)
        return _Answer(207, (XML,), len(body), body)

    def _refuse_beyond(self, size: int) -> None:
        try:
            self._layout.refuse_beyond(size)
        except OSError as error:
            raise _refusal(error) from error

    def _allows(self, key: bytes, guard: Guard) -> bool:
        return guard(self._layout.meta(key))

    def _remove(self, key: bytes, guard: Guard | None) -> _Answer:
        match self._layout.remove(key, guard):
            case Change.ABSENT:
                return _NOT_FOUND
            case Change.PRECONDITION_FAILED:
                return _PRECONDITION_FAILED
        return _Answer(204, length=None)


async def _told(step: Awaitable[T]) -> T:
    """What the disk says, as a refusal. Its text reaches audit and log, so it names no path."""
    try:
        return await step
    except Damaged as error:
        raise Refused(Reason.UPSTREAM_BROKEN, f"embedded store: {error}") from error
    except OSError as error:
        raise _refusal(error) from error


def _refusal(error: OSError) -> Unavailable:
    reason = Reason.STORE_FULL if is_full(error) else Reason.UPSTREAM_UNREACHABLE
    return Unavailable(reason, f"embedded store: {error.strerror}")


async def _next_pieces(exchange: Downstream) -> tuple[list[bytes], int, bool]:
    """At least PIECE bytes (or _MOST_PIECES pieces) of the body, their size, and whether the body ended with them."""
    pieces: list[bytes] = []
    size = 0
    while size < PIECE and len(pieces) < _MOST_PIECES:
        piece = await exchange.read()
        if not piece:
            return pieces, size, True
        pieces.append(piece)
        size += len(piece)
    return pieces, size, False


def _key_of(upstream_path: str) -> bytes:
    """The path's bytes, decoded once, without the leading slash: two spellings of one key are one key."""
    return unquote_to_bytes(upstream_path.partition("?")[0].removeprefix("/"))


def _guard(conditions: Conditions) -> Guard | None:
    if not conditions.guard_writes:
        return None

    def guard(meta: Meta | None) -> bool:
        etag, modified = (meta.etag, meta.modified) if meta is not None else (None, 0)
        return evaluate(conditions, reads=False, etag=etag, modified=modified) is Outcome.PROCEED

    return guard


def _kept_of(headers: HeaderList, key: bytes) -> list[tuple[bytes, bytes]]:
    """What a client asks back with the object. Raises `Refused` for what a PUT can't mean here."""
    kept: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in headers:
        name = name.lower()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES):
            kept.append((name, value))
            size += len(name) + len(value)
        elif name == provenance.HEADER:
            kept.append((name, value))
        elif name == b"content-range":
            # RFC 9110 §14.5: a store that can't replace a part must refuse, or it would take the part for the whole.
            raise Refused(Reason.BAD_HEADER, "Content-Range in a PUT")
    if size > KEPT_SIZE or len(key) > KEY_SIZE:
        raise Refused(Reason.HEAD_TOO_LARGE, f"more than {KEPT_SIZE} bytes of headers to keep, or {KEY_SIZE} of key")
    return kept


def _validators_of(meta: Meta) -> list[tuple[bytes, bytes]]:
    return [(b"ETag", meta.etag.encode()), (b"Last-Modified", http_date(meta.modified).encode())]


def _headers_of(meta: Meta) -> list[tuple[bytes, bytes]]:
    kept = [pair for pair in meta.headers if pair[0] not in _SAID_BY_US]
    headers = [*_validators_of(meta), (b"Accept-Ranges", b"bytes"), *kept]
    if all(name != b"content-type" for name, _ in meta.headers):
        headers.append((b"Content-Type", b"application/octet-stream"))
    return headers
