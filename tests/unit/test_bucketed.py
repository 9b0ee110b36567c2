"""An S3 client's exchange: what reaches the store of its body, and the client of the answer."""

import asyncio
import base64
import hashlib
import zlib

import pytest

from sidecar import target
from sidecar.errors import NoBucket, Refused
from sidecar.model import Head, Headers
from sidecar.reasons import Reason
from sidecar.s3.body import Body, open_body
from sidecar.s3.multi_delete import Entry, MultiDelete
from sidecar.s3.place import Place
from sidecar.s3.request import read
from sidecar.s3.sending import Sending, sending
from sidecar.s3.wrapping import Wrapping
from sidecar.server.bucketed import Bucketed, prove_empty
from sidecar.sigv4_verify import STREAMING_UNSIGNED_TRAILER
from tests.contract.fake_downstream import FakeDownstream

SAME = Place("bkt", "", "bkt", "", "")
MAPPED = Place("bkt", "team/", "real", "x/", "")
WHOLE = Place("bkt", "", "real", "", "")
CRC = "x-amz-checksum-crc32"


def made(method: str, raw: str, place: Place = MAPPED, deleted: MultiDelete | None = None) -> Sending:
    head = Head(method, target.parse(raw), Headers({"host": "sidecar"}, ()))
    return sending(read(head), head, place, deleted=deleted)


def all_of(exchange: Bucketed) -> list[bytes]:
    async def collect() -> list[bytes]:
        pieces = []
        while piece := await exchange.read():
            pieces.append(piece)
        return pieces

    return asyncio.run(collect())


def crc(content: bytes) -> str:
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def trailing(content: bytes, value: str) -> tuple[bytes, Body]:
    """A body with a trailer, and how it is read."""
    wire = b"%x\r\n%b\r\n0\r\n%b:%b\r\n\r\n" % (len(content), content, CRC.encode(), value.encode())
    headers = {
        "x-amz-decoded-content-length": str(len(content)),
        "x-amz-trailer": CRC,
        "content-encoding": "aws-chunked",
    }
    opened = open_body(headers, STREAMING_UNSIGNED_TRAILER, len(wire))
    assert opened is not None
    return wire, opened


def test_a_body_is_unwrapped_and_its_length_promised() -> None:
    wire, opened = trailing(b"content", crc(b"content"))
    client = FakeDownstream("PUT", "/", body=[wire[:5], wire[5:9], wire[9:]])
    exchange = Bucketed(client, made("PUT", "/bkt/team/k"), opened)
    assert (exchange.upstream_path, exchange.content_length) == ("/x/k", 7)
    assert b"".join(all_of(exchange)) == b"content"


def test_the_last_bytes_wait_until_all_is_right() -> None:
    wire, opened = trailing(b"content", crc(b"another"))
    exchange = Bucketed(FakeDownstream("PUT", "/", body=[wire[:6], wire[6:]]), made("PUT", "/bkt/team/k"), opened)
    sent = []

    async def send() -> None:
        while piece := await exchange.read():
            sent.append(piece)

    with pytest.raises(Refused) as refused:
        asyncio.run(send())
    assert refused.value.reason is Reason.BODY_MISMATCH
    assert len(b"".join(sent)) < len(b"content")


def test_a_body_is_wrapped_anew_with_its_trailer() -> None:
    content = b"content"
    wire, opened = trailing(content, crc(content))
    wrapping = Wrapping(len(content), CRC)
    exchange = Bucketed(FakeDownstream("PUT", "/", body=[wire]), made("PUT", "/bkt/team/k"), opened, wrapping)
    sent = b"".join(all_of(exchange))
    assert (sent, exchange.payload) == (wire, STREAMING_UNSIGNED_TRAILER)
    assert exchange.content_length == len(sent)
    assert (b"x-amz-trailer", CRC.encode()) in exchange.headers


def test_nothing_is_proved_before_the_store_is_asked() -> None:
    async def prove(said: bytes) -> None:
        client = FakeDownstream("PUT", "/", body=b"")
        await prove_empty(Body(0, None, hashlib.sha256(said).hexdigest(), {}), client.read)

    asyncio.run(prove(b""))
    with pytest.raises(Refused):
        asyncio.run(prove(b"x"))


def test_a_body_that_is_written_here_goes_in_place_of_the_clients() -> None:
    wanted = made("POST", "/bkt?delete", deleted=MultiDelete((Entry("team/k"),)))
    exchange = Bucketed(FakeDownstream("POST", "/", body=b"theirs"), wanted, None)
    assert b"".join(all_of(exchange)) == wanted.body
    assert exchange.content_length == len(wanted.body or b"")


