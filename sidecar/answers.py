"""The laws on a store's answers (law 12). They are as hostile as requests: whoever may write may have written a page.

- Nothing in an answer acts on our origin: no cookies, no origin-wide policies, no cross-origin grants, and a browser that
  opens it runs nothing (`nosniff` and a sandboxing CSP of ours instead of the store's).
- Nothing in it acts on a proxy: no hop-by-hop header, no `X-Accel-Redirect` for an nginx in front, no word to CDNs.
- No shared cache keeps what only some may read: `Cache-Control` becomes `private` (CVE-2025-36852 is what a shared cache
  without identity comes to).
- A redirect that leaves the route isn't passed on; one that stays is mapped to the path that the client knows.
- A 401 or 407 of the store speaks of *our* credential, not the client's: `STORE_REFUSED_US` statuses are a 502.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from sidecar import mapping
from sidecar.errors import Refused
from sidecar.headers import fold
from sidecar.model import Oddity
from sidecar.policy.compiled import Route
from sidecar.ports import HeaderList
from sidecar.provenance import PREFIX
from sidecar.reasons import Reason

STORE_REFUSED_US = frozenset({401, 407})

DROP = frozenset({
    # RFC 9110 §7.6.1 and older; the framing towards the client is ours
    "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
    # the store's own access control
    "www-authenticate", "proxy-authenticate", "authentication-info", "proxy-authentication-info",
    # acts on the whole origin, in the client's browser
    "set-cookie", "set-cookie2", "clear-site-data", "alt-svc", "strict-transport-security", "public-key-pins",
    "public-key-pins-report-only", "service-worker-allowed", "report-to", "reporting-endpoints", "nel", "accept-ch",
    "expect-ct", "refresh", "origin-agent-cluster", "permissions-policy", "feature-policy", "document-policy",
    # said by us instead
    "content-security-policy", "content-security-policy-report-only", "x-content-type-options", "sidecar-reason", "sidecar-token-expires",
    # acts on a proxy in front of us
    "x-sendfile", "x-lighttpd-send-file", "surrogate-control", "surrogate-key", "cdn-cache-control",
})  # fmt: skip
DROP_PREFIXES = ("access-control-", "x-accel-", "cross-origin-", f"x-amz-meta-{PREFIX.decode()}")
"""The last is who wrote an object, where a bucket keeps it: that is told to nobody who reads it."""
DROP_SUFFIXES = ("-cdn-cache-control",)

MAX_HEAD = 64 * 1024
"""Bytes of all values together."""

OURS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
)
EXPIRY_HEADER = b"sidecar-token-expires"
"""When the caller's token ends, where that is soon: an RFC 3339 time in UTC."""
_PRIVATE = (b"cache-control", b"private")
_PRIVATE_AND_OURS = b"".join(b"%b: %b\r\n" % pair for pair in (_PRIVATE, *OURS))
REPEATED = frozenset({"server", "date", "content-type", "accept-ranges", "vary", "content-encoding"})
"""What a store says alike of many objects; the rest (`ETag`, `Last-Modified`, ...) would only crowd them out."""
_known_lines: dict[tuple[bytes, bytes], bytes] = {}
_MAX_KNOWN_LINES, MAX_QUICK = 1024, 8 * 1024
_PLAIN_CONNECTION = (b"keep-alive", b"close")
"""What most stores say there; it names no header."""

_KEEP, _REPEATED, _DROP, _CONNECTION, _CACHE_CONTROL = range(5)
"""`_REPEATED` is kept, too."""
_MAX_REMEMBERED_LENGTH = 64
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])

# What may stay beside `private`; whatever else is said there could widen it (`public`, `s-maxage`, `private="a field"`).
_NARROWING = re.compile(
    r"(?<![A-Za-z0-9-])(?:no-store|no-cache|no-transform|must-revalidate|immutable|max-age=[0-9]{1,10})(?![A-Za-z0-9-])",
    re.IGNORECASE,
)


class AnswerRules(Struct, frozen=True):
    """What an answer has to be held against."""

    route: Route
    origins: tuple[str, ...]
    """The store's own, as `http://127.0.0.1:3000`, in lower case."""
    public: bool
    """Anonymous may read here."""
    pass_redirects: bool
    """The upstream's configuration says that redirects out of the route reach the client."""
    allowed: Oddity = Oddity.NONE
    """The profile's oddities."""
    expiry_notice: bytes = b""
    """`Principal.expiry_notice`: where there is one, the answer tells it, and is the caller's alone."""


