"""The laws on request headers (law 2). What no decision may misread is refused; what no store should see is not forwarded.

Names are compared *folded*: lower case, everything but letters and digits as `-`. CGI, WSGI and PHP fold alike, so that
`X_Forwarded.User` is `X-Forwarded-User` to the store behind; oauth2-proxy and Traefik had that hole more than once.
A name that folds to one of the tables below and is spelled otherwise is never forwarded and never read.

- **ONCE** decides something here or at the store: a second one, or a byte outside printable ASCII, is a 400.
- **LOCAL** is ONCE and for us alone: credentials, `Host` and the framing, which is ours to say towards the store.
- **DROP** ends here unread: hop-by-hop headers, cookies, overrides of method, target or sender, identities that only a
  proxy may claim. They are not in `Headers.values` either, so no decision can read them.
- Everything else passes as it came; where it is repeated it is not in `values`.

S3 clients name what they keep with an object: behind `x-amz-meta-` stands their own word, with `_` and `.` as they like, which
decides nothing and is no other header in disguise. Such a header, and one that S3 defines as a list, may come in several lines;
they are one, joined by commas, here as in AWS's signature (RFC 9110 §5.3).
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from sidecar.errors import Refused
from sidecar.model import Headers
from sidecar.reasons import Reason

_PASS, _ONCE, _LOCAL, _DROP, _ALIAS, _CONNECTION, _UPGRADE = range(7)
_Entry = tuple[int, str]
"""What to do with a header, and its name: in lower case, or folded for an alias."""
_DECIDING = frozenset({_ONCE, _LOCAL, _ALIAS, _CONNECTION})

ONCE = frozenset({
    "content-type", "content-encoding", "content-range", "content-md5", "range", "date", "origin", "sec-fetch-site",
    "if", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    "destination", "depth", "overwrite", "lock-token", "translate",
    "x-scope-orgid", "x-tenant", "x-tenant-id", "x-team-id", "x-workspace", "x-workspace-id",
    "x-copy-from", "x-copy-from-account", "x-object-manifest", "x-symlink-target", "x-symlink-target-account",
})  # fmt: skip
OWN_NAMES = "x-amz-meta-"
LISTS = frozenset({"x-amz-object-attributes", "x-amz-optional-object-attributes"})
ONCE_PREFIXES = ("x-amz-", "x-goog-", "x-ms-", "x-oss-", "x-cos-", "x-obs-", "x-checksum-", "x-explode-archive")

LOCAL = frozenset({
    "host", "content-length", "transfer-encoding", "expect",
    "authorization", "proxy-authorization", "bearer", "x-amz-security-token",
    "x-api-key", "api-key", "apikey", "x-apikey", "x-nuget-apikey", "x-jfrog-art-api", "x-access-token",
    "x-checksum-deploy",  # stores by digest instead of by body: never forwarded, refused where it is not "false"
    "private-token", "job-token", "deploy-token", "x-vault-token", "x-gitlab-token",
})  # fmt: skip

DROP = frozenset({
    # hop-by-hop, RFC 9110 §7.6.1 and older
    "keep-alive", "te", "trailer", "trailers", "http2-settings",
    # cookies are credentials of somebody's browser
    "cookie", "cookie2",
    # another method, target or sender than the one decided on
    "x-method-override", "-method", "request-uri", "base-url", "http-url", "proxy", "forwarded", "x-host", "client-ip",
    "true-client-ip", "fastly-client-ip", "x-cluster-client-ip", "x-originating-ip", "x-proxyuser-ip", "x-azure-clientip",
    "x-url-scheme", "front-end-https", "x-artifactory-override-base-url", "x-jfrog-override-base-url",
    # identities
    "user", "x-user", "x-username", "x-user-id", "x-user-email", "x-email", "x-groups", "x-roles",
    # towards a web server these are answers, towards a naive store they are orders
    "x-sendfile", "x-lighttpd-send-file",
})  # fmt: skip
DROP_PREFIXES = (
    "proxy-", "x-forwarded", "forwarded-", "x-original-", "x-rewrite-", "x-http-", "x-real-", "x-client-", "x-proxy-",
    "cf-connecting-", "cf-access-", "x-envoy-", "x-accel-", "x-sendfile-", "x-middleware-",
    "x-auth-", "x-authenticated-", "x-authentik-", "x-pomerium-", "x-vouch-", "x-webauth-", "x-remote-", "remote-",
    "x-consumer-", "x-ssl-", "ssl-client-", "x-amzn-oidc-", "x-goog-iap-", "x-goog-authenticated-", "x-ms-client-principal",
)  # fmt: skip

_PLAIN_CONNECTION = ("close", "keep-alive")
"""What most clients say there; it names no header that is forwarded."""

_MAX_REMEMBERED = 1024
_MAX_REMEMBERED_LENGTH = 64
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTABLE = bytes(range(0x20, 0x7F))
_ODD = re.compile(r"[^ -~]")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CONTENT_LENGTH = re.compile(r"[0-9]{1,18}")


def fold(name: str) -> str:
    """The name as the most careless store compares it."""
    return re.sub(r"[^0-9a-z]", "-", name.lower())


def read(
    raw_headers: Sequence[tuple[bytes, bytes]], *, secret_names: frozenset[bytes], set_names: frozenset[str]
) -> Headers:
    """Header lines as received -> what may be read and what may be forwarded.

    `secret_names` are the configured token headers in lower case: read, never forwarded. `set_names` are the folded names
    that the sidecar sets towards the upstream: dropped. Raises `Refused(BAD_HEADER)` or `Refused(UPGRADE_REFUSED)`.
    """
    remembered = _remembered(secret_names, set_names)
    # Deleting what is fine from all values at once is several times cheaper than looking at each for what isn't.
    odd = b"".join([value for _, value in raw_headers]).translate(None, _PRINTABLE)
    values: dict[str, str] = {}
    forward: list[tuple[bytes, bytes]] = []
    repeated: list[str] = []
    aliases: list[str] = []
    connection: list[str] = []
    for pair in raw_headers:
        kind, name = remembered.get(pair[0]) or _learn(remembered, pair[0], secret_names, set_names)
        text = pair[1].decode("latin-1")
        if odd:
            _check_odd_value(kind, text)
        if kind <= _LOCAL:
            if name not in values:
                values[name] = text
            elif kind == _PASS:
                repeated.append(name)
            elif name in LISTS or name.startswith(OWN_NAMES):
                values[name] = joined = f"{values[name].strip(' ')},{text.strip(' ')}"
                forward = [other for other in forward if other[0].lower() != name.encode()]
                pair = pair[0], joined.encode("latin-1")
            else:
                raise Refused(Reason.BAD_HEADER, f"more than one {name[:64]}")
            if kind != _LOCAL:
                forward.append(pair)
        elif kind == _CONNECTION:
            connection.append(text)
        elif kind == _ALIAS:
            aliases.append(name)
        elif kind == _UPGRADE:
            raise Refused(Reason.UPGRADE_REFUSED)
    if aliases and (len(set(aliases)) < len(aliases) or not values.keys().isdisjoint(aliases)):
        raise Refused(Reason.BAD_HEADER, "one header in two spellings")
    for name in repeated:
        values.pop(name, None)
    _check_framing(values)
    if connection:
        forward = _without_nominated(",".join(connection), forward, secret_names)
    return Headers(values, tuple(forward))


def _check_framing(values: dict[str, str]) -> None:
    if _HOST.fullmatch(values.get("host", "")) is None:
        raise Refused(Reason.BAD_HEADER, "no host, or not the name of one")
    length = values.get("content-length")
    if length is not None and _CONTENT_LENGTH.fullmatch(length) is None:
        raise Refused(Reason.BAD_HEADER, "content-length is not a number")
    encoding = values.get("transfer-encoding")
    if encoding is not None and (encoding.lower() != "chunked" or length is not None):
        raise Refused(Reason.BAD_HEADER, "transfer-encoding beside content-length, or other than chunked")
    expect = values.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise Refused(Reason.BAD_HEADER, "expect is not 100-continue")


def _without_nominated(
    connection: str, forward: list[tuple[bytes, bytes]], secret_names: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    """RFC 9110 §7.6.1: what `Connection` names ends here. It could name what the decision relied on: that is refused."""
    nominated = set()
    for part in connection.split(","):
        option = part.strip(" \t").lower()
        if not option or option in _PLAIN_CONNECTION:
            continue
        folded = fold(option)
        if _TOKEN.fullmatch(option) is None or _kind(folded, secret_names, frozenset()) in _DECIDING:
            raise Refused(Reason.BAD_HEADER, "connection names a header that decides, or no header at all")
        nominated.add(folded)
    if not nominated:
        return forward
    return [pair for pair in forward if fold(pair[0].decode("ascii")) not in nominated]


def _check_odd_value(kind: int, text: str) -> None:
    """RFC 9110 §5.5 lets tabs and obs-text pass; here not in what decides. Other control bytes pass nowhere."""
    if (_ODD if kind in _DECIDING else _CONTROL).search(text) is not None:
        raise Refused(Reason.BAD_HEADER, "a control byte, or one beyond ASCII in a header that decides")


@lru_cache(maxsize=8)
def _remembered(secret_names: frozenset[bytes], set_names: frozenset[str]) -> dict[bytes, _Entry]:
    """One memory of names for each configuration; there is one, and a few in tests."""
    return {}


def _learn(
    remembered: dict[bytes, _Entry], name: bytes, secret_names: frozenset[bytes], set_names: frozenset[str]
) -> _Entry:
    text = name.decode("latin-1")
    if _TOKEN.fullmatch(text) is None:
        raise Refused(Reason.BAD_HEADER, "a header's name that is not a token")
    entry = _classify(text.lower(), secret_names, set_names)
    if len(name) <= _MAX_REMEMBERED_LENGTH:
        if len(remembered) >= _MAX_REMEMBERED:  # names invented by a client must neither grow it nor keep it full
            remembered.clear()
        remembered[name] = entry
    return entry


def _classify(lower: str, secret_names: frozenset[bytes], set_names: frozenset[str]) -> _Entry:
    folded = fold(lower)
    kind = _kind(folded, secret_names, set_names)
    own = kind == _ONCE and lower.startswith(OWN_NAMES)
    if kind in _DECIDING and lower != folded and not own and lower.encode() not in secret_names:
        return _ALIAS, folded
    return kind, lower


def _kind(folded: str, secret_names: frozenset[bytes], set_names: frozenset[str]) -> int:
    if folded == "connection":
        return _CONNECTION
    if folded == "upgrade":
        return _UPGRADE
    if folded in LOCAL or any(fold(name.decode("latin-1")) == folded for name in secret_names):
        return _LOCAL
    if folded in set_names or folded in DROP or folded.startswith(DROP_PREFIXES):
        return _DROP
    if folded in ONCE or folded.startswith(ONCE_PREFIXES):
        return _ONCE
    return _PASS
