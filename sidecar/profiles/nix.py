"""The profile of Nix's HTTP binary cache (Nix manual, "HTTP Binary Cache Store"; seen with Nix 2.8.0).

Nix remembers for an hour that a path is absent, and takes 401 and 403 for that, too. So:

- An outage, and whatever a store answers that is neither the object nor its absence, is a 503 to a read: Nix tries again and
  remembers nothing.
- The same to a write is a 424: Nix repeats a write after a 5xx with the head alone and hangs.
- `nix-cache-info` is there even where the store has none: Nix would try to write one, whoever asks.
- Where the workspace trusts certain keys, a narinfo that none of them signed is a 404 to readers and a 403 to writers.
"""

import re

from msgspec.structs import replace

from sidecar import narinfo
from sidecar.errors import Refused
from sidecar.model import Head, Oddity
from sidecar.policy.compiled import Route
from sidecar.profiles import build_cache, denial
from sidecar.profiles.profile import Errand, LocalAnswer, Work
from sidecar.reasons import REASONS, Outcome, Reason

_ABOUT_OBJECT = re.compile(rf"[{narinfo.ALPHABET}]{{32}}\.(narinfo|ls)")
_NAR = re.compile(r"[0-9A-Za-z+._=-]{1,200}\.nar(\.[a-z0-9]{1,8})?")
_BESIDE = {
    "nar": _NAR,
    "log": re.compile(r"[0-9A-Za-z+._?=-]{1,255}"),
    "realisations": re.compile(r"sha256:[0-9a-f]{64}![0-9A-Za-z+._?=-]{1,128}\.doi"),
    "debuginfo": re.compile(r"[0-9a-f]{1,64}(\.debug)?"),
}
_CACHE_INFO = LocalAnswer(
    200,
    ((b"content-type", b"text/x-nix-cache-info"), (b"cache-control", b"no-store")),
    b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n",
)
"""Before cache.nixos.org, which says 40."""
_PARAMETERS = frozenset({"hash"})
"""Some caches serve a nar at `nar/HASH.nar?hash=NARHASH`."""
_WHOLE = frozenset({"accept", "user-agent", "content-type"})
"""Of a narinfo that is judged before it is served: no part of it, no coding, no 304."""
_KEPT_READS = frozenset({200, 206, 404, 410, 416})


class Nix:
    name = "nix"
    allowed = Oddity.NONE

    def classify(self, head: Head, route: Route) -> Errand | LocalAnswer:
        if head.method == "OPTIONS":
            return build_cache.options()
        segments = build_cache.below(head, route)
        name = segments[-1]
        if name == "nix-cache-info":
            return build_cache.errand(head, route, missing=_CACHE_INFO)
        if _ABOUT_OBJECT.fullmatch(name) is not None:
            if not name.endswith(".narinfo") or route.trusted_keys is None or head.method == "DELETE":
                return build_cache.errand(head, route)
            if head.method not in ("GET", "HEAD", "PUT"):
                raise build_cache.unknown()
            return build_cache.errand(head, route, headers=_WHOLE, work=Work.CHECK_NARINFO)
        beside = _BESIDE.get(segments[-2]) if len(segments) > 1 else None
        if beside is None or beside.fullmatch(name) is None:
            raise build_cache.unknown()
        address = None
        if route.content_address and head.method == "PUT" and beside is _NAR:
            address = _digest(name)
        return build_cache.errand(head, route, parameters=_PARAMETERS, address=address)

    def deny(self, head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
        told = build_cache.hint(reason, hint, "it is this host's password in the netrc-file of nix.conf")
        answer = denial.plain(head, reason, told, challenge, workspace)
        writes = not build_cache.is_read(head)
        outage = REASONS[reason].outcome is Outcome.ERROR or answer.status in (408, 429)
        if reason is Reason.UNTRUSTED_NARINFO:
            status = answer.status if writes else 404
        elif outage:
            status = 424 if writes else 503
        else:
            return answer
        headers = tuple(pair for pair in answer.headers if pair[0] != b"retry-after")
        return replace(answer, status=status, headers=(*headers, (b"retry-after", b"2")) if status == 503 else headers)

    def answered(self, method: str, status: int) -> int | Reason:
        if method in ("GET", "HEAD"):
            return status if status in _KEPT_READS or 300 <= status < 400 else Reason.UPSTREAM_ERROR
        if status in (409, 412):
            return Reason.EXISTS
        return status if status < 400 or status == 404 else Reason.UPSTREAM_ERROR


def _digest(name: str) -> str:
    """Nix names a nar by the hash of the file, in its own base 32."""
    raw = narinfo.from_base32(name.partition(".")[0])
    if raw is None:
        raise Refused(Reason.BODY_MISMATCH, "the nar's name is no SHA-256 in Nix's base 32")
    return raw.hex()