def passed_on(rules: AnswerRules, status: int, raw_headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The head of a store's answer -> the header lines that the client gets.

    Raises `Refused`: `UPSTREAM_CREDENTIALS`, `UPSTREAM_REDIRECT`, or `UPSTREAM_BROKEN`.
    """
    if status in STORE_REFUSED_US:
        raise Refused(Reason.UPSTREAM_CREDENTIALS, f"the store answered {status}")
    kept = filter_headers(raw_headers, public=rules.public)
    if rules.expiry_notice:
        kept.append((EXPIRY_HEADER, rules.expiry_notice))
    if status == 201 or 300 <= status < 400:
        return [pair for name, value in kept if (pair := _located(rules, status, name, value)) is not None]
    return kept


def lines(rules: AnswerRules, status: int, raw_headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """`passed_on` as it is written, each line with its end. Stores say the same again and again, so most lines are known."""
    if rules.public or rules.expiry_notice or status in STORE_REFUSED_US or status == 201 or 300 <= status < 400:
        return written(passed_on(rules, status, raw_headers))
    kept: list[bytes] = []
    values: list[bytes] = []
    for pair in raw_headers:
        line = _known_lines.get(pair)
        if line is not None:
            kept.append(line)
            continue
        name, value = pair
        fate = _fate(name) if len(name) <= _MAX_REMEMBERED_LENGTH else _judge(name)
        values.append(value)
        if fate == _KEEP:
            kept += (name, b": ", value, b"\r\n")
        elif fate != _DROP:
            if fate == _CACHE_CONTROL or (fate == _CONNECTION and value.lower() not in _PLAIN_CONNECTION):
                return written(passed_on(rules, status, raw_headers))
            kept.append(_remembered(pair, b"" if fate == _CONNECTION else b"%b: %b\r\n" % pair))
    said = b"".join(values)
    if len(said) > MAX_QUICK or said.translate(None, _FIELD_VALUE):
        return written(passed_on(rules, status, raw_headers))
    kept.append(_PRIVATE_AND_OURS)
    return b"".join(kept)


def _remembered(pair: tuple[bytes, bytes], line: bytes) -> bytes:
    if len(pair[1]) <= _MAX_REMEMBERED_LENGTH and not pair[1].translate(None, _FIELD_VALUE):
        if len(_known_lines) >= _MAX_KNOWN_LINES:  # values invented by a store must neither grow it nor keep it full
            _known_lines.clear()
        _known_lines[pair] = line
    return line


def written(headers: HeaderList) -> bytes:
    """Header lines, each with its end."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def _located(rules: AnswerRules, status: int, name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """A `Location` is mapped. One that leaves the route is refused in a redirect, and taken out of a 201, where it informs."""
    if fold(name.decode("ascii")) != "location":
        return name, value
    location = value.decode("latin-1")
    mapped = mapping.to_client(rules.route, location, origins=rules.origins, allowed=rules.allowed)
    if mapped is not None:
        return name, mapped.encode("ascii")
    if status == 201:
        return None
    if rules.pass_redirects:
        return name, value
    raise Refused(Reason.UPSTREAM_REDIRECT, "a redirect that leaves the route")


def filter_headers(raw_headers: Sequence[tuple[bytes, bytes]], *, public: bool) -> list[tuple[bytes, bytes]]:
    """The store's header lines -> what the client gets; `Content-Length` is left to whoever writes the answer.

    `public`: anonymous may read this key, so shared caches may keep what the store lets them keep. Redirects are
    `mapping`'s. Raises `Refused(UPSTREAM_BROKEN)` for a name or value that is no header.
    """
    values = b"".join([value for _, value in raw_headers])
    if len(values) > MAX_HEAD:
        raise Refused(Reason.UPSTREAM_BROKEN, "the store's headers are too large")
    if values.translate(None, _FIELD_VALUE):
        raise Refused(Reason.UPSTREAM_BROKEN, "a control byte in the store's headers")
    kept: list[tuple[bytes, bytes]] = []
    nominated: set[str] = set()
    cache_control: list[bytes] = []
    for pair in raw_headers:
        fate = _fate(pair[0]) if len(pair[0]) <= _MAX_REMEMBERED_LENGTH else _judge(pair[0])
        if fate <= _REPEATED or (public and fate == _CACHE_CONTROL):
            kept.append(pair)
        elif fate == _CACHE_CONTROL:
            cache_control.append(pair[1])
        elif fate == _CONNECTION and pair[1].lower() not in _PLAIN_CONNECTION:
            nominated.update(fold(option.strip()) for option in pair[1].decode("latin-1").split(","))
    if nominated:
        kept = [pair for pair in kept if fold(pair[0].decode("ascii")) not in nominated]
    if not public:
        kept.append((b"cache-control", private(b", ".join(cache_control))) if cache_control else _PRIVATE)
    kept.extend(OURS)
    return kept


def private(cache_control: bytes) -> bytes:
    """`Cache-Control` of what not everybody may read: `private` and those of its words that narrow further."""
    words = [word.lower() for word in _NARROWING.findall(cache_control.decode("latin-1"))]
    return ", ".join(dict.fromkeys(["private", *words])).encode()


def _judge(name: bytes) -> int:
    text = name.decode("latin-1")
    if _TOKEN.fullmatch(text) is None:
        raise Refused(Reason.UPSTREAM_BROKEN, "a name in the store's headers that is not a token")
    folded = fold(text)
    if folded == "connection":
        return _CONNECTION
    if folded == "cache-control":
        return _CACHE_CONTROL
    if folded in DROP or folded.startswith(DROP_PREFIXES) or folded.endswith(DROP_SUFFIXES):
        return _DROP
    return _REPEATED if folded in REPEATED else _KEEP


_fate = lru_cache(maxsize=1024)(_judge)
