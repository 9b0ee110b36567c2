"""Refusals as S3 clients read them: AWS's code in XML, no body on HEAD, a request id on each.

The status may differ from the reason's own (rule 20): SDKs know a bad signature as 403 and an expired token as 400. A request
without an AWS signature keeps its 401 and the challenges, for tools that speak Bearer or Basic.
Source: S3 API Reference, "Error responses".
"""

from xml.sax.saxutils import escape

from msgspec.structs import replace

from sidecar.model import Head
from sidecar.profiles import denial
from sidecar.profiles.profile import LocalAnswer
from sidecar.reasons import Reason

CODES: dict[Reason, tuple[int, str]] = {
    Reason.BAD_REQUEST: (400, "InvalidRequest"),
    Reason.BAD_TARGET: (400, "InvalidURI"),
    Reason.BAD_HEADER: (400, "InvalidArgument"),
    Reason.TWO_CREDENTIALS: (400, "InvalidRequest"),
    Reason.MISPLACED_TOKEN: (400, "InvalidRequest"),
    Reason.UPGRADE_REFUSED: (400, "InvalidRequest"),
    Reason.HEAD_TOO_LARGE: (400, "RequestHeaderSectionTooLarge"),
    Reason.HEAD_TIMEOUT: (400, "RequestTimeout"),
    Reason.BODY_TIMEOUT: (400, "RequestTimeout"),
    Reason.MALFORMED_BODY: (400, "IncompleteBody"),
    Reason.BODY_MISMATCH: (400, "BadDigest"),
    Reason.LENGTH_REQUIRED: (411, "MissingContentLength"),
    Reason.NO_ROUTE: (404, "NoSuchBucket"),
    Reason.NO_TOKEN: (403, "AccessDenied"),
    Reason.BAD_TOKEN: (400, "InvalidToken"),
    Reason.EXPIRED: (400, "ExpiredToken"),
    Reason.REVOKED: (403, "InvalidAccessKeyId"),
    Reason.UNKNOWN_ACCESS_KEY: (403, "InvalidAccessKeyId"),
    Reason.BAD_SIGNATURE: (403, "SignatureDoesNotMatch"),
    Reason.MALFORMED_SIGNATURE: (400, "AuthorizationHeaderMalformed"),
    Reason.SIGNATURE_V2: (400, "InvalidRequest"),
    Reason.UNSIGNED_HEADER: (403, "AccessDenied"),
    Reason.CLOCK_SKEW: (403, "RequestTimeTooSkewed"),
    Reason.URL_EXPIRED: (403, "AccessDenied"),
    Reason.EXISTS: (412, "PreconditionFailed"),
    Reason.OVERLOADED: (503, "SlowDown"),
    Reason.STORE_FULL: (507, "InsufficientCapacity"),
}
"""Status and code where they are particular; all else goes by the reason's status."""

NO_BUCKET = "No workspace has this bucket, or this part of it; check the bucket's name and how the key begins."
_BY_STATUS = {
    400: (400, "InvalidRequest"),
    401: (401, "AccessDenied"),
    403: (403, "AccessDenied"),
    404: (404, "NoSuchKey"),
    429: (503, "SlowDown"),
    503: (503, "ServiceUnavailable"),
}


def refusal(
    head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str, request_id: str = ""
) -> LocalAnswer:
    """As `Profile.deny`, with the id that the audit record has."""
    if reason is Reason.NO_ROUTE:
        hint = NO_BUCKET
    plain = denial.plain(head, reason, hint, challenge, workspace)
    status, code = CODES.get(reason) or _BY_STATUS.get(plain.status) or (plain.status, "InternalError")
    if reason is Reason.MALFORMED_BODY and head is not None and head.method == "POST":
        code = "MalformedXML"
    if reason is Reason.MALFORMED_SIGNATURE and head is not None and _in_url(head):
        code = "AuthorizationQueryParametersError"
    if plain.status == 401 and not (head is not None and is_signed(head)):
        status = 401
    headers = [
        (name, b"application/xml" if name == b"content-type" else value)
        for name, value in plain.headers
        if status == plain.status or name != b"www-authenticate"
    ]
    if request_id:
        headers.append((b"x-amz-request-id", request_id.encode()))
    if head is not None and head.method == "HEAD":
        return LocalAnswer(status, tuple(headers))
    resource = head.target.raw_path if head is not None else "/"
    return LocalAnswer(status, tuple(headers), document(code, f"{hint} ({reason.value})", resource, request_id))


def numbered(answer: LocalAnswer, request_id: str) -> LocalAnswer:
    """A refusal, with the id that the audit record has."""
    number = request_id.encode()
    body = answer.body.replace(b"<RequestId></RequestId>", b"<RequestId>%b</RequestId>" % number)
    return replace(answer, headers=(*answer.headers, (b"x-amz-request-id", number)), body=body)


def is_signed(head: Head) -> bool:
    """Whether the request came from an S3 client's signer, whatever its signature is worth."""
    return _in_url(head) or head.headers.values.get("authorization", "").startswith("AWS")


def _in_url(head: Head) -> bool:
    query = head.target.raw_query
    return "X-Amz-Algorithm=" in query or "X-Amz-Signature=" in query or "AWSAccessKeyId=" in query


def document(code: str, message: str, resource: str, request_id: str) -> bytes:
    """S3's error body. Also for what goes wrong after a 200 has been said, as while completing a multipart upload."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><Resource>{escape(resource)}</Resource>"
        f"<RequestId>{escape(request_id)}</RequestId></Error>"
    ).encode()
