"""The law: no text from outside enters a record before it has passed through here, and none leaves here with a secret in it.

Evidence is kept as received wherever that is safe; only what could be used as a credential is taken out. Text that
can't be written as JSON (lone surrogates), or that is too long, is shortened at the very end, by `fit`.
"""

import re
from typing import Any
from urllib.parse import unquote_plus

import msgspec

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
)

# The credentials of this program (public prefix, checksum at the end) and JWTs (`{"` in base64url is `eyJ`), in whatever place
# somebody pasted them.
_TOKEN_SHAPE = re.compile(r"[A-Za-z0-9]{1,32}_(?:pat|ci)_[0-9A-Za-z]{12}_[0-9A-Za-z]+|eyJ[\w-]{8,}(?:\.[\w-]*){1,4}")


def suspicious(value: str) -> bool:
    """Whether there might be a token in it. Three cheap looks that decide for nearly every text."""
    return "eyJ" in value or "_pat_" in value or "_ci_" in value


def text(value: str) -> str:
    """The same text without anything that has a token's shape."""
    return _TOKEN_SHAPE.sub(TAKEN_OUT, value) if suspicious(value) else value


def query(raw: str) -> str:
    """A raw query (without `?`) whose secret parameters have lost their values; all else is as received.

    Of `X-Amz-Credential` the scope stays (date, region, service) and the key id goes: who asked is in `actor`.
    """
    if not raw:
        return raw
    if "=" in raw:
        raw = "&".join([_parameter(part) for part in raw.split("&")])
    return text(raw)


def _parameter(part: str) -> str:
    if ";" in part:  # some servers separate parameters by it
        return ";".join([_parameter(piece) for piece in part.split(";")])
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
