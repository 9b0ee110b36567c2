"""A compact JWS, read strictly: one spelling per token (RFC 7515, RFC 8725). The only place that reads one.

Law: what could be read in two ways is refused. No padding, no unused bits, no duplicate member, no number that isn't
one, no encoding but UTF-8; nothing in the header chooses how the header is judged. Everything here raises `Malformed`
with a text that holds nothing of the token.
"""

import binascii
import json
import math
import re
from typing import Any, Never

from msgspec import Struct

MAX_DEPTH = 16
MAX_DIGITS = 20
MAX_KID = 256

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)")
_STANDARD_ALPHABET = bytes.maketrans(b"-_+/=", b"+/!!!")
"""base64url to base64, and what is base64 alone to something that neither has."""
_LAST_CHARACTERS = {
    0: frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    2: frozenset(b"AQgw"),
    3: frozenset(b"AEIMQUYcgkosw048"),
}
"""By the text's length modulo 4: what may stand last so that no unused bit is set (RFC 4648 §3.5)."""

_REFUSED_MEMBERS = ("crit", "b64", "zip", "enc", "cty")
"""Extensions that change how the rest is read, encryption, compression and nested tokens: none is supported, and
CVE-2026-32597 is what becomes of ignoring `crit`. `jwk`, `jku`, `x5u`, `x5c` name keys and are never looked at."""


class Malformed(ValueError):
    """The text is not a token that can be read in one way only."""


class Jws(Struct, frozen=True):
    header: dict[str, Any]
    algorithm: str
    """`alg` as the token states it: compared with what its issuer and key allow, never obeyed."""
    kid: str | None
    payload: bytes
    signing_input: bytes
    signature: bytes


def parse(token: str) -> Jws:
    """Splits and decodes a token whose length the caller has bounded. Nothing is verified. Raises `Malformed`."""
    try:
        text = token.encode("ascii")
    except UnicodeEncodeError:
        raise Malformed("characters outside of ASCII") from None
    parts = _COMPACT.fullmatch(text)
    if parts is None:
        raise Malformed("not three parts of unpadded base64url")
    head, body, signature = parts.groups()
    header = strict_json(decode(head))
    if not isinstance(header, dict):
        raise Malformed("header is not an object")
    for member in _REFUSED_MEMBERS:
        if member in header:
            raise Malformed(f"header with {member}")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise Malformed("header without alg")
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID and kid.isprintable()):
        raise Malformed("kid is not a short text")
    return Jws(header, algorithm, kid, decode(body), text[: parts.end(2)], decode(signature))


def decode(text: bytes) -> bytes:
    """Unpadded base64url in its one canonical spelling. Raises `Malformed`."""
    if not text:
        return b""
    if text[-1] not in _LAST_CHARACTERS.get(len(text) % 4, ()):
        raise Malformed("base64url that is not canonical")
    try:
        padding = b"=" * (-len(text) % 4)
        return binascii.a2b_base64(text.translate(_STANDARD_ALPHABET) + padding, strict_mode=True)
    except binascii.Error:
        raise Malformed("base64url that is not canonical") from None


def strict_json(data: bytes) -> Any:
    """JSON that every reader reads alike. Raises `Malformed`."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except Malformed:
        raise
    except (ValueError, RecursionError):
        raise Malformed("not JSON in UTF-8") from None
    _check(value, MAX_DEPTH)
    return value


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        if not depth:
            raise Malformed("JSON nested too deeply")
        for name, member in value.items():
            _check_text(name)
            _check(member, depth - 1)
    elif isinstance(value, list):
        if not depth:
            raise Malformed("JSON nested too deeply")
        for member in value:
            _check(member, depth - 1)


def _check_text(text: str) -> None:
    # JSON's \ud800 escapes make text that no encoder can write: a log or a database would fail on it later.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Malformed("JSON with a lone surrogate") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("JSON with a duplicate member")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Malformed("JSON number out of range")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed("JSON number out of range")
    return number


def _constant(_: str) -> Never:
    raise Malformed("JSON with NaN or Infinity")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
