"""An S3 client's exchange, between the data plane and the store: its body verified and unwrapped, its answer in its own names.

Laws. The bytes that make an upload whole reach the store only when all that the client said of it has proved right; a body of no
bytes at all has to prove right before the store is asked. What is said to the client of a store's XML was read and written anew;
no answer says where the store is.
"""

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from sidecar.buckets import Receive, body_of, received
from sidecar.decision import Decision
from sidecar.errors import NoBucket
from sidecar.model import Permission
from sidecar.ports import Downstream, HeaderList
from sidecar.s3.answer import DECLARATION, Answer
from sidecar.s3.body import Body
from sidecar.s3.operations import Level
from sidecar.s3.sending import Sending
from sidecar.s3.wrapping import Wrapping
from sidecar.server.exchange import Exchange
from sidecar.server.taken import Taken
from sidecar.server.through import Through
from sidecar.sigv4 import UNSIGNED_PAYLOAD
from sidecar.sigv4_verify import STREAMING_UNSIGNED_TRAILER

HELD = 64 * 1024
"""Bytes of an upload that are waited for before the store is asked, where it comes with a checksum behind it."""
PartsChecksum = Callable[[str, str], Awaitable[str]]
"""Of an upload, by its key's path and its id; empty for none. Raises `Refused`."""

_OF_THE_OLD_BODY = frozenset({
    b"etag", b"content-type", b"content-encoding", b"content-md5", b"accept-ranges", b"content-range", b"content-length",
})  # fmt: skip
_PATIENT = "CompleteMultipartUpload"
"""Its answer may begin long before it is known: a store keeps the connection awake with spaces (S3 API Reference)."""
_NO_BUCKET = b"<Code>NoSuchBucket</Code>"
"""In an answer as it is written anew, so where both call the bucket differently: then the client named one that it has."""
_HASHED = frozenset({"PutObject", "UploadPart"})
_NAMES_KEYS = frozenset({"CompleteMultipartUpload", "CreateMultipartUpload", "ListParts"})


class Bucketed(Through):
    def __init__(
        self,
        exchange: Downstream,
        sending: Sending,
        body: Body | None,
        wrapping: Wrapping | None = None,
        observe: Callable[[bytes], object] | None = None,
        taken: Taken | None = None,
    ) -> None:
        """`wrapping`: the store gets the body wrapped anew, with its first trailer. `observe` is given each unwrapped piece, `taken`
        what the store says."""
        super().__init__(exchange)
        self._sending = sending
        self._body = body
        self._own = sending.body
        self._wrapping = wrapping
        self._observe = observe
        self._taken = taken
        self._ended = False
        self.payload = UNSIGNED_PAYLOAD
        """What the signature is to say of the body."""
        self.upstream_path, self.headers = sending.path, sending.headers
        if sending.body is not None:
            self.content_length = len(sending.body)
        elif body is not None:
            self.content_length = body.length
            if wrapping is not None:
                self.content_length, self.headers = wrapping.length, wrapping.headers(sending.headers)
                self.payload = STREAMING_UNSIGNED_TRAILER
        self._answer: Answer | None = None
        self._head: tuple[int, HeaderList] | None = None

    # --- the request's body -----------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        if self._own is not None:
            own, self._own = self._own, b""
            return own
        if self._body is None:
            data = await self._inner.read()
            if self._observe is not None:
                self._observe(data)
            return data
        while not self._ended:
            data = await self._inner.read()
            self._ended = not data
            pieces = self._body.feed(data) if data else self._body.finish()
            if self._observe is not None:
                for piece in pieces:
                    self._observe(piece)
            if self._wrapping is not None:
                pieces = self._wrapping.wrap(pieces)
                if self._ended:
                    pieces.append(self._wrapping.end(self._body.trailer(self._body.trailers[0])))
            if pieces:
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        return b""

    # --- the answer -------------------------------------------------------------------------------------------------------

    def start(self, status: int, headers: HeaderList, length: int | None) -> None:
        asked = self._sending.asked
        written = not self._sending.place.same or (status < 300 and asked.operation.name == _PATIENT)
        if not written or self.method == "HEAD" or status == 304 or not self._names(status):
            self._inner.start(status, headers, length)
            return
        self._answer = Answer(self._sending.place, asked.bucket, asked.key, asked.query)
        kept = [pair for pair in headers if pair[0].lower() not in _OF_THE_OLD_BODY]
        self._head = status, [*kept, (b"Content-Type", b"application/xml")]

    def _names(self, status: int) -> bool:
        """Whether the body names a bucket or a key."""
        operation = self._sending.asked.operation
        return status >= 300 or operation.level is Level.BUCKET or operation.name in _NAMES_KEYS

    def write(self, data: bytes) -> None:
        if self._taken is not None:
            self._taken.said(data)
        answer = self._answer
        if answer is None:
            self._inner.write(data)
            return
        answer.feed(data)
        if self._sending.asked.operation.name == _PATIENT and not answer.begun:
            if self._head is not None:
                self._inner.start(*self._head, None)
                self._inner.write(DECLARATION)
                self._head = None
            self._inner.write(b" ")

    async def sink(self) -> int | None:
        return None if self._answer is not None or self._taken is not None else await self._inner.sink()

    def _administers(self) -> bool:
        """Whether it is about the bucket itself, which may well be missing: it is being made, or has just been removed."""
        operation = self._sending.asked.operation
        return operation.level is Level.BUCKET and operation.permission is Permission.ADMIN

    def finish(self) -> None:
        if self._answer is not None:
            written = self._answer.close()
            if _NO_BUCKET in written and self._head is not None and not self._administers():
                raise NoBucket(self._sending.place.store_bucket)
            if self._head is None:
                written = written.removeprefix(DECLARATION)
            else:
                self._inner.start(*self._head, len(written))
            if written:
                self._inner.write(written)
        self._inner.finish()


