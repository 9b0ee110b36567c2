"""What a client signed, read strictly and checked (Signature Version 4, in the header or in the URL).

Two steps, since the key hangs on the access key id: `read()` says who signed what and when, and refuses what no key could
make right; `matches()` compares. The law: a decision may rest on nothing that the signature leaves out. So `host` and every
`x-amz-*` header that is present must be signed, none of them twice, and the path is the raw one, as received.

A signature is valid for 15 minutes and can be replayed within them: a verdict on it is never cached.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from sidecar import sigv4
from sidecar.errors import Refused
from sidecar.model import Head
from sidecar.reasons import Reason
from sidecar.sigv4 import ALGORITHM, LONGEST_EXPIRY, UNSIGNED_PAYLOAD, Mac, Scope

SKEW = 900
"""Seconds between the signer's clock and ours; AWS's own bound."""
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
PAYLOAD_WORDS = frozenset({UNSIGNED_PAYLOAD, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER})
"""What may stand in place of the body's hash. The `STREAMING-AWS4-ECDSA-*` words are SigV4A's, which is refused."""

QUERY_NAMES = frozenset({
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
    "X-Amz-Content-Sha256",
})  # fmt: skip
"""The parameters of a signed URL: they end here and are never sent on. Their case counts, as it does for AWS."""

_MOST_SIGNED_HEADERS = 100
_CREDENTIAL = re.compile(
    r"(?P<id>[A-Za-z0-9._@+=-]{1,128})/(?P<day>[0-9]{8})/(?P<region>[a-z0-9-]{1,64})/(?P<service>[a-z0-9-]{1,32})/aws4_request"
)
_NAMES = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_EXPIRES = re.compile(r"[0-9]{1,7}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PARTS = ("Credential", "SignedHeaders", "Signature")
_V2_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature"})
SIGNING_PARAMETERS = QUERY_NAMES | _V2_PARAMETERS | {"X-Amz-Security-Token"}
"""Any of these makes a query a signed one, or one that claims to be."""


class Presented(Struct, frozen=True):
    """A signature as a client presented it; nothing is proven until `matches()` says so."""

    access_key_id: str
    scope: Scope
    date: str
    """When it was signed, as `20261122T084500Z`: chunks are signed with it too."""
    payload: str
    """The body's SHA-256 in hex, or one of `PAYLOAD_WORDS`."""
    signature: str
    """In hex; the seed of the chunks' signatures."""
    texts: tuple[str, ...]
    """The string to sign; a second one where AWS would encode more of the path than the client has."""
    in_url: bool
    expires_at: float
    """Unix seconds: the end of what was signed, for a URL the end that it names."""

    def __repr__(self) -> str:
        return f"Presented({self.access_key_id})"  # a signature is as good as its secret until it expires


def read(head: Head, parameters: Mapping[str, str], now: float, *, region: str | None = None) -> Presented | None:
    """What `head` presents as its signature; `None` if it presents none. `parameters` are the query's, decoded, each once.

    `region` is the only one that counts, if given. Raises `Refused`: `TWO_CREDENTIALS` (header and URL both),
    `MISPLACED_TOKEN` (a session token in a URL), `SIGNATURE_V2`, `MALFORMED_SIGNATURE`, `UNSIGNED_HEADER`, `CLOCK_SKEW`,
    `URL_EXPIRED`.
    """
    authorization = head.headers.values.get("authorization", "")
    in_header = authorization.startswith("AWS")
    in_url = not SIGNING_PARAMETERS.isdisjoint(parameters)
    if not in_header and not in_url:
        return None
    if in_url and authorization:
        raise Refused(Reason.TWO_CREDENTIALS, "a signature in the URL beside Authorization")
    if "X-Amz-Security-Token" in parameters:
        raise Refused(Reason.MISPLACED_TOKEN, "a session token in a URL")
    if authorization.startswith("AWS ") or not _V2_PARAMETERS.isdisjoint(parameters):
        raise Refused(Reason.SIGNATURE_V2)
    presented = _in_header(head, authorization, now) if in_header else _in_url(head, parameters, now)
    if presented.scope.service != "s3" or (region is not None and presented.scope.region != region):
        raise Refused(Reason.MALFORMED_SIGNATURE, "signed for another service or region")
    return presented


def matches(presented: Presented, key: bytes | Mac) -> bool:
    """Whether `key` (`sigv4.signing_key`, for the presented scope) made the signature."""
    mac = key if isinstance(key, Mac) else Mac(key)
    return any(hmac.compare_digest(mac.sign(text), presented.signature) for text in presented.texts)


def _in_header(head: Head, authorization: str, now: float) -> Presented:
    found = parts(authorization)
    values = head.headers.values
    date = values.get("x-amz-date", "")
    signed_at = unix(date)
    if abs(now - signed_at) > SKEW:
        raise Refused(Reason.CLOCK_SKEW)
    payload = values.get("x-amz-content-sha256", "")
    query = sigv4.canonical_query(head.target.raw_query)
    return _presented(head, found, date, payload, query, in_url=False, expires_at=signed_at + SKEW)