def answered(wanted: Sending, status: int, body: list[bytes], **headers: str) -> FakeDownstream:
    client = FakeDownstream(wanted.asked.operation.method, "/")
    exchange = Bucketed(client, wanted, None)
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    exchange.start(status, lines, sum(map(len, body)))
    for piece in body:
        exchange.write(piece)
    exchange.finish()
    assert client.finished
    return client


INITIATED = b"<InitiateMultipartUploadResult><Bucket>real</Bucket><Key>x/k</Key></InitiateMultipartUploadResult>"


def test_names_in_an_answer_are_the_clients() -> None:
    got = answered(made("POST", "/bkt/team/k?uploads"), 200, [INITIATED[:30], INITIATED[30:]], etag="e", x_amz_id_2="i")
    body = b"".join(got.pieces)
    assert b"<Bucket>bkt</Bucket><Key>team/k</Key>" in body
    assert got.length == len(body)
    assert got.answer_headers == {"x-amz-id-2": "i", "content-type": "application/xml"}


def test_what_is_called_alike_and_what_names_nothing_passes_untouched() -> None:
    same = answered(made("POST", "/bkt/k?uploads", SAME), 200, [INITIATED], content_type="text/xml")
    assert (same.pieces, same.answer_headers["content-type"]) == ([INITIATED], "text/xml")
    content = answered(made("GET", "/bkt/team/k"), 200, [b"<Key>x/k</Key>"], etag="e")
    assert (content.pieces, content.answer_headers["etag"]) == ([b"<Key>x/k</Key>"], "e")


def test_errors_name_the_clients_too() -> None:
    got = answered(made("GET", "/bkt/team/k"), 404, [b"<Error><Code>NoSuchKey</Code><Key>x/k</Key></Error>"])
    assert b"<Code>NoSuchKey</Code><Key>team/k</Key>" in b"".join(got.pieces)


MISSING = [b"<Error><Code>NoSuchBucket</Code><Message>m</Message><BucketName>real</BucketName></Error>"]


@pytest.mark.parametrize(
    "line", ["GET /bkt/team/k", "PUT /bkt/team/k", "GET /bkt?list-type=2&prefix=team%2F", "POST /bkt/team/k?uploadId=u"]
)
def test_a_bucket_that_the_configuration_misspells_is_not_the_clients_fault(line: str) -> None:
    with pytest.raises(NoBucket, match="the store has no bucket real: mend") as refused:
        answered(made(*line.split(" ")), 404, MISSING)
    assert refused.value.reason is Reason.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("GET /bkt/k", SAME),
        ("GET /bkt?list-type=2", SAME),
        ("DELETE /bkt", WHOLE),
        ("PUT /bkt", WHOLE),
        ("GET /bkt?policy", WHOLE),
    ],
)
def test_who_calls_the_bucket_as_the_store_does_or_administers_it_hears_that_it_is_missing(
    line: str, place: Place
) -> None:
    got = answered(made(*line.split(" "), place), 404, MISSING)  # type: ignore[arg-type]
    assert (got.status, b"<Code>NoSuchBucket</Code>" in got.answer) == (404, True)


def test_a_store_that_takes_its_time_keeps_the_client_awake() -> None:
    client = FakeDownstream("POST", "/")
    exchange = Bucketed(client, made("POST", "/bkt/team/k?uploadId=u"), None)
    exchange.start(200, [], None)
    exchange.write(b'<?xml version="1.0" encoding="UTF-8"?>\n')
    exchange.write(b"  ")
    assert (client.status, client.length) == (200, None)
    exchange.write(b"<CompleteMultipartUploadResult><Key>x/k</Key></CompleteMultipartUploadResult>")
    exchange.finish()
    body = b"".join(client.pieces)
    assert body.count(b"<?xml") == 1
    assert body.endswith(b"<CompleteMultipartUploadResult><Key>team/k</Key></CompleteMultipartUploadResult>")


def test_no_finished_upload_says_where_the_store_is() -> None:
    client = FakeDownstream("POST", "/")
    exchange = Bucketed(client, made("POST", "/bkt/k?uploadId=u", SAME), None)
    exchange.start(200, [(b"ETag", b'"of the answer"')], None)
    there = b"<Location>http://10.0.0.7:9000/bkt/k</Location>"
    exchange.write(b"<CompleteMultipartUploadResult>%b<Key>k</Key></CompleteMultipartUploadResult>" % there)
    exchange.finish()
    assert b"".join(client.pieces).endswith(
        b"<CompleteMultipartUploadResult><Location>/bkt/k</Location><Key>k</Key></CompleteMultipartUploadResult>"
    )


def test_an_answer_that_is_no_xml_is_the_stores_fault() -> None:
    exchange = Bucketed(FakeDownstream("GET", "/"), made("GET", "/bkt?prefix=team/"), None)
    exchange.start(200, [], None)
    with pytest.raises(Refused) as refused:
        exchange.write(b"<html><br></html>")
    assert refused.value.reason is Reason.UPSTREAM_BROKEN
