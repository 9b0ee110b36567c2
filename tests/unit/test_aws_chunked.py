"""`aws-chunked` bodies: the documented signatures, one meaning however they arrive, and every changed byte refused."""

import base64
import hashlib
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4
from sidecar.aws_chunked import LONGEST_LINE, LONGEST_TRAILER, ChunkSigning, Decoder
from sidecar.errors import Refused
from sidecar.reasons import Reason

# "Signature calculations ... multiple chunks" of the S3 API Reference: 66,560 times `a`, in chunks of 65,536, 1,024 and 0.
KEY = sigv4.signing_key(sigv4.day_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524"), "us-east-1")
DATE, SCOPE = "20130524T000000Z", "20130524/us-east-1/s3/aws4_request"
DOCUMENTED = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ),
}
TRAILER, TRAILER_VALUE = "x-amz-checksum-crc32c", "sOO8/Q=="
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def documented(mode: str) -> bytes:
    _, first, second, last = DOCUMENTED[mode]
    body = (
        f"10000;chunk-signature={first}\r\n{'a' * 65536}\r\n400;chunk-signature={second}\r\n{'a' * 1024}\r\n"
        f"0;chunk-signature={last}\r\n"
    )
    if mode.endswith("TRAILER"):
        body += f"{TRAILER}:{TRAILER_VALUE}\r\nx-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n"
    return f"{body}\r\n".encode()


def documented_decoder(mode: str) -> Decoder:
    trailers = (TRAILER,) if mode.endswith("TRAILER") else ()
    return Decoder(66_560, signed=True, signing=ChunkSigning(KEY, DATE, SCOPE, DOCUMENTED[mode][0]), trailers=trailers)


@pytest.mark.parametrize("mode", DOCUMENTED)
def test_the_documented_seed(mode: str) -> None:
    """From the headers of the documentation's example; it signs `content-length` in the form without trailers alone."""
    headers = [
        ("content-encoding", "aws-chunked"),
        ("host", "s3.amazonaws.com"),
        ("x-amz-content-sha256", mode),
        ("x-amz-date", DATE),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-trailer", TRAILER) if mode.endswith("TRAILER") else ("content-length", "66824"),
    ]
    names, lines = sigv4.canonical_headers(headers)
    canonical = sigv4.canonical_request("PUT", "/examplebucket/chunkObject.txt", "", names, lines, mode)
    assert sigv4.signature(KEY, sigv4.string_to_sign(canonical, DATE, SCOPE)) == DOCUMENTED[mode][0]


@pytest.mark.parametrize("mode", DOCUMENTED)
def test_the_documented_chunks(mode: str) -> None:
    decoder = documented_decoder(mode)
    assert b"".join(decoder.feed(documented(mode))) == b"a" * 66_560
    decoder.finish()
    if not mode.endswith("TRAILER"):
        assert len(documented(mode)) == 66_824  # the documented Content-Length


SEED = "5" * 64


def build(
    chunks: list[bytes], *, signed: bool = True, trailer: str | None = "x-amz-checksum-crc32", end: bytes = b"\r\n"
) -> bytes:
    """What a client sends. `end` is how it ends a trailer's line: CRLF, or LF and an empty line."""
    previous = SEED

    def sign(kind: str, text: str) -> str:
        nonlocal previous
        previous = sigv4.signature(KEY, f"{kind}\n{DATE}\n{SCOPE}\n{previous}\n{text}")
        return previous

    body = b""
    for chunk in [*chunks, b""]:
        line = f"{len(chunk):x}"
        if signed:
            text = f"{sigv4.EMPTY_SHA256}\n{hashlib.sha256(chunk).hexdigest()}"
            line += f";chunk-signature={sign('AWS4-HMAC-SHA256-PAYLOAD', text)}"
        body += line.encode() + b"\r\n" + (chunk + b"\r\n" if chunk else b"")
    if trailer is None:
        return body + b"\r\n"
    value = base64.b64encode(zlib.crc32(b"".join(chunks)).to_bytes(4, "big")).decode()
    body += f"{trailer}:{value}".encode() + end
    if signed:
        digest = hashlib.sha256(f"{trailer}:{value}\n".encode()).hexdigest()
        body += f"x-amz-trailer-signature:{sign('AWS4-HMAC-SHA256-TRAILER', digest)}\r\n".encode()
    return body + b"\r\n"


