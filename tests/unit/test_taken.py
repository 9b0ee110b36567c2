"""What the audit record calls what an S3 store took."""

import hashlib

import pytest
from msgspec.structs import replace

from sidecar import target
from sidecar.model import Head, Headers
from sidecar.s3.parts import Parts
from sidecar.s3.request import read
from sidecar.server.taken import Taken, by_tag, taken

SHA = hashlib.sha256(b"part").hexdigest()
DONE = b'<?xml version="1.0"?>\n<CompleteMultipartUploadResult xmlns="x"><ETag>&quot;whole-1&quot;</ETag></CompleteMultipartUploadResult>'
LIST = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>p</ETag></Part></CompleteMultipartUpload>"


def made(parts: Parts, line: str, copies: bool = False, store: str = "store") -> Taken:
    method, raw = line.split()
    headers = {"host": "sidecar"} | ({"x-amz-copy-source": "bkt/s"} if copies else {})
    found = taken(read(Head(method, target.parse(raw), Headers(headers, ()))), parts, store, raw)
    assert found is not None
    return found


def part(parts: Parts, status: int | None = 200, sha256: str | None = SHA, tag: str | None = '"p"') -> str | None:
    sent = made(parts, "PUT /bkt/k?partNumber=1&uploadId=u")
    sent.begin()
    return sent.end(status, sha256, tag)


def completed(
    parts: Parts, answer: bytes = DONE, status: int = 200, path: str = "/bkt/k", store: str = "store"
) -> str | None:
    complete = made(parts, f"POST {path}?uploadId=u", store=store)
    assert complete.listed is not None
    complete.listed.feed(LIST)
    for at in range(0, len(answer), 50):
        complete.said(answer[at : at + 50])
    return complete.end(status, None, None)


@pytest.mark.parametrize(
    "line", ["PUT /bkt/k", "POST /bkt/k?uploads", "GET /bkt/k", "DELETE /bkt/k", "GET /bkt/k?uploadId=u"]
)
def test_what_is_one_body_or_writes_nothing_is_not_watched(line: str) -> None:
    method, raw = line.split()
    asked = read(Head(method, target.parse(raw), Headers({"host": "sidecar"}, ())))
    assert taken(asked, Parts(), "store", raw) is None


def test_an_upload_is_what_its_parts_are() -> None:
    parts = Parts()
    assert part(parts) == f"sha256:{SHA}"
    assert completed(parts) == f"sha256-parts:{hashlib.sha256(bytes.fromhex(SHA)).hexdigest()}-1"
    assert completed(parts) == "etag:whole-1", "it is over, and forgotten"


@pytest.mark.parametrize(
    ("status", "sha256", "tag"),
    [
        (403, SHA, '"p"'),
        (500, SHA, '"p"'),
        (None, SHA, '"p"'),
        (200, None, '"p"'),
        (200, SHA, None),
        (200, SHA, "p" * 129),
    ],
)
def test_a_part_that_was_not_taken_or_is_not_known_whole_makes_the_upload_unknown(
    status: int | None, sha256: str | None, tag: str | None
) -> None:
    parts = Parts()
    part(parts, status, sha256, tag)
    assert completed(parts) == "etag:whole-1"


@pytest.mark.parametrize("number", ["9" * 5000, "10001", "\u0661", "1.0", "+1", " 1", "0000001", "-1", ""])
def test_a_part_without_a_plain_number_may_be_any_of_them(number: str) -> None:
    parts = Parts()
    asked = read(Head("PUT", target.parse("/bkt/k?partNumber=1&uploadId=u"), Headers({"host": "sidecar"}, ())))
    odd = Taken(replace(asked, query={"partNumber": number, "uploadId": "u"}), parts, "store", "/bkt/k?more")
    odd.begin()
    part(parts)
    odd.end(200, SHA, '"p"')
    assert completed(parts) == "etag:whole-1"


