"""A copy, described anew, so that the object says who copied it. Pure.

S3 takes a copy's metadata from its source and passes over what is said beside it, who wrote included. So the source's is asked for
first, and said again with the copy (`x-amz-metadata-directive: REPLACE`), which holds only as long as the source is the same.
Where the source can't be described whole, the copy stays what the client asked for. Source: S3 API Reference, CopyObject.
"""

from msgspec.structs import replace

from sidecar.ports import HeaderList
from sidecar.s3.headers import OURS_PREFIX, PASSES_PREFIX
from sidecar.s3.operations import COPY_SOURCE
from sidecar.s3.sending import Sending
from sidecar.sigv4 import encode

_DIRECTIVE, _IF_MATCH = b"x-amz-metadata-directive", b"x-amz-copy-source-if-match"
_DESCRIBE = frozenset(
    {b"content-type", b"content-encoding", b"content-language", b"content-disposition", b"cache-control", b"expires"}
)
_OURS, _THEIRS = OURS_PREFIX.encode(), PASSES_PREFIX.encode()
_LEFT_OUT = b"x-amz-missing-meta"
"""What a store says of metadata that no header could hold."""
_PRINTABLE = bytes(range(0x20, 0x7F))


def source_path(ready: Sending) -> str | None:
    """What to ask the store's own bucket for, with the version; `None` where nothing is to be described anew, or it can't be:
    a source in another bucket, one under a customer's key or a condition, a copy onto itself."""
    asked = ready.asked
    if asked.operation.name != "CopyObject" or asked.headers.get(_DIRECTIVE.decode(), "COPY") != "COPY":
        return None
    # A condition more would change what the client's own mean: of two that S3 evaluates together, one wins.
    if any("customer" in name or "-if-" in name for name in asked.headers if name.startswith(COPY_SOURCE)):
        return None
    source = next(value.decode() for name, value in ready.headers if name == COPY_SOURCE.encode())
    bucket, _, path = source.partition("/")
    if bucket != encode(ready.place.store_bucket) or f"/{path}" == ready.path:
        return None
    return f"/{path}"


def described(ready: Sending, source: HeaderList) -> Sending:
    """The copy with its source's description; as it was where that isn't whole."""
    said = [(name.lower(), value) for name, value in source]
    tag = next((value for name, value in said if name == b"etag"), b"")
    kept = [
        pair for pair in said if pair[0] in _DESCRIBE or (pair[0].startswith(_THEIRS) and not pair[0].startswith(_OURS))
    ]
    names = [name for name, _ in kept]
    odd = any(value.translate(None, _PRINTABLE) for _, value in kept) or len(set(names)) < len(names)
    if odd or not tag or any(name == _LEFT_OUT for name, _ in said):
        return ready
    own = [
        pair
        for pair in ready.headers
        if pair[0].lower() not in _DESCRIBE
        and pair[0].lower() != _DIRECTIVE
        and not pair[0].lower().startswith(_THEIRS)
    ]
    return replace(ready, headers=[*own, *kept, (_IF_MATCH, tag), (_DIRECTIVE, b"REPLACE")])
