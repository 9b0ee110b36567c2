"""AWS Signature Version 4: canonical form, keys, and signing. Verifying what a client signed is `sigv4_verify`'s.

Two canonical forms of a path exist. S3 takes the path as it stands on the wire: encoded once, neither `//` nor dots
resolved (so `a//b` and `../x` are keys like any other). Every other service resolves and encodes it once more.

Signing keys are derived from a secret for one day, region and service; what holds them can sign for that day alone.
Source: "Signature Version 4 signing process", AWS IAM User Guide, and the S3 API Reference's "Authenticating Requests".
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import quote, quote_from_bytes

from msgspec import Struct

from sidecar.model import Secret
from sidecar.ports import HeaderList

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
LONGEST_EXPIRY = 604_800
"""Seconds that a signed URL may live at most: 7 days, by the S3 API Reference."""
_NO_HASH = frozenset({UNSIGNED_PAYLOAD, EMPTY_SHA256})
_MOST_READY = 64

_KEPT = "-._~"
"""RFC 3986's unreserved characters beside letters and digits; all else is encoded, in upper-case hex."""
_PLAIN_QUERY = re.compile(r"[A-Za-z0-9._~%-]+=[A-Za-z0-9._~%-]*(?:&[A-Za-z0-9._~%-]+=[A-Za-z0-9._~%-]*)+")
_PLAIN_PARAMETER = re.compile(r"[A-Za-z0-9._~%-]+=[A-Za-z0-9._~%-]*")
_RESERVED_QUERY = re.compile(r"[^A-Za-z0-9._~%-]")
_RESERVED_PATH = re.compile(r"[^A-Za-z0-9/._~%-]")
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._~-]*")
"""A path whose canonical spelling is its own."""
_SPACES = re.compile(" {2,}")


