"""`aws-chunked`: an upload in pieces that are each signed, or that end in a checksum. Framing is taken off, all else checked.

A push decoder: bytes in, plain bytes out, and nothing kept but the line that is being read. It gives out a chunk before the
chunk's signature is known; whoever uses it keeps the last bytes back until `finish()` has found everything right
(`s3.body` does), so that nothing wrong becomes an object.

Source: S3 API Reference, "Signature calculations: transferring payload in multiple chunks" and "... including trailing
headers". Line ends of trailers are as clients send them: CRLF by the SDKs, LF and an empty line by minio-go.
"""

import hashlib
import hmac
import re
from enum import Enum, auto

from msgspec import Struct

from sidecar.checksums import Checksums
from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.sigv4 import EMPTY_SHA256, signature

LONGEST_LINE = 128
"""Bytes of a chunk's line; the longest that means something has 99."""
LONGEST_TRAILER = 2048
"""Bytes of all trailers."""
MOST_TRAILERS = 8

_UNSIGNED_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})\r\n")
_SIGNED_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})\r\n")
_LINE = rb"[a-z0-9-]{1,64}:[A-Za-z0-9+/=]{1,128}\r?\n"
_TRAILER = re.compile(rb"([a-z0-9-]+):([A-Za-z0-9+/=]+)\r?\n")
_UNSIGNED_TRAILERS = re.compile(rb"((?:%b)+)\r\n(?:\r\n)?" % _LINE)
_SIGNED_TRAILERS = re.compile(rb"((?:%b)+)(?:\r\n)?x-amz-trailer-signature:([0-9a-f]{64})\r\n\r\n" % _LINE)


class _At(Enum):
    CHUNK = auto()
    DATA = auto()
    AFTER_DATA = auto()
    LAST = auto()
    TRAILERS = auto()
    END = auto()


class ChunkSigning(Struct, frozen=True):
    """What the chunks' signatures are reckoned from: all of it from the request's own signature."""

    key: bytes
    """`sigv4.signing_key`."""
    date: str
    scope: str
    seed: str
    """The request's signature, in hex."""

    def __repr__(self) -> str:
        return "<chunk signing>"


