"""An upload to S3 as the client sent it, and what of it reaches the store: all of it if it is right, otherwise never its end."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4
from sidecar.aws_chunked import ChunkSigning
from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.s3.body import Body, encodings, open_body, plain_encoding

CRC32 = "x-amz-checksum-crc32"
SIGNING = ChunkSigning(b"k" * 32, "20261122T084500Z", "20261122/us-east-1/s3/aws4_request", "5" * 64)


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def wrapped(data: bytes, trailer: str) -> bytes:
    chunk = f"{len(data):x}\r\n".encode() + data + b"\r\n" if data else b""
    return chunk + f"0\r\n{CRC32}:{trailer}\r\n\r\n".encode()


def streaming(length: int) -> dict[str, str]:
    return {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(length), "x-amz-trailer": CRC32}


def opened(values: dict[str, str], payload: str | None, length: int | None = None) -> Body:
    body = open_body(values, payload, length)
    assert body is not None
    return body


def sent_on(body: Body, parts: list[bytes]) -> tuple[bytes, Reason | None]:
    """What the store got of it, and how it ended."""
    got = b""
    try:
        for part in parts:
            got += b"".join(body.feed(part))
        got += b"".join(body.finish())
    except Refused as refused:
        return got, refused.reason
    return got, None


PARTS = st.lists(st.binary(max_size=20), min_size=1, max_size=6)


@given(PARTS)
def test_a_hashed_body_passes_if_its_hash_is_right(parts: list[bytes]) -> None:
    data = b"".join(parts)
    right = hashlib.sha256(data).hexdigest()
    assert sent_on(opened({}, right, len(data)), parts) == (data, None)


@given(PARTS, st.integers(0, 200), st.integers(1, 255))
def test_a_hashed_body_with_one_other_byte_never_becomes_whole(parts: list[bytes], at: int, flip: int) -> None:
    data = bytearray(b"".join(parts))
    if not data:
        return
    right = hashlib.sha256(data).hexdigest()
    data[at % len(data)] ^= flip
    got, reason = sent_on(opened({}, right, len(data)), [bytes(data[:3]), bytes(data[3:])])
    assert reason is Reason.BODY_MISMATCH
    assert len(got) < len(data)


@given(PARTS)
def test_a_wrapped_body_is_unwrapped(parts: list[bytes]) -> None:
    data = b"".join(parts)
    body = opened(streaming(len(data)), "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert body.length == len(data)
    assert sent_on(body, [wrapped(data, crc(data))]) == (data, None)


def test_what_the_client_said_of_it_can_be_asked() -> None:
    body = opened(streaming(5), "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert sent_on(body, [wrapped(b"hello", crc(b"hello"))]) == (b"hello", None)
    assert (body.trailers, body.trailer(CRC32), body.sha256) == ((CRC32,), crc(b"hello"), None)
    right = hashlib.sha256(b"hello").hexdigest()
    plain = opened({}, right, 5)
    assert (plain.length, plain.trailers, plain.trailer(CRC32), plain.sha256) == (5, (), "", right)


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_a_wrong_checksum_keeps_the_end_back(cut: int) -> None:
    data = b"0123456789" * 10
    text = wrapped(data, crc(b"another"))
    parts = [text[at : at + cut] for at in range(0, len(text), cut)]
    got, reason = sent_on(opened(streaming(100), "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), parts)
    assert reason is Reason.BODY_MISMATCH
    assert data.startswith(got)
    assert len(got) < 100


def test_a_wrong_chunk_keeps_the_end_back() -> None:
    text = b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
    values = {"x-amz-decoded-content-length": "5"}
    body = open_body(values, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", None, signing=SIGNING)
    assert body is not None
    assert sent_on(body, [text]) == (b"", Reason.BAD_SIGNATURE)


def test_a_body_that_breaks_off_or_runs_on() -> None:
    right = hashlib.sha256(b"hello").hexdigest()
    for parts in ([b"hell"], [b"hello", b"!"], [b"hello!"], []):
        got, reason = sent_on(opened({}, right, 5), parts)
        assert reason is Reason.MALFORMED_BODY
        assert len(got) < 5


def test_a_shorter_body_is_refused_even_if_its_hash_is_right() -> None:
    """The store was promised more: it would wait for the rest."""
    got, reason = sent_on(opened({}, hashlib.sha256(b"hell").hexdigest(), 5), [b"hell"])
    assert (got, reason) == (b"hell", Reason.MALFORMED_BODY)


def test_signed_chunks_with_a_trailer_where_a_token_says_who_it_is() -> None:
    signature = "0" * 64
    text = (
        f"5;chunk-signature={signature}\r\nhello\r\n0;chunk-signature={signature}\r\n"
        f"{CRC32}:{crc(b'hello')}\r\nx-amz-trailer-signature:{signature}\r\n\r\n"
    ).encode()
    word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    assert sent_on(opened(streaming(5), word), [text]) == (b"hello", None)
    body = open_body(streaming(5), word, None, signing=SIGNING)
    assert body is not None
    assert sent_on(body, [text]) == (b"", Reason.BAD_SIGNATURE)


def test_a_checksum_in_a_header_is_checked_too() -> None:
    """The store may not know it: Swift and older MinIO pass over those that they don't."""
    for payload in (None, "UNSIGNED-PAYLOAD", hashlib.sha256(b"hello").hexdigest()):
        assert sent_on(opened({CRC32: crc(b"hello")}, payload, 5), [b"hello"]) == (b"hello", None)
        assert sent_on(opened({CRC32: crc(b"hullo")}, payload, 5), [b"hello"]) == (b"", Reason.BODY_MISMATCH)