def test_a_copy_with_the_etag_of_what_it_replaces_makes_the_upload_unknown() -> None:
    parts = Parts()
    part(parts)
    copy = made(parts, "PUT /bkt/k?partNumber=1&uploadId=u", copies=True)
    copy.begin()
    copy.said(b'<CopyPartResult><ETag>"p"</ETag></CopyPartResult>')
    assert copy.end(200, hashlib.sha256().hexdigest(), "") == "etag:p"
    assert completed(parts) == "etag:whole-1"


@pytest.mark.parametrize(
    ("status", "whole", "known"),
    [(None, True, False), (500, True, False), (None, False, True), (500, False, True), (403, True, True)],
)
def test_a_part_whose_end_nobody_heard_may_be_there(status: int | None, whole: bool, known: bool) -> None:
    parts = Parts()
    gone = made(parts, "PUT /bkt/k?partNumber=1&uploadId=u")
    gone.begin()
    part(parts)
    assert gone.end(status, hashlib.sha256(b"other").hexdigest() if whole else None, "", whole) is None
    assert (completed(parts) or "").startswith("sha256-parts:") is known


def test_a_part_that_is_replaced_while_the_list_is_read_is_not_known() -> None:
    parts = Parts()
    part(parts)
    complete = made(parts, "POST /bkt/k?uploadId=u")
    assert complete.listed is not None
    complete.listed.feed(LIST)
    made(parts, "PUT /bkt/k?partNumber=1&uploadId=u").begin()
    complete.said(DONE)
    assert complete.end(200, None, None) == "etag:whole-1"


def test_what_the_store_says_while_it_is_busy_is_passed_over() -> None:
    parts = Parts()
    part(parts)
    assert (completed(parts, b" \n" * 20_000 + DONE) or "").startswith("sha256-parts:")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"<Error><Code>InternalError</Code><ETag>x</ETag></Error>", 200),
        (b"   ", 200),
        (DONE, 500),
        (b"<SomeCompleteMultipartUploadResults/>", 200),
    ],
)
def test_a_store_that_failed_took_nothing_and_may_be_asked_again(answer: bytes, status: int) -> None:
    parts = Parts()
    part(parts)
    assert completed(parts, answer, status) is None
    assert (completed(parts) or "").startswith("sha256-parts:")


def test_another_key_or_store_is_another_upload() -> None:
    parts = Parts()
    part(parts)
    assert completed(parts, path="/bkt/other") == "etag:whole-1"
    assert completed(parts, store="other") == "etag:whole-1"


def test_an_upload_that_is_given_up_is_forgotten() -> None:
    parts = Parts()
    part(parts)
    abort = made(parts, "DELETE /bkt/k?uploadId=u")
    assert abort.end(404, None, None) is None
    assert abort.end(204, None, None) is None
    assert completed(parts) == "etag:whole-1"


@pytest.mark.parametrize(
    ("line", "root"), [("PUT /bkt/k", "CopyObject"), ("PUT /bkt/k?partNumber=1&uploadId=u", "CopyPart")]
)
def test_a_copy_is_what_the_store_calls_it(line: str, root: str) -> None:
    answer = f'<{root}Result><LastModified>now</LastModified><ETag>"c"</ETag></{root}Result>'.encode()
    copy = made(Parts(), line, copies=True)
    copy.begin()
    copy.said(answer)
    assert copy.end(200, hashlib.sha256().hexdigest(), "") == "etag:c"
    failed = made(Parts(), line, copies=True)
    failed.begin()
    failed.said(b"<Error/>")
    assert failed.end(200, None, "") is None


@pytest.mark.parametrize(
    ("tag", "told"),
    [
        ('"abc-3"', "etag:abc-3"),
        ('W/"abc"', "etag:abc"),
        ("abc", "etag:abc"),
        (None, None),
        ("", None),
        ('""', None),
        ('"a b"', None),
        ('"a\u00e9"', None),
        ('"' + "a" * 129 + '"', None),
    ],
)
def test_a_name_of_the_stores_is_one_word(tag: str | None, told: str | None) -> None:
    assert by_tag(tag) == told