def _in_url(head: Head, parameters: Mapping[str, str], now: float) -> Presented:
    if parameters.get("X-Amz-Algorithm") != ALGORITHM:
        raise Refused(Reason.MALFORMED_SIGNATURE, "another algorithm")
    parts = {name: parameters.get(f"X-Amz-{name}", "") for name in _PARTS}
    date, expires = parameters.get("X-Amz-Date", ""), parameters.get("X-Amz-Expires", "")
    signed_at = unix(date)
    if _EXPIRES.fullmatch(expires) is None or not 1 <= int(expires) <= LONGEST_EXPIRY:
        raise Refused(Reason.MALFORMED_SIGNATURE, "a URL is signed for 1 to 604800 seconds")
    if not signed_at - SKEW <= now <= signed_at + int(expires):
        raise Refused(Reason.URL_EXPIRED)
    in_header = head.headers.values.get("x-amz-content-sha256")
    payload = parameters.get("X-Amz-Content-Sha256", in_header or UNSIGNED_PAYLOAD)
    if in_header not in (None, payload):
        raise Refused(Reason.MALFORMED_SIGNATURE, "two hashes of the body")
    query = "&".join(
        part
        for part in sigv4.canonical_query(head.target.raw_query).split("&")
        if not part.startswith("X-Amz-Signature=")
    )
    return _presented(head, parts, date, payload, query, in_url=True, expires_at=signed_at + int(expires))


def _presented(
    head: Head, parts: Mapping[str, str], date: str, payload: str, query: str, *, in_url: bool, expires_at: float
) -> Presented:
    credential = _credential(parts["Credential"])
    if credential is None or _SIGNATURE.fullmatch(parts["Signature"]) is None:
        raise Refused(Reason.MALFORMED_SIGNATURE, "a credential or signature that is none")
    access_key_id, scope = credential
    if scope.day != date[:8]:
        raise Refused(Reason.MALFORMED_SIGNATURE, "the credential is of another day than the date")
    if payload not in PAYLOAD_WORDS and _HASH.fullmatch(payload) is None:
        raise Refused(Reason.MALFORMED_SIGNATURE, "x-amz-content-sha256 is missing or unknown")
    names = parts["SignedHeaders"]
    lines = _lines(names, head.headers.values)
    raw = head.target.raw_path
    paths = dict.fromkeys((raw, sigv4.s3_path(raw)))
    texts = tuple(
        sigv4.string_to_sign(sigv4.canonical_request(head.method, path, query, names, lines, payload), date, scope)
        for path in paths
    )
    return Presented(access_key_id, scope, date, payload, parts["Signature"], texts, in_url, expires_at)


@lru_cache(maxsize=1024)  # a client says the same all day
def _credential(text: str) -> tuple[str, Scope] | None:
    """Whose key, and for what; `None` for what is no credential."""
    found = _CREDENTIAL.fullmatch(text)
    return None if found is None else (found["id"], Scope(found["day"], found["region"], found["service"]))


def parts(authorization: str) -> dict[str, str]:
    """The three parts of the header, each exactly once: `Credential`, `SignedHeaders`, `Signature`. Raises `Refused`."""
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise Refused(Reason.MALFORMED_SIGNATURE, "another algorithm")
    found: dict[str, str] = {}
    for each in rest.split(","):
        name, _, value = each.strip(" ").partition("=")
        if name not in _PARTS or name in found:
            raise Refused(Reason.MALFORMED_SIGNATURE, "a part of Authorization that is unknown or repeated")
        found[name] = value
    if len(found) != len(_PARTS):
        raise Refused(Reason.MALFORMED_SIGNATURE, "a part of Authorization is missing")
    return found


def _lines(names: str, values: Mapping[str, str]) -> str:
    """The canonical lines of the signed headers. `values` holds no header that was repeated, so none is signed twice."""
    listed = _listed(names)
    if listed is None:
        raise Refused(Reason.MALFORMED_SIGNATURE, "SignedHeaders is not a sorted list of names")
    for name in values:
        if name.startswith("x-amz-") and name not in listed:
            raise Refused(Reason.UNSIGNED_HEADER, f"{name[:64]} is not signed")
    if "host" not in listed:
        raise Refused(Reason.UNSIGNED_HEADER, "host is not signed")
    try:
        return "".join([f"{name}:{sigv4.canonical_value(values[name])}\n" for name in listed])
    except KeyError as missing:
        raise Refused(Reason.MALFORMED_SIGNATURE, f"{missing} is signed, but not there exactly once"[:100]) from None


@lru_cache(maxsize=256)  # a client says the same for all of its requests
def _listed(names: str) -> dict[str, None] | None:
    """The names in order; `None` unless they are a sorted list in which each stands once."""
    listed = dict.fromkeys(names.split(";"))
    well_formed = _NAMES.fullmatch(names) is not None and len(listed) <= _MOST_SIGNED_HEADERS
    return listed if well_formed and ";".join(sorted(listed)) == names else None


@lru_cache(maxsize=2 * SKEW)  # as many seconds as may be signed for at a time
def unix(date: str) -> float:
    """`20261122T084500Z` -> Unix seconds. Raises `Refused(MALFORMED_SIGNATURE)`."""
    if _DATE.fullmatch(date) is None:
        raise Refused(Reason.MALFORMED_SIGNATURE, "x-amz-date is missing or in another form")
    try:
        return datetime(
            int(date[:4]),
            int(date[4:6]),
            int(date[6:8]),
            int(date[9:11]),
            int(date[11:13]),
            int(date[13:15]),
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        raise Refused(Reason.MALFORMED_SIGNATURE, "x-amz-date is no date") from None
