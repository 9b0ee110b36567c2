"""What the headers of an S3 request mean for who may send it, and which of them go to the store.

The law: every `x-amz-*` header is known here by name or the request is refused; one that is passed over unread might be an
order to the store. Signed URLs carry headers as query parameters (the SDKs for Go and JavaScript hoist them): `said()` reads
both as one. Source: the S3 API Reference; the test holds the names to botocore's model.
"""

import re
from collections.abc import Mapping

from sidecar.checksums import ALGORITHMS
from sidecar.errors import Refused
from sidecar.headers import fold
from sidecar.provenance import PREFIX
from sidecar.reasons import Reason
from sidecar.s3.body import WRAPPING
from sidecar.s3.operations import IGNORED, SOURCES

ENDS_HERE = WRAPPING | {"x-amz-date", "x-amz-security-token", "x-amz-user-agent"}
"""Read or passed over here; the store gets its own, or none."""

PASSES = frozenset(ALGORITHMS) | frozenset({
    "x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type", "x-amz-client-token",
    "x-amz-copy-source-if-match", "x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since", "x-amz-copy-source-range",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
    "x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner", "x-amz-request-payer",
    "x-amz-if-match-initiated-time", "x-amz-if-match-last-modified-time", "x-amz-if-match-size", "x-amz-object-if-match",
    "x-amz-max-parts", "x-amz-part-number-marker", "x-amz-mp-object-size", "x-amz-object-attributes",
    "x-amz-optional-object-attributes", "x-amz-rename-source-if-match", "x-amz-rename-source-if-modified-since",
    "x-amz-rename-source-if-none-match", "x-amz-rename-source-if-unmodified-since",
    "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled", "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5", "x-amz-storage-class", "x-amz-tagging",
})  # fmt: skip
"""Go to the store as they are, and ask nothing more than the operation does."""
DIRECTIVES: Mapping[str, tuple[str, ...]] = {
    "x-amz-metadata-directive": ("COPY", "REPLACE"),
    "x-amz-tagging-directive": ("COPY", "REPLACE"),
    "x-amz-object-annotation-directive": ("COPY", "EXCLUDE"),
}
"""Go on, too, with one of these values as it is spelled here: what a store makes of ` replace`, nobody else knows."""
REFUSED = frozenset({"x-amz-write-offset-bytes"})
"""Known, and granted to nobody. What is appended to an object takes no metadata (S3 API Reference, PutObject), so it would not say who
wrote that; and stores other than S3 Express pass over the offset, and replace the object."""
PASSES_PREFIX = "x-amz-meta-"
OURS_PREFIX = f"{PASSES_PREFIX}{PREFIX.decode()}"
"""Says who wrote an object: no client's reaches a store, and none is told it."""

ADMIN = frozenset({
    "x-amz-acl", "x-amz-website-redirect-location", "x-amz-bypass-governance-retention", "x-amz-mfa",
    "x-amz-bucket-object-lock-enabled", "x-amz-bucket-object-lock-token", "x-amz-object-ownership",
    "x-amz-bucket-namespace", "x-amz-confirm-remove-self-bucket-access", "x-amz-skip-destination-validation",
    "x-amz-transition-default-minimum-object-size",
})  # fmt: skip
"""Who sends one asks for `admin` beside what the operation asks: it says who else may read, or that nobody may delete."""
ADMIN_PREFIXES = ("x-amz-grant-", "x-amz-object-lock-")
PRIVATE = "private"
"""The one `x-amz-acl` that grants nothing: rclone sends it with every PUT."""

STANDARD = frozenset({
    "cache-control", "content-disposition", "content-encoding", "content-language", "content-md5", "content-type", "expires",
    "if-match", "if-modified-since", "if-none-match", "if-unmodified-since", "range",
})  # fmt: skip
"""What else goes to the store. Anything that is neither here nor above ends here: stores have orders of their own
(`x-minio-force-delete`, Swift's `x-object-manifest`)."""


_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
"""As a header's line says it: without spaces at its ends (RFC 9110 §5.5)."""


def said(query: Mapping[str, str], headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The query's own keys, and the headers with those that a signed URL carries among its parameters.

    Raises `Refused`: `MISPLACED_TOKEN` for a session token there, `BAD_HEADER` for one that is said twice, however spelled, or
    that no header line could say.
    """
    own: dict[str, str] = {}
    merged = dict(headers)
    for name, value in query.items():
        lower = name.lower()
        if name in IGNORED or not lower.startswith("x-amz-"):
            own[name] = value
        elif lower == "x-amz-security-token":
            raise Refused(Reason.MISPLACED_TOKEN, "a session token in a URL")
        elif lower in merged:
            raise Refused(Reason.BAD_HEADER, f"{lower[:64]} is said twice")
        elif _NAME.fullmatch(lower) is None or _VALUE.fullmatch(value) is None:
            raise Refused(Reason.BAD_HEADER, "a parameter for a header that is none")  # `headers.read` never saw it
        else:
            merged[lower] = value
    return own, merged


_SILENT = PASSES | ENDS_HERE | SOURCES | STANDARD | frozenset({
    "accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "authorization", "connection", "content-length", "host",
    "user-agent",
})  # fmt: skip
"""What most requests are made of; none of it asks for more."""


def asks_admin(headers: Mapping[str, str]) -> bool:
    """Whether a header asks for `admin`.

    Raises `Refused`: `UNKNOWN_OPERATION` for an `x-amz-*` header that is unknown or granted to nobody, `BAD_HEADER` for a directive
    that has no such value.
    """
    if headers.keys() <= _SILENT:
        return False
    admin = False
    for name, value in headers.items():
        if not name.startswith("x-amz-") or name in PASSES or name in ENDS_HERE or name in SOURCES:
            continue
        if name in DIRECTIVES:
            if value not in DIRECTIVES[name]:
                raise Refused(Reason.BAD_HEADER, f"{name} is {' or '.join(DIRECTIVES[name])}, and nothing else")
        elif name in REFUSED:
            raise Refused(Reason.UNKNOWN_OPERATION, f"{name} is granted to nobody")
        elif name in ADMIN or name.startswith(ADMIN_PREFIXES):
            admin = admin or name != "x-amz-acl" or value != PRIVATE
        elif not name.startswith(PASSES_PREFIX):
            raise Refused(Reason.UNKNOWN_OPERATION, f"{name[:64]} is not known")
    return admin


def goes_on(name: str) -> bool:
    """Whether the store gets a header (lower-case name). The sources of copies are written anew, with the store's own names."""
    if fold(name).startswith(OURS_PREFIX):
        return False
    if name.startswith("x-amz-"):
        return (
            name in PASSES or name in DIRECTIVES or name in ADMIN or name.startswith((PASSES_PREFIX, *ADMIN_PREFIXES))
        )
    return name in STANDARD
