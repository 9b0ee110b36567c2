"""The only place where bytes become path segments (law 1).

What can be read in two ways is refused, never normalised: the checker and the store must read the same path.
Two kinds of "no":

- **Refused here**, for every client: what no store reads in one way only. Anything but one leading `/`, bytes outside
  printable ASCII, `\\`, `#`, a `%` without two hex digits, encoded control bytes, percent bytes that are not UTF-8
  (so the overlong dot `%c0%ae` too), and dot segments in any spelling.
- **Recorded** as an `Oddity`: what some clients need (S3 keys, npm's `%2f`). Whoever routes refuses it with
  `target.oddities & ~profile.allowed`.

Decoding happens once and is strict UTF-8, hence injective: segments that are equal are the same bytes to every store
that decodes once, and segments that differ are not. The raw text stays beside them and is what travels on.
"""

import re
from urllib.parse import unquote_to_bytes

from sidecar.errors import Refused
from sidecar.model import Oddity, Target
from sidecar.reasons import Reason

MAX_LENGTH = 8192
"""Bytes of the whole request-target; what common servers take (RFC 9110 §4.1 asks for at least 8000)."""
MAX_SEGMENTS = 256

# RFC 3986 pchar without `%` and `;`, plus `/`. What is made of these alone and has neither `//` nor `/.` reads one way.
_UNAMBIGUOUS = re.compile(r"/[A-Za-z0-9/._~!$&'()*+,=:@-]*")
_QUERY = re.compile(r"[!-\"$-~]*")
_PATH = re.compile(r"(?:[!-\"$&-\[\]-~]|%[0-9A-Fa-f]{2})*")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_ENCODED_NON_ASCII = re.compile(r"%[89A-Fa-f][0-9A-Fa-f]")

# On a decoded segment. Java servers cut at `;`, double decoders at `?` and `#`, Windows cuts blanks at the end; a decoded
# slash or backslash begins a new segment wherever it is decoded before the dots are resolved.
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2} *(?:\Z|[/\\;?#])")

_SPELLINGS: tuple[tuple[str, Oddity], ...] = (
    ("%2f", Oddity.ENCODED_SLASH),
    ("%5c", Oddity.ENCODED_BACKSLASH),
    ("%25", Oddity.ENCODED_PERCENT),
    ("%3f", Oddity.ENCODED_QUESTION),
    ("%23", Oddity.ENCODED_HASH),
    ("%3b", Oddity.SEMICOLON),
    (";", Oddity.SEMICOLON),
)


_WORDS: dict[Oddity, str] = {
    Oddity.ENCODED_SLASH: "an encoded slash (%2F)",
    Oddity.ENCODED_BACKSLASH: "an encoded backslash (%5C)",
    Oddity.ENCODED_PERCENT: "an encoded percent sign (%25)",
    Oddity.ENCODED_QUESTION: "an encoded question mark (%3F)",
    Oddity.ENCODED_HASH: "an encoded number sign (%23)",
    Oddity.EMPTY_SEGMENT: "an empty segment (//)",
    Oddity.NON_ASCII: "a character beyond ASCII, even percent-encoded",
    Oddity.SEMICOLON: "a semicolon, plain or encoded",
}


def in_words(oddities: Oddity) -> str:
    """What was met, for whoever has to find it in a path."""
    return ", ".join(words for oddity, words in _WORDS.items() if oddity in oddities)


def parse(raw: str) -> Target:
    """The request-target as it stood in the request line -> the one way to read it.

    Raises `Refused(BAD_TARGET)` and nothing else, whatever `raw` holds.
    """
    if len(raw) > MAX_LENGTH:
        raise Refused(Reason.BAD_TARGET, "longer than 8 KiB")
    path, _, query = raw.partition("?")
    if query and _QUERY.fullmatch(query) is None:
        raise Refused(Reason.BAD_TARGET, "a byte in the query that is not printable ASCII, or a #")
    if _UNAMBIGUOUS.fullmatch(path) is None or "//" in path or "/." in path:
        return _parse_odd(path, query)
    segments = tuple(path[1:].split("/"))
    if len(segments) > MAX_SEGMENTS:
        raise Refused(Reason.BAD_TARGET, "more than 256 segments")
    return Target(path, query, segments, segments)


def key(target: Target, prefix: int) -> str:
    """What follows the first `prefix` segments, decoded once, without its leading slash (`docs/policy.md` rule 2)."""
    return "/".join(target.segments[prefix:])


def suffix(target: Target, prefix: int) -> str:
    """The path's text after the first `prefix` segments, unchanged: empty, or starting with `/`.

    The first `prefix` raw segments followed by it are `raw_path` again, so a mapped path keeps the key's bytes.
    """
    if prefix == 0:
        return target.raw_path
    rest = target.raw_segments[prefix:]
    return "/" + "/".join(rest) if rest else ""


def flat(target: Target) -> tuple[str, ...]:
    """The segments as a store sees them that takes an encoded slash for a slash, and several for one."""
    return tuple(piece for segment in target.segments for piece in segment.split("/") if piece)


def _parse_odd(path: str, query: str) -> Target:
    if not path.startswith("/") or path.startswith("//"):
        raise Refused(Reason.BAD_TARGET, "not a path with exactly one leading slash")
    if _PATH.fullmatch(path) is None:
        raise Refused(Reason.BAD_TARGET, "a byte in the path that is not printable ASCII, a \\, a # or a bad %")
    if _ENCODED_CONTROL.search(path) is not None:
        raise Refused(Reason.BAD_TARGET, "an encoded control byte")
    raw_segments = tuple(path[1:].split("/"))
    if len(raw_segments) > MAX_SEGMENTS:
        raise Refused(Reason.BAD_TARGET, "more than 256 segments")
    try:
        segments = tuple(unquote_to_bytes(segment).decode() for segment in raw_segments)
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_TARGET, "percent bytes that are not UTF-8") from None
    for segment in segments:
        if _DOTS.search(segment) is not None:
            raise Refused(Reason.BAD_TARGET, "a dot segment")
    return Target(path, query, raw_segments, segments, _oddities(path, segments))


def _oddities(path: str, segments: tuple[str, ...]) -> Oddity:
    found = Oddity.NONE
    lower = path.lower()
    for spelling, oddity in _SPELLINGS:
        if spelling in lower:
            found |= oddity
    if _ENCODED_NON_ASCII.search(path) is not None:
        found |= Oddity.NON_ASCII
    if "//" in "/" + "/".join(segments):  # also where an encoded slash leaves an empty piece
        found |= Oddity.EMPTY_SEGMENT
    return found