class Decoder:
    """One body. Fed byte by byte it gives the same as fed whole."""

    def __init__(
        self,
        length: int,
        *,
        signed: bool = False,
        signing: ChunkSigning | None = None,
        trailers: tuple[str, ...] = (),
    ) -> None:
        """`length`: the decoded size that the client announced, in bytes. `signed`: the chunks carry signatures, which hold
        for `signing`; without it they are read over, as where a token and not the signature says who it is. `trailers`: the
        names that the client announced, in lower case; checksums alone are known, `Refused(MALFORMED_BODY)` for others.
        """
        if len(set(trailers)) != len(trailers) or len(trailers) > MOST_TRAILERS:
            raise Refused(Reason.MALFORMED_BODY, "trailers are announced twice, or too many")
        self._left = length
        self._signed = signed
        self._signing = signing
        self._previous = signing.seed if signing is not None else ""
        self._signature = ""
        self._names = trailers
        self._checksums = Checksums(trailers)
        self.trailers: dict[str, str] = {}
        """What stood in them, once it was found right."""
        self._hash = hashlib.sha256()
        self._at = _At.CHUNK
        self._in_chunk = 0
        self._line = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The plain pieces in `data`. Raises `Refused`: `MALFORMED_BODY`, also for another length, or `BAD_SIGNATURE`."""
        pieces: list[bytes] = []
        position, size = 0, len(data)
        while position < size:
            if self._at is _At.DATA:
                taken = min(self._in_chunk, size - position)
                piece = data if taken == size else data[position : position + taken]
                self._take(piece)
                pieces.append(piece)
                position += taken
            elif self._at is _At.TRAILERS:
                self._line += data[position:]
                if len(self._line) > LONGEST_TRAILER:
                    raise Refused(Reason.MALFORMED_BODY, "trailers are too long")
                break
            elif self._at is _At.END:
                raise Refused(Reason.MALFORMED_BODY, "bytes after the last chunk")
            else:
                position = self._read_line(data, position)
        return pieces

    def finish(self) -> None:
        """The body has ended. Raises as `feed()` does unless it is complete and everything in it was right."""
        if self._at is _At.TRAILERS:
            self._check_trailers(bytes(self._line))
        elif self._at is not _At.END:
            raise Refused(Reason.MALFORMED_BODY, "the body breaks off")

    def _read_line(self, data: bytes, position: int) -> int:
        """Reads on in a chunk's line, or in the empty one after its data; where to read on from."""
        end = data.find(b"\n", position, position + LONGEST_LINE) + 1
        self._line += data[position : end or position + LONGEST_LINE]
        if len(self._line) > LONGEST_LINE:
            raise Refused(Reason.MALFORMED_BODY, "a chunk's line is too long")
        if not end:
            return position + LONGEST_LINE
        line = bytes(self._line)
        self._line.clear()
        if self._at is _At.CHUNK:
            self._begin_chunk(line)
        elif line != b"\r\n":
            raise Refused(Reason.MALFORMED_BODY, "a chunk is longer than it says")
        else:
            self._at = _At.END if self._at is _At.LAST else _At.CHUNK
        return end

    def _begin_chunk(self, line: bytes) -> None:
        match = (_SIGNED_CHUNK if self._signed else _UNSIGNED_CHUNK).fullmatch(line)
        if match is None or (line[:1] == b"0" and len(match[1]) > 1):
            raise Refused(Reason.MALFORMED_BODY, "a chunk's line is malformed")
        if self._signed:
            self._signature = match[2].decode()
        size = int(match[1], 16)
        if size > self._left or (size == 0 and self._left):
            raise Refused(Reason.MALFORMED_BODY, "the chunks don't add up to x-amz-decoded-content-length")
        self._in_chunk = size
        if size:
            self._at = _At.DATA
        else:
            self._end_chunk()
            self._at = _At.TRAILERS if self._names else _At.LAST

    def _take(self, piece: bytes) -> None:
        if self._signing is not None:
            self._hash.update(piece)
        if self._names:
            self._checksums.update(piece)
        self._in_chunk -= len(piece)
        self._left -= len(piece)
        if not self._in_chunk:
            self._end_chunk()
            self._at = _At.AFTER_DATA

    def _end_chunk(self) -> None:
        if self._signing is not None:
            self._compare("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{self._hash.hexdigest()}", self._signature)
            self._hash = hashlib.sha256()

    def _compare(self, kind: str, text: str, presented: str) -> None:
        """Each signature covers the one before, so that chunks can't be left out, repeated or swapped."""
        if self._signing is None:
            return
        signing = self._signing
        expected = signature(signing.key, f"{kind}\n{signing.date}\n{signing.scope}\n{self._previous}\n{text}")
        if not hmac.compare_digest(expected, presented):
            raise Refused(Reason.BAD_SIGNATURE, f"{kind} is another")
        self._previous = expected

    def _check_trailers(self, text: bytes) -> None:
        match = (_SIGNED_TRAILERS if self._signed else _UNSIGNED_TRAILERS).fullmatch(text)
        if match is None:
            raise Refused(Reason.MALFORMED_BODY, "trailers are malformed")
        found = sorted((name.decode(), value.decode()) for name, value in _TRAILER.findall(match[1]))
        if [name for name, _ in found] != sorted(self._names):
            raise Refused(Reason.MALFORMED_BODY, "trailers are others than x-amz-trailer says")
        if self._signed:
            lines = "".join(f"{name}:{value}\n" for name, value in found)
            self._compare("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(lines.encode()).hexdigest(), match[2].decode())
        self._checksums.check(dict(found))
        self.trailers = dict(found)
        self._at = _At.END
