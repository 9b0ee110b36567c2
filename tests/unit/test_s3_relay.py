"""A bucket for clients that speak S3 themselves, as its store sees it byte by byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.settings import S3Credentials, S3Settings
from sidecar.upstream.s3_relay import S3Relay
from tests.contract.fake_downstream import FakeDownstream
from tests.unit.relays import event_loop_policy, on_uvloop, store
from tests.unit.test_upstream_s3 import Bucket, error

__all__ = ["event_loop_policy"]
pytestmark = on_uvloop

OK = b"HTTP/1.1 200 OK\r\nx-amz-version-id: v1\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def opened(bucket: Bucket, folder: Path) -> AsyncIterator[S3Relay]:
    for name, content in {"id": "AKID", "secret": "wJalrXUtnFEMI/K7MDENG"}.items():
        (folder / name).write_text(content)
    keys = S3Credentials("files", folder / "id", folder / "secret")
    async with store(bucket) as made:
        upstream = S3Relay(replace(made.settings(), s3=S3Settings("artifacts", keys, "eu-central-1")))
        await upstream.open()
        try:
            yield upstream
        finally:
            await upstream.close()


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("GET", "/web/a%20b", b"GET /artifacts/web/a%20b HTTP/1.1"),
        ("GET", "/", b"GET /artifacts HTTP/1.1"),
        ("GET", "/?list-type=2&prefix=a%2F", b"GET /artifacts?list-type=2&prefix=a%2F HTTP/1.1"),
        ("POST", "/k?uploads=", b"POST /artifacts/k?uploads= HTTP/1.1"),
    ],
)
async def test_what_the_store_is_asked(tmp_path: Path, method: str, path: str, line: bytes) -> None:
    bucket = Bucket(OK)
    client = FakeDownstream(method, path, {"x-amz-meta-a": "b", "x-amz-tagging": "c=d"})
    client.content_length = 0
    async with opened(bucket, tmp_path) as upstream:
        await upstream.relay(client)
    (head,) = bucket.heads
    assert head.startswith(line + b"\r\n")
    assert b"x-amz-meta-a: b\r\n" in head
    assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-tagging" in head
    assert (client.status, b"".join(client.pieces), client.finished) == (200, b"ok", True)
    assert client.answer_headers["x-amz-version-id"] == "v1"


async def test_a_body_without_a_length_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bucket = Bucket(OK)
    async with opened(bucket, tmp_path) as upstream:
        with pytest.raises(Refused) as refused:
            await upstream.relay(FakeDownstream("PUT", "/k", body=b"x", chunked=True))
    assert (refused.value.reason, bucket.heads) == (Reason.LENGTH_REQUIRED, [])


async def test_the_stores_errors_are_the_clients(tmp_path: Path) -> None:
    client = FakeDownstream("GET", "/k")
    async with opened(Bucket(error(b"404 Not Found", b"NoSuchKey")), tmp_path) as upstream:
        await upstream.relay(client)
    assert (client.status, b"".join(client.pieces)) == (404, b"<Error><Code>NoSuchKey</Code></Error>")
    client = FakeDownstream("GET", "/k")
    async with opened(Bucket(error(b"403 Forbidden", b"AccessDenied")), tmp_path) as upstream:
        await upstream.relay(client)
    assert client.status == 403


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(b"403 Forbidden", b"SignatureDoesNotMatch"), Reason.UPSTREAM_CREDENTIALS),
        (error(b"403 Forbidden", b"InvalidAccessKeyId"), Reason.UPSTREAM_CREDENTIALS),
        (error(b"400 Bad Request", b"ExpiredToken"), Reason.UPSTREAM_CREDENTIALS),
        (error(b"401 Unauthorized", b""), Reason.UPSTREAM_CREDENTIALS),
        (error(b"403 Forbidden", b"RequestTimeTooSkewed"), Reason.UPSTREAM_ERROR),
        (error(b"301 Moved Permanently", b"PermanentRedirect"), Reason.UPSTREAM_REDIRECT),
        (b"HTTP/1.1 500 X\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000, Reason.UPSTREAM_BROKEN),
    ],
)
async def test_what_is_about_the_sidecar_is_not_told_as_the_clients(
    tmp_path: Path, answer: bytes, reason: Reason
) -> None:
    client = FakeDownstream("GET", "/k")
    async with opened(Bucket(answer), tmp_path) as upstream:
        with pytest.raises(Refused) as refused:
            await upstream.relay(client)
    assert (refused.value.reason, client.status) == (reason, 0)


async def test_which_checksum_parts_have_is_asked_once(tmp_path: Path) -> None:
    body = b"<ListPartsResult><ChecksumAlgorithm>CRC32</ChecksumAlgorithm></ListPartsResult>"
    bucket = Bucket(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with opened(bucket, tmp_path) as upstream:
        assert await upstream.checksum_of_parts("/web/k", "a/b") == "CRC32"
        assert await upstream.checksum_of_parts("/web/k", "a/b") == "CRC32"
    assert [head.split(b"\r\n")[0] for head in bucket.heads] == [
        b"GET /artifacts/web/k?max-parts=1&uploadId=a%2Fb HTTP/1.1"
    ]


async def test_a_store_that_does_not_say_wants_none(tmp_path: Path) -> None:
    bucket = Bucket(OK, error(b"404 Not Found", b"NoSuchUpload"))
    async with opened(bucket, tmp_path) as upstream:
        assert await upstream.checksum_of_parts("/k", "u") == ""
        assert await upstream.checksum_of_parts("/k", "w") == ""


async def test_what_is_known_of_an_upload_is_of_its_key_alone(tmp_path: Path) -> None:
    body = b"<ListPartsResult><ChecksumAlgorithm>CRC32</ChecksumAlgorithm></ListPartsResult>"
    listed = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    bucket = Bucket(listed, error(b"404 Not Found", b"NoSuchUpload"))
    async with opened(bucket, tmp_path) as upstream:
        assert await upstream.checksum_of_parts("/web/k", "u") == "CRC32"
        assert await upstream.checksum_of_parts("/web/other", "u") == ""
