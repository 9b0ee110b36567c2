"""Headers on their way into a bucket and out of it.

The law: what goes to S3 is an allow-list, since many of its headers are orders (`x-amz-acl`, `x-amz-copy-source`, `x-amz-tagging`), and
what comes back is one, too. What the embedded store keeps with an object, a bucket keeps: S3 has places of its own for some of
it (`Content-Type`, ...), `x-amz-meta-*` is its place for the rest, and there `x-artifact-tag` is `x-amz-meta-x-artifact-tag`.
"""

from sidecar import provenance
from sidecar.errors import Refused
from sidecar.ports import HeaderList
from sidecar.reasons import Reason

META = b"x-amz-meta-"
_MOVED = b"x-artifact-"
_MOVED_META = META + _MOVED
_OURS = META + provenance.PREFIX
"""Says who wrote the object; no client writes it, and none reads it."""

KEPT = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-disposition",
        b"cache-control",
        b"expires",
    }
)
_TO_READ = frozenset({b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"})
_TO_WRITE = KEPT | {b"content-md5", b"if-match", b"if-none-match"}
_TO_DELETE = frozenset({b"if-match"})
_UNKNOWN_TO_S3 = {
    "PUT": frozenset({b"if-modified-since", b"if-unmodified-since"}),
    "DELETE": frozenset({b"if-none-match", b"if-modified-since", b"if-unmodified-since"}),
}
"""Conditions that S3 doesn't look at where it writes: not to be evaluated is not to be met."""

_FROM_STORE = KEPT | {b"etag", b"last-modified", b"accept-ranges", b"content-range", b"date", b"retry-after", b"age"}
_OF_A_WRITE = frozenset({b"etag", b"last-modified", b"date"})
_MAX_REMEMBERED = 256
_KEEP, _DROP = b"keep", b"drop"
_PRINTABLE = bytes(range(0x20, 0x7F))


def to_read(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """What a GET or HEAD says to S3. `If-Range` isn't among it: S3 doesn't promise to look at it."""
    return [pair for pair in headers if pair[0].lower() in _TO_READ]


def to_delete(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0].lower() in _TO_DELETE]


def to_write(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """What a PUT says. Raises `Refused(BAD_HEADER)` for what can't be kept: one that is there twice, or not printable ASCII."""
    kept: dict[bytes, tuple[bytes, bytes]] = {}
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(_OURS):
            continue
        if lower == provenance.HEADER:
            kept |= {pair[0]: pair for pair in provenance.pieces(META + lower, value)}
            continue
        sent = META + lower if lower.startswith(_MOVED) else lower
        if lower not in _TO_WRITE and not sent.startswith(META):
            continue
        if sent in kept:
            raise Refused(Reason.BAD_HEADER, f"more than one {sent[:64].decode('latin-1')}")
        if value.translate(None, _PRINTABLE):
            raise Refused(Reason.BAD_HEADER, "a value beyond printable ASCII, which S3 doesn't keep as it is")
        if lower == b"content-encoding" and b"aws-chunked" in value.lower():
            raise Refused(Reason.BAD_HEADER, "the body is wrapped for S3, which this kind of client isn't")
        kept[sent] = sent, value
    return list(kept.values())


def unheeded(method: str, headers: HeaderList) -> bool:
    """Whether there is a condition that S3 would pass over."""
    unknown = _UNKNOWN_TO_S3.get(method)
    return unknown is not None and any(name.lower() in unknown for name, _ in headers)


def from_store(headers: HeaderList) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """An object's head -> what the client gets of it, and the store's `Date`."""
    kept: list[tuple[bytes, bytes]] = []
    date = b""
    for pair in headers:
        name = pair[0]
        known = _remembered.get(name) or _learn(name)
        if known is _KEEP:
            kept.append(pair)
        elif known is not _DROP:
            kept.append((known, pair[1]))
            if known == b"date":
                date = pair[1]
    return kept, date


def from_write(headers: HeaderList) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The same of an answer to a PUT or DELETE, which has no representation: some servers describe its empty body."""
    kept, date = from_store(headers)
    return [pair for pair in kept if pair[0].lower() in _OF_A_WRITE], date


_remembered: dict[bytes, bytes] = {}


def _learn(name: bytes) -> bytes:
    lower = name.lower()
    if lower.startswith(META):  # these are the clients' inventions: not remembered
        if lower.startswith(_OURS):
            return _DROP
        return lower[len(META) :] if lower.startswith(_MOVED_META) else lower
    known = lower if lower == b"date" else _KEEP if lower in _FROM_STORE else _DROP
    if len(_remembered) >= _MAX_REMEMBERED:
        _remembered.clear()
    _remembered[name] = known
    return known
