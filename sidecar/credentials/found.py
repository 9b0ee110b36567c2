"""Whatever in a text may be a credential of this program: as it stands, percent-encoded, or in base64, as `.npmrc` and HTTP's Basic
write it.

Law: nothing is judged here. A text is as long and as hostile as somebody likes, so each pattern takes time in proportion to it.
"""

import base64
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from msgspec import Struct
from msgspec.structs import replace

from sidecar.credentials import patterns
from sidecar.model import Secret

_OPAQUE = re.compile(patterns.opaque().encode())
_BISCUIT = re.compile(patterns.BISCUIT.encode())
_ACCESS_KEY = re.compile(patterns.ACCESS_KEY_ID.encode())
# As in redact: the dots are optional so that a long text without any is read once.
_JWT = re.compile(rb"eyJ[0-9A-Za-z_-]{8,}+((?:\.[0-9A-Za-z_-]++){2})?")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{88,}+")
"""A token and a user name in base64 are longer."""
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_HINTS = (b"_pat_", b"_ci_", b"eyJ")


class Candidate(Struct, frozen=True):
    kind: str
    """`token`, `jwt`, `biscuit` or `access_key`, whose id it is then."""
    secret: Secret
    at: int
    """Where in the text it begins; of one that is encoded, about there and never before what it is encoded in."""


def candidates(text: bytes) -> Iterator[Candidate]:
    """Each place once; the same credential may stand in several."""
    yield from _plain(text)
    if b"%" in text:
        for run in re.finditer(rb"[^\s\"'<>]*%[^\s\"'<>]*", text):
            if _ESCAPE.search(run[0]):
                for found in _plain(unquote_to_bytes(run[0])):
                    yield replace(found, at=run.start() + found.at)
    for blob in _BASE64.finditer(text):
        for shift in range(4):
            # What stands before may be glued to it, such as the 20 of %20.
            content = _decoded(blob[0][shift:])
            if any(hint in content for hint in _HINTS) or _BISCUIT.search(content):
                for found in _plain(content):
                    yield replace(found, at=blob.start() + shift + found.at * 4 // 3)


def _plain(text: bytes) -> Iterator[Candidate]:
    for kind, pattern in (("token", _OPAQUE), ("jwt", _JWT), ("biscuit", _BISCUIT), ("access_key", _ACCESS_KEY)):
        for found in pattern.finditer(text):
            if pattern is not _JWT or found[1] is not None:
                yield Candidate(kind, Secret(found[0].decode("ascii")), found.start())


def _decoded(blob: bytes) -> bytes:
    standard = blob.replace(b"-", b"+").replace(b"_", b"/")
    whole = standard[: len(standard) - (len(standard) % 4 == 1)]  # one character of four says nothing
    return base64.b64decode(whole + b"=" * (-len(whole) % 4))
