"""The law: no text from outside enters a record before it has passed through here, and none leaves here with a secret in it.

Evidence is kept as received wherever that is safe; only what could be used as a credential is taken out. Text that
can't be written as JSON (lone surrogates), or that is too long, is shortened at the very end, by `fit`.

Anybody's text passes through here on the event loop, so each pattern takes time in proportion to its input: it gives
nothing back (possessive quantifiers), and starts over only where no earlier start has read already.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from sidecar.credentials import patterns

TAKEN_OUT = "REDACTED"
CUT = "…"
"""A text that ends in it was cut."""

_SECRET_PARAMETERS = frozenset({"auth", "code", "jwt", "key", "pass", "pwd", "session", "sig", "sid"})
_SECRET_WORDS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "signature",
    "credential",
    "authorization",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "accesskey",
    "privatekey",
    "private_key",
    "sessionid",
    "customer-key",  # of S3's server-side encryption
)

LONGEST = 65_536
"""Characters; what is longer is cut before anybody looks for tokens in it."""
MOST_PARAMETERS = 256
"""As many as a request may have; a refused one may have more."""
_UNQUOTINGS = 3
"""How many times over a token may be percent-encoded and still be found."""

# The credentials of this program, by the patterns that scanners are given, and more of them: of any brand, with a secret of any length,
# several in a row that share their letters.
_OPAQUE = re.compile(rf"(?<![0-9A-Za-z])[0-9A-Za-z]*+(?:{patterns.OPAQUE_TAIL}+)+")
_BISCUIT = re.compile(patterns.BISCUIT)
# JWTs (`{"` in base64url is `eyJ`). The part with the dots is optional so that a long text without one is read once and not
# once for each `eyJ` in it; it is a token only with dots.
_JWT = re.compile(r"eyJ[0-9A-Za-z_-]{8,}+((?:\.[0-9A-Za-z_-]*){1,4})?")
_ESCAPE = re.compile("%[2-7][0-9A-Fa-f]")
_CHARACTERS = {f"%{row}{column}": chr(int(row + column, 16)) for row in "234567" for column in "0123456789abcdefABCDEF"}
_SEPARATOR = re.compile("([&;])")  # some servers separate parameters by `;`


def suspicious(value: str) -> bool:
    """Whether there might be a token in it, as it is or percent-encoded. A few cheap looks that decide for nearly every text."""
    return hinted(value) or ("%" in value and any(map(hinted, _unquoted(value))))


def hinted(value: str) -> bool:
    """Whether there might be a token in it as it is."""
    if "eyJ" in value or "_pat_" in value or "_ci_" in value:
        return True
    return len(value) > patterns.SHORTEST_BISCUIT and _BISCUIT.search(value) is not None


def _unquoted(value: str) -> Iterator[str]:
    """What it says after one unquoting, two, and so on, as far as it is printable ASCII: no token has other characters."""
    for _ in range(_UNQUOTINGS):
        value, found = _ESCAPE.subn(_character, value)
        if not found:
            return
        yield value


def _character(escape: re.Match[str]) -> str:
    return _CHARACTERS[escape[0]]


def text(value: str) -> str:
    """The same text without anything that has a token's shape, in whatever place somebody pasted it."""
    if len(value) > LONGEST:
        value = value[:LONGEST] + CUT
    if not suspicious(value):
        return value
    kept: list[str] = []
    done = 0
    for start, end in sorted(_tokens(value)):
        if start >= done:
            kept += value[done:start], TAKEN_OUT
        done = max(done, end)
    return "".join([*kept, value[done:]])


def _tokens(value: str) -> Iterator[tuple[int, int]]:
    """Where in `value` tokens start and end, those included that show only after unquoting."""
    unquotings: list[list[int]] = []
    """The places of the decoded escapes in each text that came of unquoting."""

    def place(index: int) -> int:
        for escapes in reversed(unquotings):
            index += 2 * bisect_left(escapes, index)
        return index

    before: str | None = None
    for decoded in chain((value,), _unquoted(value)):
        if before is not None:
            unquotings.append([found.start() - 2 * count for count, found in enumerate(_ESCAPE.finditer(before))])
        before = decoded
        for found in chain(_OPAQUE.finditer(decoded), _JWT.finditer(decoded), _BISCUIT.finditer(decoded)):
            if found.re is not _JWT or found[1] is not None:
                yield place(found.start()), place(found.end())


def query(raw: str) -> str:
    """A raw query (without `?`) whose secret parameters have lost their values; all else is as received, but for what
    comes after `MOST_PARAMETERS`.

    Of `X-Amz-Credential` the scope stays (date, region, service) and the key id goes: who asked is in `actor`.
    """
    if not raw:
        return raw
    if "=" in raw:
        parts = _SEPARATOR.split(raw, MOST_PARAMETERS)
        if len(parts) > 2 * MOST_PARAMETERS:
            parts[-1] = CUT
        parts[::2] = map(_parameter, parts[::2])
        raw = "".join(parts)
    return text(raw)


def _parameter(part: str) -> str:
    written, equals, value = part.partition("=")
    if not equals:
        return part
    name = (unquote_plus(written) if "%" in written or "+" in written else written).strip().lower()
    if name == "x-amz-credential":
        _, *scope = unquote_plus(value).split("/")
        well_formed = len(scope) == 4 and scope[0].isdigit() and scope[3] == "aws4_request"
        return f"{written}={'/'.join([TAKEN_OUT, *scope])}" if well_formed else f"{written}={TAKEN_OUT}"
    if name in _SECRET_PARAMETERS or any(word in name for word in _SECRET_WORDS):
        return f"{written}={TAKEN_OUT}"
    return part


def fit(value: Any, limit: int, items: int) -> Any:
    """A copy that can be encoded: texts of at most `limit` characters, lists and maps of at most `items` members.

    Lone surrogates become their escape's text (`\\udc80`): JSON in UTF-8 can't hold them.
    """
    if isinstance(value, str):
        if not value.isascii():
            value = value.encode("utf-8", "backslashreplace").decode()
        return value if len(value) <= limit else value[: limit - 1] + CUT
    if isinstance(value, msgspec.Struct):
        return type(value)(*[fit(getattr(value, name), limit, items) for name in value.__struct_fields__])
    if isinstance(value, dict):
        return {fit(str(key), limit, items): fit(value[key], limit, items) for key in list(value)[:items]}
    if isinstance(value, (list, tuple)):
        return [fit(item, limit, items) for item in value[:items]]
    return value
