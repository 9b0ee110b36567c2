"""What the store gets of an S3 request that was allowed: all of it written anew from what was read and judged.

The law: nothing goes on that was not read. Headers go by the list in `s3.headers`, the query by the operation's row, bucket and
key in the store's own names; the form in which the client sent its body ends here, as its signature does. Who writes an object
is said with it by the sidecar alone (`signed`).
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from sidecar import provenance
from sidecar.model import Head
from sidecar.ports import HeaderList
from sidecar.s3 import copy_source, headers, multi_delete, query
from sidecar.s3.body import encodings, plain_encoding
from sidecar.s3.copy_source import CopySource
from sidecar.s3.multi_delete import MultiDelete
from sidecar.s3.operations import Level
from sidecar.s3.place import Place
from sidecar.s3.request import Asked

_AFTER = ("marker", "start-after", "key-marker")
"""Where a list goes on."""
_CREATES_IF_NEW = frozenset({"PutObject", "CompleteMultipartUpload", "CopyObject", "RenameObject"})
"""What takes `If-None-Match` about the key that is written (S3 API Reference); a copy does since October 2025, and stores that
don't know it there pass over it."""
_MAKES_OBJECT = frozenset({"PutObject", "CreateMultipartUpload", "CopyObject"})
"""What takes an object's metadata (S3 API Reference)."""
OURS = b"x-amz-meta-" + provenance.HEADER
"""Where a store keeps who wrote an object."""
_OF_OTHER_BODY = (b"content-md5", b"x-amz-checksum-")
"""Begin the headers about a body that isn't sent as it came."""


class Sending(Struct, frozen=True):
    path: str
    """With the query, ready to send."""
    headers: HeaderList
    asked: Asked
    place: Place
    body: bytes | None = None
    """In place of the client's."""
    passes: bool = False
    """Nothing of its body or its answer has to be looked at on the way."""


def sending(
    asked: Asked,
    head: Head,
    place: Place,
    *,
    source: CopySource | None = None,
    deleted: MultiDelete | None = None,
    only_creates: bool = False,
) -> Sending:
    """`source`: as the store calls it. `deleted`: as the client asked. `only_creates`: see `decision.Decision`."""
    path = place.path(asked.key)
    parameters = asked.query if place.same else _query(asked, place)
    if parameters:
        path = f"{path}?{query.write(parameters)}"
    kept = _headers(asked, head)
    if source is not None:
        kept.append((asked.operation.source.encode(), copy_source.write(source).encode()))
    if only_creates and asked.operation.name in _CREATES_IF_NEW:
        kept = [pair for pair in kept if pair[0].lower() not in (b"if-match", b"if-none-match")]
        kept.append((b"If-None-Match", b"*"))
    if deleted is None:
        return Sending(path, kept, asked, place)
    body = multi_delete.write(_deleted(deleted, place))
    kept = [pair for pair in kept if not pair[0].lower().startswith(_OF_OTHER_BODY)]
    # S3 API Reference, DeleteObjects: one of these two is required, and older servers know the first alone.
    kept.append((b"Content-MD5", base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest())))
    return Sending(path, kept, asked, place, body)


def of_one(asked: Asked, head: Head, place: Place) -> Sending:
    """`sending()` of what `reads_one`."""
    path = place.path(asked.key)
    if asked.query:
        path = f"{path}?{query.write(asked.query)}"
    same = place.same  # else an error names the store's own bucket
    return Sending(path, _headers(asked, head), asked, place, passes=same)


def makes_object(asked: Asked) -> bool:
    """Whether an object with metadata of its own comes to be by it, or begins to."""
    return asked.operation.name in _MAKES_OBJECT


def signed(ready: Sending, by: Callable[[int], bytes]) -> Sending:
    """What makes an object, with who writes it: `by` says that in so many bytes. To a copy that isn't described anew nothing is said:
    S3 would pass over it, and take along what the source says (`s3.copying`)."""
    if ready.asked.operation.name == "CopyObject" and not _replaces(ready.headers):
        return ready
    told = by(provenance.room(ready.headers))
    return replace(ready, headers=[*ready.headers, *provenance.pieces(OURS, told)])


def _replaces(headers: HeaderList) -> bool:
    return any(name.lower() == b"x-amz-metadata-directive" and value == b"REPLACE" for name, value in headers)


def _headers(asked: Asked, head: Head) -> list[tuple[bytes, bytes]]:
    kept = []
    for pair in head.headers.forward:
        name = _forwarded(pair[0])
        if not name:
            continue
        if name == "content-encoding" and "aws-chunked" in encodings(asked.headers):
            plain = plain_encoding(pair[1].decode("latin-1")).encode("latin-1")
            if plain:
                kept.append((pair[0], plain))
        else:
            kept.append(pair)
    if len(asked.headers) > len(head.headers.values):
        hoisted = asked.headers.keys() - head.headers.values.keys()
        kept += [(name.encode(), asked.headers[name].encode()) for name in sorted(hoisted) if headers.goes_on(name)]
    return kept


@lru_cache(maxsize=1024)
def _forwarded(name: bytes) -> str:
    """A header's name in lower case; empty for one that ends here."""
    lower = name.decode("latin-1").lower()
    return lower if headers.goes_on(lower) else ""


def _query(asked: Asked, place: Place) -> Mapping[str, str]:
    if asked.operation.level is not Level.BUCKET:
        return asked.query
    mapped = dict(asked.query)
    if asked.lists:
        mapped["prefix"] = place.to_store(mapped.get("prefix", ""))
    for name in _AFTER:
        if name in mapped:
            mapped[name] = place.after(mapped[name])
    return {name: value for name, value in mapped.items() if value or asked.query.get(name) == ""}


def _deleted(deleted: MultiDelete, place: Place) -> MultiDelete:
    if place.same:
        return deleted
    entries = tuple(
        multi_delete.Entry(place.object_name(entry.key), entry.version_id, entry.conditions, entry.oddities)
        for entry in deleted.entries
    )
    return MultiDelete(entries, deleted.quiet)
