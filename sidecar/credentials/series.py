"""Requests of one connection that are signed alike: the same headers, each in its place, but for the date and the signature.

Clients say nearly the same with each request. What that comes to was learnt of one that was verified as every other is; of
those that follow, only what may differ is read: method, path, query, date, signature, and how an SDK numbers its requests.

The law: nothing is believed because it was believed before. The signature is reckoned over all of this request, and whatever isn't
like the first (a header more, another order, key, region or day) is none of the series and goes the long way. So does each
that isn't accepted here: why it is refused is said there alone. Bodies are not for a series: what signs their chunks is not here.
"""

import hmac
import re
from hashlib import sha256
from operator import itemgetter

from sidecar import sigv4
from sidecar.credentials.identities import Known
from sidecar.errors import Refused
from sidecar.model import Head, Headers, Secret
from sidecar.ports import HeaderList
from sidecar.s3 import query
from sidecar.s3.reading import Reading
from sidecar.sigv4 import ALGORITHM, EMPTY_SHA256, UNSIGNED_PAYLOAD, Mac
from sidecar.sigv4_verify import SIGNING_PARAMETERS, SKEW, Presented, parts, unix

VARYING = frozenset({b"authorization", b"x-amz-date", b"amz-sdk-invocation-id", b"amz-sdk-request"})
"""What differs between requests that are alike. None of it goes on to a store, and only the signature is about it."""
BODILESS = frozenset({"GET", "HEAD"})
PATIENCE = 4
"""Requests in a row that are none of the series, after which another one is begun."""

_PAYLOADS = frozenset({EMPTY_SHA256, UNSIGNED_PAYLOAD})
_SIGNATURE = 64
_PLAIN = re.compile(rb"[0-9A-Za-z=;.-]+(?: [0-9A-Za-z=;.-]+)*")
"""Reads as it is signed, and has no room for a token."""


class Series:
    """Made by `begin`."""

    __slots__ = (
        "_alike",
        "_authorization",
        "_before",
        "_behind",
        "_between",
        "_count",
        "_credential",
        "_date",
        "_day",
        "_length",
        "_mac",
        "_names",
        "_numbers",
        "_rest",
        "_scope",
        "headers",
        "known",
        "missed",
        "reading",
        "token",
        "until",
    )

    def __init__(
        self, raw: HeaderList, headers: Headers, presented: Presented, *, known: Known, mac: Mac, until: float
    ) -> None:
        authorization = headers.values["authorization"]
        spelled = [name.lower() for name, _ in raw]
        at = {name: number for number, name in enumerate(spelled) if name in VARYING}
        varying = at.keys()
        self._count = len(raw)
        self._alike = itemgetter(*(number for number, name in enumerate(spelled) if name not in varying))
        self._rest = self._alike(raw)
        self._authorization, self._date = at[b"authorization"], at[b"x-amz-date"]
        self._names = (raw[self._authorization][0], raw[self._date][0])
        self._numbers = [(at[name], raw[at[name]][0]) for name in at if name not in (b"authorization", b"x-amz-date")]
        self._credential, self._length = authorization[:-_SIGNATURE].encode(), len(authorization)
        values = {name: value for name, value in headers.values.items() if name.encode() not in varying}
        values["authorization"] = authorization[:-_SIGNATURE]
        forward = tuple(pair for pair in headers.forward if pair[0].lower() not in varying)
        self.headers = Headers(values, forward)
        """What `headers.read` says of each of them, but for what varies: no signature is there, and no date."""
        names = parts(authorization)["SignedHeaders"]
        pieces: list[str] = [""]
        self._between: list[tuple[int, str]] = []
        """Of what varies and is signed: where it stands, and what comes before it in the canonical form."""
        for name in names.split(";"):
            pieces[-1] += f"{name}:"
            if name.encode() in varying:
                self._between.append((at[name.encode()], pieces[-1]))
                pieces.append("\n")
            else:
                pieces[-1] += f"{sigv4.canonical_value(values[name])}\n"
        self._before = pieces[0]
        self._behind = f"{pieces[-1]}\n{names}\n{presented.payload}"
        if len(self._between) == 1:  # the date alone, with most clients
            self._between.clear()
        self._day, self._scope, self._mac = presented.scope.day, f"\n{presented.scope}\n", mac
        self.known = known
        self.token = Secret(presented.access_key_id)
        self.until = until
        """Unix seconds: the end of the day key's life."""
        self.missed = 0
        """Requests in a row that were none of the series."""
        self.reading: Reading | None = None
        """What one of them came to that read an object."""

    def __repr__(self) -> str:
        return f"<series of {self.known.principal.token_id}>"

    def continued(self, raw: HeaderList) -> bool:
        """Whether the next request's headers are like the first one's, so that they say what `self.headers` says."""
        if len(raw) == self._count and self._alike(raw) == self._rest:
            self.missed = 0
            return True
        self.missed += 1
        return False

    def holds(self, raw: HeaderList, head: Head, now: float) -> bool:
        """Whether what varies is well-formed and the signature is that of the request. `raw`: headers that `continued` found alike.

        Raises `Refused(BAD_TARGET)` as `query.pairs`."""
        spelled, said = raw[self._authorization]
        stamped, stamp = raw[self._date]
        if (spelled, stamped) != self._names or head.method not in BODILESS:
            return False
        if len(said) != self._length or not said.startswith(self._credential):
            return False
        for number, name in self._numbers:
            if raw[number][0] != name or _PLAIN.fullmatch(raw[number][1]) is None:
                return False
        date, target = stamp.decode("latin-1"), head.target
        asked = target.raw_query
        if asked:
            if not SIGNING_PARAMETERS.isdisjoint(query.pairs(asked)):
                return False
            asked = sigv4.canonical_query(asked)
        try:
            if not date.startswith(self._day) or abs(now - unix(date)) > SKEW:
                return False
        except Refused:
            return False
        if self._between:
            lines = "".join([f"{before}{raw[number][1].decode()}" for number, before in self._between])
        else:
            lines = f"{self._before}{date}"
        canonical = f"{head.method}\n{target.raw_path}\n{asked}\n{lines}{self._behind}"
        text = f"{ALGORITHM}\n{date}{self._scope}{sha256(canonical.encode()).hexdigest()}"
        return hmac.compare_digest(self._mac.sign(text).encode(), said[-_SIGNATURE:])


def begin(
    raw: HeaderList, headers: Headers, presented: Presented, *, known: Known | None, mac: Mac, until: float
) -> Series | None:
    """What goes on from a request that has just been verified; `None` where none can. `known`: whose key it is, `mac`: of the key
    that made the signature, which holds `until` then."""
    if known is None or presented.in_url or presented.payload not in _PAYLOADS:
        return None
    if any(name.lower() in VARYING and name.lower().decode() not in headers.values for name, _ in raw):
        return None  # it was said twice
    if not headers.values["authorization"].endswith(f"Signature={presented.signature}"):
        return None
    return Series(raw, headers, presented, known=known, mac=mac, until=until)
