"""Refusals as S3 clients read them."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser

from sidecar import target
from sidecar.model import Head, Headers
from sidecar.profiles.profile import LocalAnswer
from sidecar.profiles.s3_errors import CODES, NO_BUCKET, document, is_signed, numbered, refusal
from sidecar.reasons import REASONS, Outcome, Reason

SHAPE = botocore.session.get_session().get_service_model("s3").operation_model("PutObject").output_shape
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y"}


def head(method: str = "PUT", raw: str = "/b/k%26<".replace("<", "%3C"), headers: dict[str, str] | None = None) -> Head:
    return Head(method, target.parse(raw), Headers(SIGNED if headers is None else headers, ()))


def answer(reason: Reason, request: Head | None, *, challenge: bool = False) -> LocalAnswer:
    challenge = challenge or REASONS[reason].status == 401
    return refusal(request, reason, REASONS[reason].hint, challenge, "web", "req-1")


def parsed(got: LocalAnswer) -> Any:
    """As botocore reads it."""
    response = {
        "status_code": got.status,
        "headers": {name.decode(): value.decode() for name, value in got.headers},
        "body": got.body,
    }
    return create_parser("rest-xml").parse(response, SHAPE)


@pytest.mark.parametrize("reason", [reason for reason in Reason if REASONS[reason].outcome is not Outcome.ALLOW])
def test_every_refusal_is_read_by_botocore(reason: Reason) -> None:
    read = parsed(answer(reason, head()))
    assert read["Error"]["Code"]
    hint = REASONS[reason].hint if reason is not Reason.NO_ROUTE else NO_BUCKET
    assert read["Error"]["Message"] == f"{hint} ({reason})"
    assert read["Error"]["Resource"] == "/b/k%26%3C"
    assert (
        read["ResponseMetadata"]["RequestId"] == read["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"] == "req-1"
    )
    assert 400 <= read["ResponseMetadata"]["HTTPStatusCode"] < 600


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (Reason.BAD_REQUEST, 400, "InvalidRequest"),
        (Reason.BAD_TARGET, 400, "InvalidURI"),
        (Reason.BAD_HEADER, 400, "InvalidArgument"),
        (Reason.TWO_CREDENTIALS, 400, "InvalidRequest"),
        (Reason.MISPLACED_TOKEN, 400, "InvalidRequest"),
        (Reason.UPGRADE_REFUSED, 400, "InvalidRequest"),
        (Reason.HEAD_TOO_LARGE, 400, "RequestHeaderSectionTooLarge"),
        (Reason.HEAD_TIMEOUT, 400, "RequestTimeout"),
        (Reason.BODY_TIMEOUT, 400, "RequestTimeout"),
        (Reason.MALFORMED_BODY, 400, "IncompleteBody"),
        (Reason.BODY_MISMATCH, 400, "BadDigest"),
        (Reason.LENGTH_REQUIRED, 411, "MissingContentLength"),
        (Reason.NO_ROUTE, 404, "NoSuchBucket"),
        (Reason.NO_TOKEN, 403, "AccessDenied"),
        (Reason.BAD_TOKEN, 400, "InvalidToken"),
        (Reason.EXPIRED, 400, "ExpiredToken"),
        (Reason.REVOKED, 403, "InvalidAccessKeyId"),
        (Reason.UNKNOWN_ACCESS_KEY, 403, "InvalidAccessKeyId"),
        (Reason.BAD_SIGNATURE, 403, "SignatureDoesNotMatch"),
        (Reason.MALFORMED_SIGNATURE, 400, "AuthorizationHeaderMalformed"),
        (Reason.SIGNATURE_V2, 400, "InvalidRequest"),
        (Reason.UNSIGNED_HEADER, 403, "AccessDenied"),
        (Reason.CLOCK_SKEW, 403, "RequestTimeTooSkewed"),
        (Reason.URL_EXPIRED, 403, "AccessDenied"),
        (Reason.OVERLOADED, 503, "SlowDown"),
        (Reason.STORE_FULL, 507, "InsufficientCapacity"),
        (Reason.EXISTS, 412, "PreconditionFailed"),
        (Reason.NO_RULE, 403, "AccessDenied"),
        (Reason.RULE_DENY, 403, "AccessDenied"),
        (Reason.TOKEN_LIMIT, 403, "AccessDenied"),
        (Reason.WRONG_WORKSPACE, 403, "AccessDenied"),
        (Reason.UNKNOWN_OPERATION, 403, "AccessDenied"),
        (Reason.TOKEN_STORE_UNAVAILABLE, 503, "ServiceUnavailable"),
        (Reason.UPSTREAM_UNREACHABLE, 502, "InternalError"),
        (Reason.UPSTREAM_TIMEOUT, 504, "InternalError"),
        (Reason.INTERNAL_ERROR, 500, "InternalError"),
    ],
)
def test_codes(reason: Reason, status: int, code: str) -> None:
    got = answer(reason, head())
    assert (got.status, parsed(got)["Error"]["Code"]) == (status, code)
    assert dict(got.headers)[b"content-type"] == b"application/xml"
    assert dict(got.headers)[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("reason", [reason for reason in Reason if REASONS[reason].status == 429])
def test_too_many_requests_are_slow_down(reason: Reason) -> None:
    got = answer(reason, head())
    assert (got.status, parsed(got)["Error"]["Code"]) == (503, "SlowDown")


def test_a_body_of_a_post_is_xml() -> None:
    assert parsed(answer(Reason.MALFORMED_BODY, head("POST")))["Error"]["Code"] == "MalformedXML"
    assert parsed(answer(Reason.MALFORMED_BODY, head("PUT")))["Error"]["Code"] == "IncompleteBody"


@pytest.mark.parametrize("reason", [Reason.BAD_SIGNATURE, Reason.NO_RULE, Reason.OVERLOADED])
def test_head_has_no_body(reason: Reason) -> None:
    got = answer(reason, head("HEAD"))
    assert got.body == b""
    assert dict(got.headers)[b"x-amz-request-id"] == b"req-1"


def test_tools_without_a_signature_keep_their_401_and_both_challenges() -> None:
    for reason in (Reason.NO_TOKEN, Reason.BAD_TOKEN, Reason.REVOKED, Reason.EXPIRED):
        got = answer(reason, head(headers={"authorization": "Bearer x"}), challenge=True)
        assert got.status == 401
        assert [name for name, _ in got.headers].count(b"www-authenticate") == 2
        assert parsed(got)["Error"]["Code"]


def test_sdks_get_no_challenge() -> None:
    got = answer(Reason.EXPIRED, head(), challenge=True)
    assert b"www-authenticate" not in dict(got.headers)


def test_a_request_that_could_not_be_read() -> None:
    got = answer(Reason.BAD_TARGET, None)
    assert (got.status, parsed(got)["Error"]["Code"]) == (400, "InvalidURI")
    assert parsed(got)["Error"]["Resource"] == "/"
    assert parsed(answer(Reason.MALFORMED_BODY, None))["Error"]["Code"] == "IncompleteBody"


def test_without_an_id_none_is_invented() -> None:
    got = refusal(head(), Reason.NO_RULE, "hint", False, "web")
    assert b"x-amz-request-id" not in dict(got.headers)
    assert b"<RequestId></RequestId>" in got.body


def test_an_id_that_is_known_later_is_the_one_that_a_refusal_has_from_the_start() -> None:
    for request in (head(), head("HEAD")):
        later = numbered(refusal(request, Reason.NO_RULE, "hint", False, "web"), "req-1")
        assert later == refusal(request, Reason.NO_RULE, "hint", False, "web", "req-1")


def test_what_is_particular_is_about_refusals() -> None:
    assert all(REASONS[reason].outcome is not Outcome.ALLOW for reason in CODES)


@pytest.mark.parametrize(
    ("raw", "headers", "signed"),
    [
        ("/b/k", SIGNED, True),
        ("/b/k", {"authorization": "AWS x:y"}, True),
        ("/b/k?X-Amz-Signature=x", {}, True),
        ("/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=9", {}, True),
        ("/b/k?AWSAccessKeyId=x&Signature=y", {}, True),
        ("/b/k", {"authorization": "Bearer AWS4"}, False),
        ("/b/k", {}, False),
    ],
)
def test_who_came_from_a_signer(raw: str, headers: dict[str, str], signed: bool) -> None:
    assert is_signed(head("GET", raw, headers)) is signed


def test_a_malformed_signature_is_told_where_it_stands() -> None:
    got = answer(Reason.MALFORMED_SIGNATURE, head("GET", "/b/k?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256"))
    assert (got.status, parsed(got)["Error"]["Code"]) == (400, "AuthorizationQueryParametersError")


def test_nothing_in_it_is_markup() -> None:
    root = ElementTree.fromstring(document("C", "<a>&b;", "/<k>", "<r>"))
    assert [each.text for each in root] == ["C", "<a>&b;", "/<k>", "<r>"]
