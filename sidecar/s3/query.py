"""The query of an S3 request, read once and strictly: decoded, each key once, and written anew in one spelling.

Stores differ on `+`, on repeated keys and on what isn't UTF-8; what they get is `write()`'s, which all of them read alike.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.sigv4 import encode

MOST_PARAMETERS = 64
"""Signed URLs with hoisted headers have some 30."""

IDS = frozenset({"uploadId", "versionId", "partNumber", "upload-id-marker", "version-id-marker", "part-number-marker"})
"""Parameters that a store itself has given out, or counts."""
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~=+-]{0,1024}")

_PLAIN = re.compile(r"(?:[^%&=]|%[0-9A-Fa-f]{2})*")


def pairs(raw_query: str) -> dict[str, str]:
    """A query as received, without `?` -> its parameters. A key without `=` has an empty value; `+` is a space, as AWS reads it.

    Raises `Refused(BAD_TARGET)`: a key repeated or empty, a `%` without two hex digits, bytes that aren't UTF-8, a control
    byte, more than `MOST_PARAMETERS`.
    """
    read: dict[str, str] = {}
    if not raw_query:
        return read
    parts = raw_query.split("&")
    if len(parts) > MOST_PARAMETERS:
        raise Refused(Reason.BAD_TARGET, f"more than {MOST_PARAMETERS} query parameters")
    for part in parts:
        name, _, value = part.partition("=")
        name, value = _decoded(name), _decoded(value.replace("=", "%3D"))
        if not name or name in read:
            raise Refused(Reason.BAD_TARGET, "a query key that is empty or repeated")
        read[name] = value
    return read


def is_id(text: str) -> bool:
    """Whether it can be an id that a store gave out. Some stores make a path of what they are given: Versity's gateway 1.8.0 follows
    an upload's id of `../../x` to other keys, other buckets, and out of its folder; Swift reads one with a `/` as another key's."""
    return _ID.fullmatch(text) is not None


def write(parameters: Mapping[str, str]) -> str:
    """The query that says this, in the canonical form of signatures: encoded and sorted."""
    return "&".join(f"{name}={value}" for name, value in sorted((encode(n), encode(v)) for n, v in parameters.items()))


def _decoded(text: str) -> str:
    if _PLAIN.fullmatch(text) is None:
        raise Refused(Reason.BAD_TARGET, "a % in the query without two hex digits")
    try:
        decoded = unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_TARGET, "bytes in the query that are not UTF-8") from None
    if not decoded.isprintable() and any(character < " " or character == "\x7f" for character in decoded):
        raise Refused(Reason.BAD_TARGET, "a control byte in the query")
    return decoded
