"""Whether a request may proceed, and which bytes it asks for: RFC 9110 §13 (preconditions) and §14 (ranges). Pure.

Law: a list of entity tags that can't be read never lets a write through; the RFC leaves that open. A date or a range
that can't be read is ignored, as the RFC demands.
"""

import calendar
import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache

from msgspec import Struct

_NAMES = {
    b"if-match": "if_match",
    b"if-none-match": "if_none_match",
    b"if-modified-since": "if_modified_since",
    b"if-unmodified-since": "if_unmodified_since",
    b"if-range": "if_range",
    b"range": "range",
}

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_BYTE_RANGE = re.compile(r"([0-9]*)-([0-9]*)")
_DATES = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""RFC 9110 §5.6.7: one form to send, two obsolete ones that must still be read."""


class Conditions(Struct, frozen=True, gc=False):
    """The request's headers of §13 and §14, as text; `None` where absent. Repeated lines are joined with a comma (§5.3)."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    range: str | None = None

    @property
    def guard_writes(self) -> bool:
        """Whether a PUT or DELETE has to look at what is stored first."""
        return not (self.if_match is self.if_none_match is self.if_unmodified_since is None)


class Outcome(Enum):
    PROCEED = auto()
    NOT_MODIFIED = auto()
    """304; only ever of a GET or HEAD."""
    FAILED = auto()
    """412."""


_UNCONDITIONAL = Conditions()


def read_conditions(headers: Iterable[tuple[bytes, bytes]]) -> Conditions:
    found: dict[str, str] = {}
    for name, value in headers:
        field = _NAMES.get(name.lower())
        if field is not None:
            text = value.decode("latin-1")
            found[field] = f"{found[field]}, {text}" if field in found else text
    return Conditions(**found) if found else _UNCONDITIONAL


def evaluate(conditions: Conditions, *, reads: bool, etag: str | None, modified: int) -> Outcome:
    """The five steps of §13.2.2 in their order, up to the last (`byte_range`).

    `reads`: the method is GET or HEAD. `etag` is the current representation's strong entity tag with its quotes,
    `None` where nothing is stored; `modified` its Last-Modified in Unix seconds.
    """
    if conditions.if_match is not None:
        if not _names(conditions.if_match, etag, weakly=False):
            return Outcome.FAILED
    elif conditions.if_unmodified_since is not None and etag is not None:
        since = parse_date(conditions.if_unmodified_since)
        if since is not None and modified > since:
            return Outcome.FAILED
    if conditions.if_none_match is not None:
        if _names(conditions.if_none_match, etag, weakly=True):
            return Outcome.NOT_MODIFIED if reads else Outcome.FAILED
        if not reads and not _is_readable(conditions.if_none_match):
            return Outcome.FAILED
    elif conditions.if_modified_since is not None and reads and etag is not None:
        since = parse_date(conditions.if_modified_since)
        if since is not None and modified <= since:
            return Outcome.NOT_MODIFIED
    return Outcome.PROCEED


def byte_range(conditions: Conditions, *, etag: str, size: int) -> range | None:
    """The offsets that a GET asks for; `None` for the whole; an empty range for a 416 (§15.5.17). `size` in bytes.

    Several ranges are answered with the whole, as §14.2 allows: a cache client never sends them, and a small request
    must not cause a large answer. A date in `If-Range` counts only if it is a strong validator (§13.1.5); one that
    counts seconds isn't, where an object can be replaced twice within one (§8.8.2.2).
    """
    if conditions.range is None or (conditions.if_range is not None and conditions.if_range.strip() != etag):
        return None
    unit, _, specs = conditions.range.partition("=")
    asked = [spec for spec in (part.strip(" \t") for part in specs.split(",")) if spec]
    if unit.strip(" \t").lower() != "bytes" or len(asked) != 1:
        return None
    match = _BYTE_RANGE.fullmatch(asked[0])
    if match is None or match[0] == "-":
        return None
    if not match[1]:
        suffix = _number(match[2])
        if size == 0 and suffix > 0:
            return None
        return range(max(0, size - suffix), size)
    first = _number(match[1])
    last = _number(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    return range(first, min(last + 1, size)) if first < size else range(0)


@lru_cache(maxsize=1024)
def http_date(seconds: int) -> str:
    """Unix seconds as an IMF-fixdate."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Unix seconds, or `None` where it is no HTTP-date: such a header is ignored for a read (§13.1.3)."""
    for form in _DATES:
        try:
            return calendar.timegm(time.strptime(text.strip(" \t"), form))
        except ValueError:
            continue
    return None


def _names(field: str, etag: str | None, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, names the current one. Ours is strong, so a weak one matches only `weakly`."""
    if etag is None:
        return False
    if field.strip(" \t") == "*":
        return True
    tags = _ENTITY_TAG.findall(field)
    return etag in tags or (weakly and f"W/{etag}" in tags)


def _is_readable(field: str) -> bool:
    return field.strip(" \t") == "*" or not _ENTITY_TAG.sub("", field).strip(" \t,")


def _number(digits: str) -> int:
    """Beyond any file's size there is no need to know how far; and Python refuses to read 4,301 digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < 19 else 1 << 62