class Scope(Struct, frozen=True):
    """What a signature is good for. `str()` of it stands in credentials and strings to sign."""

    day: str
    """UTC, as `20261122`."""
    region: str
    service: str = "s3"

    def __str__(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


def day_key(secret: str, day: str) -> bytes:
    """The secret key's text -> what signs everything on one day (32 bytes). Whoever holds it can't sign for another day."""
    return hmac.digest(b"AWS4" + secret.encode(), day.encode(), "sha256")


def signing_key(key_of_day: bytes, region: str, service: str = "s3") -> bytes:
    """`day_key()` -> the key for one region and service (32 bytes)."""
    key = hmac.digest(key_of_day, region.encode(), "sha256")
    key = hmac.digest(key, service.encode(), "sha256")
    return hmac.digest(key, b"aws4_request", "sha256")


def timestamp(now: int) -> str:
    """Unix seconds -> `20261122T084500Z`."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


def encode(text: str) -> str:
    """A query's name or value, percent-encoded as the canonical form asks."""
    return quote(text, safe=_KEPT)


def encode_path(key: str) -> str:
    """A decoded path or S3 key -> its one canonical spelling; slashes stay."""
    return key if PLAIN_PATH.fullmatch(key) is not None else quote(key, safe="/" + _KEPT)


def s3_path(raw_path: str) -> str:
    """The canonical path of a request to S3 whose client encoded less than AWS does (`curl` sends `@` and `(` as they are).

    What is already encoded stays as it is spelled, so that two spellings never get the same signature.
    """
    return _RESERVED_PATH.sub(_percent, raw_path)


def canonical_query(raw_query: str) -> str:
    """A query as on the wire -> sorted, with what is reserved and sent plainly encoded, `+` as the space that it means.

    What is already encoded stays as it is spelled. A parameter without `=` gets one.
    """
    if not raw_query or _PLAIN_PARAMETER.fullmatch(raw_query) is not None:
        return raw_query
    pairs = [part.partition("=") for part in raw_query.split("&")]
    if _PLAIN_QUERY.fullmatch(raw_query) is None:
        pairs = [(_encoded(name), "=", _encoded(value)) for name, _, value in pairs]
    # AWS sorts by name, then by value: as one text `a-b=` (0x2D) would stand before `a=` (0x3D).
    pairs.sort()
    return "&".join([f"{name}={value}" for name, _, value in pairs])


def _encoded(text: str) -> str:
    return _RESERVED_QUERY.sub(_percent, text.replace("+", "%20"))


def _percent(match: re.Match[str]) -> str:
    return quote_from_bytes(match.group().encode(), safe="")


def canonical_value(text: str) -> str:
    """A header's value, trimmed, with runs of spaces as one."""
    text = text.strip(" ")
    return _SPACES.sub(" ", text) if "  " in text else text


def canonical_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Lower-case names and values -> the list of signed headers and their canonical lines. A repeated name's values are
    joined by `,` in the order given."""
    joined: dict[str, str] = {}
    for name, value in headers:
        value = canonical_value(value)
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    names = sorted(joined)
    return ";".join(names), "".join([f"{name}:{joined[name]}\n" for name in names])


def canonical_request(method: str, path: str, query: str, names: str, lines: str, payload: str) -> str:
    """`path` and `query` in canonical form; `names` and `lines` from `canonical_headers`; `payload` is the body's SHA-256 in
    hex, or the word that stands for it."""
    return f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"


def string_to_sign(canonical: str, date: str, scope: Scope | str) -> str:
    return f"{ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signature(key: bytes, text: str) -> str:
    """`signing_key()` and a string to sign -> the signature, in hex."""
    return hmac.digest(key, text.encode(), "sha256").hex()


class Mac:
    """`signature()` under one key, whose own part of the HMAC (RFC 2104) is kept: that is half of its cost."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        """`signing_key()`: 32 bytes."""
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, text: str) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.hexdigest()


class _Ready(Struct, frozen=True):
    """What all requests of one second have in common that are sent to one host with the same `x-amz-*` headers."""

    rest: str
    """The canonical request behind its query."""
    lines: bytes
    """The headers that are added, up to the signature itself."""


class Signer:
    """Signs requests with one pair of keys. Keeps the key of the day that it last signed on, and what stays the same for a second."""

    def __init__(
        self,
        access_key_id: str,
        secret: Secret,
        region: str,
        *,
        service: str = "s3",
        session_token: Secret | None = None,
    ) -> None:
        self.access_key_id = access_key_id
        self._secret = secret
        self._region = region
        self._service = service
        self._session_token = None if session_token is None else session_token.reveal()
        self._second = -1
        self._day = self._date = self._scope = self._prefix = self._credential = ""
        self._mac = Mac(b"")
        self._ready: dict[tuple[str, str, HeaderList], _Ready] = {}

    def __repr__(self) -> str:
        return f"Signer({self.access_key_id})"

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: HeaderList,
        now: float,
        *,
        host: str,
        payload: str = UNSIGNED_PAYLOAD,
    ) -> list[tuple[bytes, bytes]]:
        """The headers that make the request a signed one, to be sent beside `headers`. The rest as for `lines`."""
        lines = self.lines(method, path, query, headers, now, host=host, payload=payload)
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.splitlines())]

    def lines(
        self, method: str, path: str, query: str, headers: HeaderList, now: float, *, host: str, payload: str
    ) -> bytes:
        """What `sign` says, as header lines, each with its end.

        `path` as it will be sent, in S3's canonical spelling (`encode_path`); `query` as it will be sent. Of `headers`,
        every `x-amz-*` is signed; each must be there once. `now` in Unix seconds, with the upstream's skew in it.
        """
        second = int(now)
        if second != self._second:
            self._begin(second)
        signed = tuple([pair for pair in headers if pair[0][:6].lower() == b"x-amz-"]) if headers else ()
        asked = host, payload, signed
        ready = self._ready.get(asked) or self._prepare(asked)
        canonical = f"{method}\n{path}\n{query and canonical_query(query)}\n{ready.rest}"
        mac = self._mac.sign(f"{self._prefix}{hashlib.sha256(canonical.encode()).hexdigest()}")
        return b"%b%b\r\n" % (ready.lines, mac.encode())

    def _prepare(self, asked: tuple[str, str, HeaderList]) -> _Ready:
        host, payload, headers = asked
        signed = [("host", host), ("x-amz-content-sha256", payload), ("x-amz-date", self._date)]
        signed += [(name.lower().decode(), canonical_value(value.decode("latin-1"))) for name, value in headers]
        lines = f"x-amz-date: {self._date}\r\nx-amz-content-sha256: {payload}\r\n"
        if self._session_token is not None:
            signed.append(("x-amz-security-token", self._session_token))
            lines += f"x-amz-security-token: {self._session_token}\r\n"
        signed.sort()
        names = ";".join([name for name, _ in signed])
        rest = "".join([f"{name}:{value}\n" for name, value in signed]) + f"\n{names}\n{payload}"
        lines += f"authorization: {self._credential}, SignedHeaders={names}, Signature="
        ready = _Ready(rest, lines.encode())
        if payload in _NO_HASH and len(self._ready) < _MOST_READY:  # hashes of bodies don't come again
            self._ready[asked] = ready
        return ready

    def presign(self, method: str, path: str, query: str, now: float, *, host: str, expires: int) -> str:
        """The query of a URL that may do this one request for `expires` seconds (at most `LONGEST_EXPIRY`)."""
        if not 1 <= expires <= LONGEST_EXPIRY:
            raise ValueError(f"a signed URL lives 1 to {LONGEST_EXPIRY} seconds")
        second = int(now)
        if second != self._second:
            self._begin(second)
        parts = [query] if query else []
        parts += [
            f"X-Amz-Algorithm={ALGORITHM}",
            f"X-Amz-Credential={encode(f'{self.access_key_id}/{self._scope}')}",
            f"X-Amz-Date={self._date}",
            f"X-Amz-Expires={expires}",
            "X-Amz-SignedHeaders=host",
        ]
        if self._session_token is not None:
            parts.append(f"X-Amz-Security-Token={encode(self._session_token)}")
        full = canonical_query("&".join(parts))
        canonical = canonical_request(method, path, full, "host", f"host:{host}\n", UNSIGNED_PAYLOAD)
        return f"{full}&X-Amz-Signature={self._mac.sign(string_to_sign(canonical, self._date, self._scope))}"

    def _begin(self, second: int) -> None:
        """What stays the same for a second, and for a day."""
        self._date = timestamp(second)
        self._ready.clear()
        day = self._date[:8]
        if day != self._day:
            self._day = day
            self._scope = str(Scope(day, self._region, self._service))
            key = signing_key(day_key(self._secret.reveal(), day), self._region, self._service)
            self._mac = Mac(key)
            self._credential = f"{ALGORITHM} Credential={self.access_key_id}/{self._scope}"
        self._prefix = f"{ALGORITHM}\n{self._date}\n{self._scope}\n"
        self._second = second
