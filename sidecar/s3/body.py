"""A body that an S3 client hashed, signed or wrapped, on its way to a store that gets it plain.

The law: the bytes that make the upload whole stay here until everything that the client said of it has proved right. The
store was promised the decoded length, so that an upload that ends in a refusal is broken off there and becomes no object.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping

from sidecar.aws_chunked import ChunkSigning, Decoder
from sidecar.checksums import ALGORITHMS, PREFIX, Checksums, in_headers, well_formed
from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.sigv4 import UNSIGNED_PAYLOAD
from sidecar.sigv4_verify import STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER

_LENGTH = re.compile(r"[0-9]{1,15}")
_HASH = re.compile(r"[0-9a-f]{64}")
_STREAMING = frozenset({STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})

WRAPPING = frozenset(
    {"x-amz-decoded-content-length", "x-amz-trailer", "x-amz-content-sha256", "x-amz-sdk-checksum-algorithm"}
)
"""Headers about the form of the body as the client sent it: they end here, as the form does."""


class Body:
    """One upload. `length` is what the store is promised, in bytes.

    Where it is 0 nothing can be kept back: `finish()` before the store hears of the request at all.
    """

    def __init__(
        self,
        length: int,
        decoder: Decoder | None,
        sha256: str | None,
        checksums: Mapping[str, str],
        trailers: tuple[str, ...] = (),
    ) -> None:
        self.length = length
        self.trailers = trailers
        """The names of the checksums that come behind it."""
        self._decoder = decoder
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._values = checksums
        self._checksums = Checksums(tuple(checksums)) if checksums else None
        self._missing = length
        self._kept: list[bytes] = []

    @property
    def sha256(self) -> str | None:
        """What it is held to, in hex; `None` where nobody said."""
        return self._sha256

    def trailer(self, name: str) -> str:
        """What a trailer says; after `finish()`."""
        return self._decoder.trailers[name] if self._decoder is not None else ""

    def feed(self, data: bytes) -> list[bytes]:
        """What may go to the store now. Raises `Refused`: `MALFORMED_BODY`, `BAD_SIGNATURE`, `BODY_MISMATCH`."""
        free: list[bytes] = []
        for piece in (data,) if self._decoder is None else self._decoder.feed(data):
            self._missing -= len(piece)
            if self._missing < 0:
                raise Refused(Reason.MALFORMED_BODY, "longer than announced")
            if self._sha256 is not None:
                self._hash.update(piece)
            if self._checksums is not None:
                self._checksums.update(piece)
            (free if self._missing else self._kept).append(piece)
        return free

    def finish(self) -> list[bytes]:
        """The body has ended: the bytes that were kept back, if all is right. Raises as `feed()` does."""
        if self._decoder is not None:
            self._decoder.finish()
        if self._missing:
            raise Refused(Reason.MALFORMED_BODY, "shorter than announced")
        if self._sha256 is not None and not hmac.compare_digest(self._hash.hexdigest(), self._sha256):
            raise Refused(Reason.BODY_MISMATCH, "x-amz-content-sha256 is another")
        if self._checksums is not None:
            self._checksums.check(self._values)
        kept, self._kept = self._kept, []
        return kept


def open_body(
    values: Mapping[str, str],
    payload: str | None,
    length: int | None,
    *,
    signing: ChunkSigning | None = None,
    checksums_of_object: bool = False,
) -> Body | None:
    """How to read a request's body; `None` where it is to be passed on as it is.

    `values`: the request's headers. `payload`: what the signature says of the body (`Presented.payload`); where a token
    says who it is, the header `x-amz-content-sha256`, if any. `length`: its `Content-Length`. `signing`: what chunks' signatures are held to, `None`
    where nobody's signature is. `checksums_of_object`: the checksums in the headers are not this body's (completing a
    multipart upload). Raises `Refused`: `MALFORMED_BODY` for a form that is unknown or contradicts itself, `LENGTH_REQUIRED`
    for one whose length isn't said, `BAD_HEADER` for checksums of which S3 would refuse the header.
    """
    wrapped = "aws-chunked" in encodings(values)
    if payload is None and wrapped:  # botocore without a signature doesn't say it in x-amz-content-sha256
        payload = STREAMING_UNSIGNED_TRAILER
    checksums = {} if checksums_of_object else _one_checksum(values)
    if payload in _STREAMING:
        return _streaming(values, payload, checksums, signing)
    if wrapped or "x-amz-trailer" in values or "x-amz-decoded-content-length" in values:
        raise Refused(Reason.MALFORMED_BODY, "aws-chunked, but x-amz-content-sha256 says otherwise")
    if payload in (None, UNSIGNED_PAYLOAD):
        sha256 = None
    elif _HASH.fullmatch(payload) is not None:
        sha256 = payload
    else:
        raise Refused(Reason.MALFORMED_BODY, "x-amz-content-sha256 is unknown")
    if sha256 is None and not checksums:
        return None
    if length is None:
        raise Refused(Reason.MALFORMED_BODY, "no content-length")
    return Body(length, None, sha256, checksums)


def _one_checksum(values: Mapping[str, str]) -> dict[str, str]:
    """That of the headers, if there is one: S3 takes one alone, of the algorithm that the SDK says it took."""
    found = in_headers(values)
    trailers = [name.strip(" ") for name in values.get("x-amz-trailer", "").lower().split(",") if name.strip(" ")]
    if len(found) > 1 or (found and trailers):
        raise Refused(Reason.BAD_HEADER, "more than one checksum")
    for name, value in found.items():
        if name not in ALGORITHMS or not well_formed(name, value):
            raise Refused(Reason.BAD_HEADER, f"{name[:64]} holds none that is known here")
    stated = values.get("x-amz-sdk-checksum-algorithm")
    names = [*found, *trailers]
    if stated is not None and names and f"{PREFIX}{stated.lower()}" not in names:
        raise Refused(Reason.BAD_HEADER, "the checksum is another than x-amz-sdk-checksum-algorithm says")
    return found


def _streaming(
    values: Mapping[str, str], payload: str, checksums: Mapping[str, str], signing: ChunkSigning | None
) -> Body:
    text = values.get("x-amz-decoded-content-length", "")
    if _LENGTH.fullmatch(text) is None:
        raise Refused(Reason.LENGTH_REQUIRED, "x-amz-decoded-content-length is missing or no number")
    announced = values.get("x-amz-trailer")
    # Unsigned chunks may do without: their form has one name, whether a checksum comes behind them or not.
    if payload != STREAMING_UNSIGNED_TRAILER and (announced is not None) is not (payload == STREAMING_SIGNED_TRAILER):
        raise Refused(Reason.MALFORMED_BODY, "x-amz-trailer and x-amz-content-sha256 contradict each other")
    trailers = tuple(name.strip(" ").lower() for name in announced.split(",")) if announced is not None else ()
    signed = payload != STREAMING_UNSIGNED_TRAILER
    decoder = Decoder(int(text), signed=signed, signing=signing if signed else None, trailers=trailers)
    return Body(int(text), decoder, None, checksums, trailers)


def encodings(values: Mapping[str, str]) -> list[str]:
    """The codings in `Content-Encoding`, in lower case."""
    return [coding.strip(" ").lower() for coding in values.get("content-encoding", "").split(",") if coding.strip(" ")]


def plain_encoding(content_encoding: str) -> str:
    """A `Content-Encoding` without `aws-chunked`, which is a form of transfer and not of the object; empty if that was all."""
    return ",".join(
        coding.strip(" ")
        for coding in content_encoding.split(",")
        if coding.strip(" ").lower() not in ("aws-chunked", "")
    )
