"""What an S3 server's error means: the client's affair, or the operator's."""

import pytest

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.upstream.s3_errors import Said, told


def said(status: int, code: str = "", more: str = "", *headers: tuple[bytes, bytes]) -> Said:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a message</Message>{more}</Error>"
    return Said(status, headers, body.encode() if code else b"")


@pytest.mark.parametrize(
    ("status", "code", "answer", "text"),
    [
        (404, "NoSuchKey", 404, b"NoSuchKey\n"),
        (404, "", 404, b"Not Found\n"),
        (412, "PreconditionFailed", 412, b"PreconditionFailed\n"),
        (412, "", 412, b"Precondition Failed\n"),
        (409, "ConditionalRequestConflict", 409, b"ConditionalRequestConflict\n"),
        (409, "ObjectParentIsFile", 409, b"ObjectParentIsFile\n"),
        (400, "BadDigest", 400, b"BadDigest\n"),
        (400, "EntityTooLarge", 413, b"EntityTooLarge\n"),
        (400, "KeyTooLongError", 414, b"KeyTooLongError\n"),
        (400, "MetadataTooLarge", 431, b"MetadataTooLarge\n"),
        (500, "InternalError", 500, b"InternalError\n"),
        (501, "NotImplemented", 501, b"NotImplemented\n"),
        (599, "", 599, b"599\n"),
    ],
)
def test_what_is_about_the_request_is_told_by_its_code_alone(status: int, code: str, answer: int, text: bytes) -> None:
    found = told(said(status, code), "bucket", "eu-central-1")
    assert (found.status, found.body) == (answer, text)
    assert (b"Content-Type", b"text/plain; charset=utf-8") in found.headers


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", Reason.UPSTREAM_CREDENTIALS),
        (403, "SignatureDoesNotMatch", Reason.UPSTREAM_CREDENTIALS),
        (403, "InvalidAccessKeyId", Reason.UPSTREAM_CREDENTIALS),
        (404, "XAdminUserNotFound", Reason.UPSTREAM_CREDENTIALS),
        (400, "ExpiredToken", Reason.UPSTREAM_CREDENTIALS),
        (400, "InvalidToken", Reason.UPSTREAM_CREDENTIALS),
        (400, "", Reason.UPSTREAM_CREDENTIALS),
        (401, "", Reason.UPSTREAM_CREDENTIALS),
        (403, "", Reason.UPSTREAM_CREDENTIALS),
        (403, "Unheard.Of", Reason.UPSTREAM_CREDENTIALS),
        (403, "RequestTimeTooSkewed", Reason.UPSTREAM_ERROR),
        (403, "InvalidObjectState", Reason.UPSTREAM_ERROR),
        (404, "NoSuchBucket", Reason.UPSTREAM_ERROR),
        (403, "QuotaExceeded", Reason.STORE_FULL),
        (507, "XMinioStorageFull", Reason.STORE_FULL),
        (301, "PermanentRedirect", Reason.UPSTREAM_REDIRECT),
        (307, "TemporaryRedirect", Reason.UPSTREAM_REDIRECT),
    ],
)
def test_what_is_about_the_sidecar_is_not_told_as_the_clients(status: int, code: str, reason: Reason) -> None:
    with pytest.raises(Refused) as refusal:
        told(said(status, code), "bucket", "eu-central-1")
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    "error",
    [
        said(400, "AuthorizationHeaderMalformed", "<Region>us-west-2</Region>"),
        said(301, "PermanentRedirect", "", (b"X-Amz-Bucket-Region", b"us-west-2")),
        said(400, "", "", (b"x-amz-bucket-region", b"us-west-2")),
    ],
)
def test_the_operator_reads_where_the_bucket_is(error: Said) -> None:
    with pytest.raises(Refused) as refusal:
        told(error, "artifacts", "eu-central-1")
    assert "the bucket artifacts is in us-west-2: mend `s3.region` (eu-central-1)" in refusal.value.detail


def test_nothing_of_the_body_but_the_code_is_repeated() -> None:
    secret = "AWS4-HMAC-SHA256 20261122 AKIDSECRET"
    for code in ("SignatureDoesNotMatch", "NoSuchBucket", "RequestTimeTooSkewed"):
        with pytest.raises(Refused) as refusal:
            told(said(403, code, f"<StringToSign>{secret}</StringToSign><Region>{secret}</Region>"), "bucket", "region")
        assert "AKIDSECRET" not in str(refusal.value)
    found = told(said(412, "Odd", f"<Key>{secret}</Key>"), "bucket", "region")
    assert b"AKIDSECRET" not in found.body


@pytest.mark.parametrize("hostile", ["<script>", "a" * 65, "a b", "\r\nX: y", "é"])
def test_a_code_that_is_none_is_not_believed(hostile: str) -> None:
    assert said(404, hostile).code == ""


@pytest.mark.parametrize(("given", "sent"), [(b"7", b"7"), (b"soon", b"1"), (b"", b"1")])
@pytest.mark.parametrize("status", [429, 503])
def test_a_store_that_is_overrun_says_when_to_come_again(status: int, given: bytes, sent: bytes) -> None:
    found = told(said(status, "SlowDown", "", (b"Retry-After", given)), "bucket", "region")
    assert (found.status, dict(found.headers)[b"Retry-After"]) == (status, sent)


def test_a_bad_request_of_a_server_that_speaks_no_xml_is_the_clients() -> None:
    assert told(Said(400, (), b"Bad Request"), "bucket", "region").status == 400


@pytest.mark.parametrize(
    ("error", "total"),
    [
        (said(416, "InvalidRange", "<ActualObjectSize>7</ActualObjectSize>"), b"bytes */7"),
        (said(416, "InvalidRange", "", (b"content-range", b"bytes */9")), b"bytes */9"),
        (said(416, "InvalidRange"), None),
    ],
)
def test_a_range_that_is_not_there_tells_the_size_where_it_is_known(error: Said, total: bytes | None) -> None:
    assert dict(told(error, "bucket", "region").headers).get(b"Content-Range") == total