def test_a_checksum_of_the_object_is_not_of_the_body() -> None:
    assert open_body({CRC32: crc(b"the object")}, "UNSIGNED-PAYLOAD", 5, checksums_of_object=True) is None


@pytest.mark.parametrize("payload", [None, "UNSIGNED-PAYLOAD"])
def test_a_body_that_nobody_hashed_is_left_alone(payload: str | None) -> None:
    assert open_body({"content-type": "text/plain", "x-amz-sdk-checksum-algorithm": "CRC32"}, payload, None) is None


def test_wrapped_without_a_signature_to_say_so() -> None:
    """As botocore does it with `signature_version=UNSIGNED` and a Bearer token, over https."""
    assert sent_on(opened(streaming(5), None), [wrapped(b"hello", crc(b"hello"))]) == (b"hello", None)


HASH = sigv4.EMPTY_SHA256


@pytest.mark.parametrize(
    ("values", "payload", "length"),
    [
        ({"content-encoding": "aws-chunked"}, HASH, 0),  # the framing would be stored inside the object
        ({"content-encoding": "gzip, AWS-Chunked"}, "UNSIGNED-PAYLOAD", 5),
        ({"x-amz-trailer": CRC32}, "UNSIGNED-PAYLOAD", 5),
        ({"x-amz-decoded-content-length": "5"}, HASH, 5),
        (streaming(5), "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 5),
        (streaming(5) | {"x-amz-trailer": "x-amz-meta-a"}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 5),
        (streaming(5) | {"x-amz-trailer": ""}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 5),
        ({"x-amz-decoded-content-length": "5"}, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", 5),
        ({}, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", 5),
        ({}, "0" * 63, 5),
        ({}, HASH, None),
    ],
)
def test_forms_that_are_unknown_or_contradict_themselves(
    values: dict[str, str], payload: str, length: int | None
) -> None:
    with pytest.raises(Refused) as refused:
        open_body(values, payload, length, signing=SIGNING)
    assert refused.value.reason is Reason.MALFORMED_BODY


@pytest.mark.parametrize("text", ["", "-1", "٥"])
def test_a_wrapped_body_says_how_long_it_will_be(text: str) -> None:
    with pytest.raises(Refused) as refused:
        open_body(streaming(5) | {"x-amz-decoded-content-length": text}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 5)
    assert refused.value.reason is Reason.LENGTH_REQUIRED


def test_unsigned_chunks_may_come_without_a_checksum() -> None:
    values = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": "5"}
    body = opened(values, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert sent_on(body, [b"5\r\nhello\r\n0\r\n\r\n"]) == (b"hello", None)


def test_each_of_several_trailers_is_checked() -> None:
    sha1 = "x-amz-checksum-sha1"
    values = streaming(5) | {"x-amz-trailer": f"{CRC32}, {sha1.upper()}"}
    digest = base64.b64encode(hashlib.sha1(b"hello").digest()).decode()
    for said, end in [(digest, None), (base64.b64encode(bytes(20)).decode(), Reason.BODY_MISMATCH)]:
        text = f"5\r\nhello\r\n0\r\n{CRC32}:{crc(b'hello')}\r\n{sha1}:{said}\r\n\r\n".encode()
        body = opened(values, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        assert sent_on(body, [text]) == (b"" if end else b"hello", end)


@pytest.mark.parametrize("stated", ["CRC32", "crc32"])
def test_an_sdk_may_say_which_checksum_it_took(stated: str) -> None:
    said = {"x-amz-sdk-checksum-algorithm": stated}
    assert sent_on(opened({CRC32: crc(b"hello"), **said}, "UNSIGNED-PAYLOAD", 5), [b"hello"]) == (b"hello", None)
    behind = opened(streaming(5) | said, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert sent_on(behind, [wrapped(b"hello", crc(b"hello"))]) == (b"hello", None)


@pytest.mark.parametrize(
    "values",
    [
        {CRC32: crc(b"hello"), "x-amz-checksum-sha1": "qvTGHdzF6KLavt4PO0gs2a6pQ00="},
        streaming(5) | {CRC32: crc(b"hello")},
        {CRC32: "not base64"},
        {CRC32: "AAAA"},  # of another length
        {CRC32: ""},
        {CRC32: crc(b"hello"), "x-amz-sdk-checksum-algorithm": "SHA256"},
        streaming(5) | {"x-amz-sdk-checksum-algorithm": "SHA256"},
    ],
)
def test_checksums_that_s3_would_refuse_unread(values: dict[str, str]) -> None:
    payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER" if "x-amz-trailer" in values else "UNSIGNED-PAYLOAD"
    with pytest.raises(Refused) as refused:
        open_body(values, payload, 5)
    assert refused.value.reason is Reason.BAD_HEADER


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("aws-chunked", ""),
        ("gzip", "gzip"),
        ("gzip, aws-chunked ,br", "gzip,br"),
        ("gzip,, br,", "gzip,br"),
        ("aws-chunked,gzip", "gzip"),
        ("gzip, Aws-Chunked", "gzip"),
        ("", ""),
    ],
)
def test_aws_chunked_is_not_a_coding_of_the_object(sent: str, kept: str) -> None:
    assert plain_encoding(sent) == kept
    assert ("aws-chunked" in encodings({"content-encoding": sent})) is ("chunked" in sent.lower())