async def bucketed(
    exchange: Exchange,
    decision: Decision,
    sending: Sending,
    parts_checksum: PartsChecksum | None,
    taken: Taken | None,
    digest_up_to: int,
) -> Bucketed:
    """`digest_up_to`: of a larger body no hash is reckoned for the record alone. Raises `Refused` for a body that isn't what it says."""
    head, body, wrapping = decision.head, None, None
    name = sending.asked.operation.name
    if sending.body is None and head is not None and head.method in ("PUT", "POST"):
        body = body_of(sending.asked, head, decision.signed, decision.chunks)
        if body is not None and name == "PutObject" and len(body.trailers) == 1 and body.length <= HELD:
            return await _held(exchange, sending, body)
        if body is not None and body.length == 0:
            await prove_empty(body, exchange.read)
            body = None
            exchange.content_length = 0
        elif body is not None and body.trailers and name == "UploadPart" and parts_checksum:
            wanted = await parts_checksum(sending.path.partition("?")[0], sending.asked.query["uploadId"])
            if wanted:  # one of another algorithm is the store's to refuse
                wrapping = Wrapping(body.length, body.trailers[0])
    observe: Callable[[bytes], object] | None = None
    if taken is not None and taken.listed is not None:
        observe = taken.listed.feed
    elif name in _HASHED:
        if body is None:
            exchange.watch_body(digest_up_to)
        else:
            observe = exchange.expect_body(body.sha256, hashed=body.length <= digest_up_to)
    return Bucketed(exchange, sending, body, wrapping, observe, taken)


async def _held(exchange: Exchange, sending: Sending, body: Body) -> Bucketed:
    """Of a small upload, when all of it is here and was found right: the checksum behind it goes before it, in a header, so
    that the store keeps it with the object."""
    content = await received(body, exchange.read, HELD)
    observe = exchange.expect_body(None, hashed=True)
    if observe is not None:
        observe(content)
    name = body.trailers[0]
    headers = [*sending.headers, (name.encode(), body.trailer(name).encode())]
    return Bucketed(exchange, replace(sending, headers=headers, body=content), None)


async def prove_empty(body: Body, receive: Receive) -> None:
    """Reads a body from which the store is to get nothing. Raises `Refused` unless it is what the client said."""
    while data := await receive():
        body.feed(data)
    body.finish()