def decode(
    body: list[bytes], length: int, *, signed: bool = True, trailer: str | None = "x-amz-checksum-crc32"
) -> bytes:
    signing = ChunkSigning(KEY, DATE, SCOPE, SEED) if signed else None
    decoder = Decoder(length, signed=signed, signing=signing, trailers=(trailer,) if trailer else ())
    plain = b"".join(piece for part in body for piece in decoder.feed(part))
    decoder.finish()
    return plain


MODES = [(True, None), (True, "x-amz-checksum-crc32"), (False, "x-amz-checksum-crc32")]
CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def outcome(parts: list[bytes], length: int, signed: bool, trailer: str | None) -> bytes | Reason:
    try:
        return decode(parts, length, signed=signed, trailer=trailer)
    except Refused as refused:
        return refused.reason


@pytest.mark.parametrize(("signed", "trailer"), MODES)
@given(chunks=CHUNKS, end=st.sampled_from([b"\r\n", b"\n\r\n"]), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_however_it_is_cut_it_is_the_same(
    signed: bool, trailer: str | None, chunks: list[bytes], end: bytes, cuts: list[int]
) -> None:
    body, plain = build(chunks, signed=signed, trailer=trailer, end=end), b"".join(chunks)
    edges = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    pieces = [body[start:stop] for start, stop in itertools.pairwise(edges)]
    assert decode([body], len(plain), signed=signed, trailer=trailer) == plain
    assert decode(pieces, len(plain), signed=signed, trailer=trailer) == plain
    assert decode([bytes([byte]) for byte in body], len(plain), signed=signed, trailer=trailer) == plain


@pytest.mark.parametrize(("signed", "trailer"), MODES)
@given(body=st.binary(max_size=200), at=st.integers(0, 400), length=st.integers(0, 60))
def test_noise_means_the_same_however_it_is_cut(
    signed: bool, trailer: str | None, body: bytes, at: int, length: int
) -> None:
    good = build([b"some data"], signed=signed, trailer=trailer)
    for text in (body, good[:at] + body + good[at:], good[:at], good + body):
        for size in (9, length):
            whole = outcome([text], size, signed, trailer)
            assert outcome([bytes([byte]) for byte in text], size, signed, trailer) == whole
            if text != good:
                assert isinstance(whole, Reason) or not signed


def same_number(body: bytes, other: bytes) -> bool:
    """A hexadecimal size in the other case is the same size: some SDKs write capitals."""
    return body.lower() == other.lower() and body.partition(b";")[2] == other.partition(b";")[2]


@pytest.mark.parametrize(("signed", "trailer"), MODES)
def test_every_mutated_byte_is_refused(signed: bool, trailer: str | None) -> None:
    chunks = [b"0123456789ab", b"x"]
    body = build(chunks, signed=signed, trailer=trailer)
    assert decode([body], 13, signed=signed, trailer=trailer) == b"".join(chunks)
    passed = []
    for at in range(len(body)):
        for byte in [*(body[at] ^ 1 << bit for bit in range(8)), *b"\r\n 0;:"]:
            other = body[:at] + bytes([byte]) + body[at + 1 :]
            if other != body and not isinstance(outcome([other], 13, signed, trailer), Reason):
                passed.append(other)
    assert [other for other in passed if not same_number(body, other)] == []
    assert len(passed) == 1  # the size `c` as `C`


@pytest.mark.parametrize("trailer", [None, "x-amz-checksum-crc32"])
def test_chunks_can_t_be_left_out_swapped_or_repeated(trailer: str | None) -> None:
    body = build([b"aaaa", b"bbbb", b"cccc"], trailer=trailer)
    line = body.index(b"\r\n") + 2
    size = line + 4 + 2
    first, second, third, rest = body[:size], body[size : 2 * size], body[2 * size : 3 * size], body[3 * size :]
    assert decode([first, second, third, rest], 12, trailer=trailer) == b"aaaabbbbcccc"
    for order, length in [([second, first, third], 12), ([first, first, second], 12), ([first, third], 8), ([], 0)]:
        assert isinstance(outcome([*order, rest], length, True, trailer), Reason)


@pytest.mark.parametrize(
    ("body", "length", "reason"),
    [
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 4, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 6, Reason.MALFORMED_BODY),
        (b"05\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5;a=b\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5 \r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\nhello\n0\nx-amz-checksum-crc32:NhCmhg==\n\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello!\r\n\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"-5\r\nhello\r\n0\r\n", 5, Reason.MALFORMED_BODY),
        (b"ffffffffffffffff\r\nhello\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhQ==\r\n\r\n", 5, Reason.BODY_MISMATCH),
        (b"5\r\nhello\r\n0\r\nx-amz-checksum-sha1:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\nx-amz-meta-a:1\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhello\r\n0\r\n" + b"x-amz-checksum-crc32:NhCmhg==\r\n" * 2 + b"\r\n", 5, Reason.MALFORMED_BODY),
        (b"5\r\nhell", 5, Reason.MALFORMED_BODY),
        (b"", 0, Reason.MALFORMED_BODY),
        (b"5\r\n" * LONGEST_LINE, 5, Reason.MALFORMED_BODY),
        (b"1" * (LONGEST_LINE + 1), 5, Reason.MALFORMED_BODY),
    ],
)
def test_malformed(body: bytes, length: int, reason: Reason) -> None:
    assert outcome([body], length, False, "x-amz-checksum-crc32") is reason


@pytest.mark.parametrize(("begin", "byte", "most"), [(b"", b"1", LONGEST_LINE), (b"0\r\n", b"a", LONGEST_TRAILER)])
def test_a_line_or_trailer_without_end_is_not_kept(begin: bytes, byte: bytes, most: int) -> None:
    """Refused as it grows past its bound, not at the end of the body: otherwise it would fill the memory."""
    decoder = Decoder(0, trailers=("x-amz-checksum-crc32",))
    decoder.feed(begin)
    for _ in range(most):
        decoder.feed(byte)
    with pytest.raises(Refused):
        decoder.feed(byte)


def test_bytes_after_the_end_are_refused() -> None:
    assert outcome([build([b"abc"], trailer=None), b"x"], 3, True, None) is Reason.MALFORMED_BODY


def test_chunks_signed_for_nobody_are_unwrapped_all_the_same() -> None:
    """Where a token says who it is, the signatures beside it were made with any secret."""
    for trailer in (None, "x-amz-checksum-crc32"):
        body = build([b"hello"], trailer=trailer)
        decoder = Decoder(5, signed=True, trailers=(trailer,) if trailer else ())
        assert decoder.feed(body) == [b"hello"]
        decoder.finish()


@pytest.mark.parametrize(
    "trailers", [("x-amz-meta-a",), ("x-amz-checksum-crc32",) * 2, ("x-amz-checksum-blake3",), ("",)]
)
def test_trailers_that_can_t_be_checked(trailers: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        Decoder(5, trailers=trailers)
    assert refused.value.reason is Reason.MALFORMED_BODY


def test_a_piece_in_one_chunk_is_not_copied() -> None:
    decoder = Decoder(10, trailers=("x-amz-checksum-crc32",))
    decoder.feed(b"a\r\n")
    piece = b"0123456789"
    assert decoder.feed(piece)[0] is piece


def test_what_signs_chunks_is_not_shown() -> None:
    assert KEY.hex() not in repr(ChunkSigning(KEY, DATE, SCOPE, SEED))
    assert repr(KEY) not in repr(ChunkSigning(KEY, DATE, SCOPE, SEED))
