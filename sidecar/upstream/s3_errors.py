"""What an S3 server's "no" means: for the client, or for whoever set the sidecar up.

The law: a refusal of our signature, our keys, our bucket or our region is never told as the client's. S3 says 403 of all these,
and also of a missing object where the keys may not list the bucket. Nothing of the body is passed on but its code:
a `SignatureDoesNotMatch` repeats what was signed.
"""

import re
from http import HTTPStatus

from msgspec import Struct

from sidecar.errors import NoBucket, Refused
from sidecar.ports import HeaderList
from sidecar.reasons import Reason

MAX_BODY = 16 * 1024
"""Bytes of an error's body that are looked at."""
TOO_SKEWED = "RequestTimeTooSkewed"

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>")
_REGION = re.compile(rb"<Region>\s*([a-z0-9-]{1,32})\s*</Region>")
_SIZE = re.compile(rb"<ActualObjectSize>\s*([0-9]{1,18})\s*</ActualObjectSize>")
_A_REGION = re.compile(rb"[a-z0-9-]{1,32}")

_CREDENTIALS = frozenset({
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId",
    "InvalidSecurity", "InvalidToken", "NotSignedUp", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnauthorizedAccess",
    "XAdminUserNotFound",  # Versity's word for InvalidAccessKeyId, with a 404
})  # fmt: skip
_FULL = frozenset({"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"})
_STATUS = {"EntityTooLarge": 413, "KeyTooLongError": 414, "MetadataTooLarge": 431, "RequestHeaderSectionTooLarge": 431}
"""Where HTTP has a more exact word than S3's 400."""
_RETRY_AFTER = (b"Retry-After", b"1")


class Said(Struct, frozen=True):
    """An error as the server put it."""

    status: int
    headers: HeaderList
    body: bytes = b""

    @property
    def code(self) -> str:
        """S3's own; empty where there is none, as in any answer to HEAD."""
        found = _CODE.search(self.body)
        return found[1].decode() if found is not None else ""

    def header(self, name: bytes) -> bytes:
        return next((value for own, value in self.headers if own.lower() == name), b"")

    @property
    def region(self) -> str:
        """Where the bucket is, if the server says so."""
        found = _REGION.search(self.body)
        region = found[1] if found is not None else self.header(b"x-amz-bucket-region")
        return region.decode() if _A_REGION.fullmatch(region) else ""


class Told(Struct, frozen=True):
    """The client's answer."""

    status: int
    headers: HeaderList
    body: bytes


def told(said: Said, bucket: str, region: str) -> Told:
    """Raises `Refused` where it isn't about what the client asked for."""
    status, code = said.status, said.code
    if 300 <= status < 400:
        where = f"the bucket {bucket} is in {said.region}" if said.region else f"the bucket {bucket} is elsewhere"
        raise Refused(Reason.UPSTREAM_REDIRECT, f"{where}: mend `s3.region` ({region}) and `url`")
    if code == TOO_SKEWED:
        raise Refused(
            Reason.UPSTREAM_ERROR, "the store's clock differs from ours; the difference is heeded from now on"
        )
    if code in _FULL or status == 507:
        raise Refused(Reason.STORE_FULL, code)
    if code == "InvalidObjectState":
        raise Refused(Reason.UPSTREAM_ERROR, "the object is archived; it has to be restored in the bucket first")
    # The answer to a HEAD has no body, and a 400 of one is S3's word for a wrong region or an expired token.
    if code in _CREDENTIALS or status in (401, 403, 407) or (status == 400 and not said.body):
        raise Refused(Reason.UPSTREAM_CREDENTIALS, _why(said, bucket, region))
    if code == "NoSuchBucket":
        raise NoBucket(bucket)
    headers = [(b"Content-Type", b"text/plain; charset=utf-8")]
    if status in (429, 503):
        after = said.header(b"retry-after")
        headers.append((b"Retry-After", after) if after.isdigit() else _RETRY_AFTER)
    if status == 416:
        total = _SIZE.search(said.body)
        spans = said.header(b"content-range") or (b"bytes */" + total[1] if total is not None else b"")
        headers += [(b"Content-Range", spans)] if spans else []
    status = _STATUS.get(code, status)
    return Told(status, headers, f"{code or _phrase(status)}\n".encode())


def _why(said: Said, bucket: str, region: str) -> str:
    if said.region and said.region != region:
        return f"the bucket {bucket} is in {said.region}: mend `s3.region` ({region})"
    why = f"the store answered {said.status} {said.code}".rstrip()
    if said.code in ("AccessDenied", "") and said.status == 403:
        return f"{why}: the keys need s3:GetObject, PutObject, DeleteObject, and s3:ListBucket, without which what is missing is a 403"
    return why


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)
