"""What is wrapped here is what the decoder takes off again."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.aws_chunked import Decoder
from sidecar.checksums import PREFIX
from sidecar.s3.wrapping import CHUNK, Wrapping

NAME = "x-amz-checksum-crc32"


def unwrapped(content: bytes, pieces: list[bytes]) -> tuple[bytes, int]:
    """The decoded body, and how long the wrapped one was promised to be; it has that length."""
    value = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    wrapping = Wrapping(len(content), NAME)
    sent = b"".join([*wrapping.wrap(pieces), wrapping.end(value)])
    assert len(sent) == wrapping.length
    decoder = Decoder(len(content), trailers=(NAME,))
    plain = b"".join(decoder.feed(sent))
    decoder.finish()
    assert decoder.trailers == {NAME: value}
    return plain, wrapping.length


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8))
def test_in_whatever_pieces_it_comes(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert unwrapped(content, pieces)[0] == content


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_at_the_edges_of_chunks(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    assert unwrapped(content, [content[:100], content[100:]] if size > 100 else [content])[0] == content


@pytest.mark.parametrize(
    ("algorithm", "size"),
    [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32), ("md5", 16), ("sha512", 64), ("xxhash64", 8),
     ("xxhash3", 8), ("xxhash128", 16)],
)  # fmt: skip
def test_the_length_is_right_for_every_checksum(algorithm: str, size: int) -> None:
    """`size`: of its value, in bytes."""
    wrapping = Wrapping(7, f"{PREFIX}{algorithm}")
    sent = [*wrapping.wrap([b"content"]), wrapping.end(base64.b64encode(bytes(size)).decode())]
    assert len(b"".join(sent)) == wrapping.length


def test_what_the_headers_say() -> None:
    headers = Wrapping(10, NAME).headers([(b"Content-Encoding", b"gzip"), (b"x-amz-meta-a", b"b")])
    assert headers == [
        (b"x-amz-meta-a", b"b"),
        (b"Content-Encoding", b"aws-chunked,gzip"),
        (b"x-amz-decoded-content-length", b"10"),
        (b"x-amz-trailer", NAME.encode()),
    ]
