"""`x-amz-copy-source` and `x-amz-rename-source`: the other object that a request reads, in whatever bucket.

Read as strictly as a path, and written anew for the store: stores differ on a leading slash, on `+`, and on which `?` begins
the version. What a URL would have to encode and a header needn't (a space, `#`, brackets) may stand as it is, as clients send
it. Source: S3 API Reference, CopyObject.
"""

import re
from functools import lru_cache

from msgspec import Struct

from sidecar import target
from sidecar.errors import Refused
from sidecar.model import Oddity
from sidecar.reasons import Reason
from sidecar.s3 import query
from sidecar.sigv4 import encode, encode_path

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
"""Today's names, and what older buckets and other stores allow. An access point's ARN is no bucket."""
_BARE = re.compile(r"[ \"#<>\\^`{|}]")


_VERSION = re.compile(r"[A-Za-z0-9._~-]{1,1024}")


class CopySource(Struct, frozen=True):
    bucket: str
    key: str
    """Decoded once."""
    version_id: str = ""
    oddities: Oddity = Oddity.NONE
    """What the route's profile still has to agree to, as for the request's own path."""


@lru_cache(maxsize=1024)  # there are few, and each request names one
def is_bucket(name: str) -> bool:
    """Whether a bucket can have this name. One like an IP address or with two dots can't be told from a path or a host."""
    return _BUCKET.fullmatch(name) is not None and ".." not in name


def read(value: str) -> CopySource:
    """The header's value, percent-encoded as the reference asks. Raises `Refused(BAD_HEADER)` for what can be read in two ways:
    `+`, an ARN, a missing key, a parameter that isn't one plain `versionId`, and what a path may not hold."""
    path, question, version = value.partition("?")
    path = _BARE.sub(lambda found: f"%{ord(found[0]):02X}", path)
    if "+" in path:  # a space to some stores, itself to others; clients that mean it send %2B
        raise Refused(Reason.BAD_HEADER, "a + in the copy source, neither %20 nor %2B")
    if question:
        name, _, version = version.partition("=")
        if name != "versionId" or _VERSION.fullmatch(version) is None or not query.is_id(version):
            raise Refused(Reason.BAD_HEADER, "a copy source with more than one plain versionId")
    try:
        parsed = target.parse(path if path.startswith("/") else f"/{path}")
    except Refused as refused:
        raise Refused(Reason.BAD_HEADER, f"the copy source: {refused.detail}") from None
    bucket, key = parsed.segments[0], "/".join(parsed.segments[1:])
    if not is_bucket(bucket) or not key:
        raise Refused(Reason.BAD_HEADER, "a copy source that is not bucket/key")
    return CopySource(bucket, key, version, parsed.oddities)


def write(source: CopySource) -> str:
    """The one spelling that stores get, with the bucket and key as the store knows them."""
    path = encode_path(f"{source.bucket}/{source.key}")
    return f"{path}?versionId={encode(source.version_id)}" if source.version_id else path
